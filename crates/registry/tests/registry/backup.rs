//! Backups: taken while others write, whole or not at all, and put into an empty directory alone.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use exedra_registry::backup::{backup, check, restore};
use exedra_registry::token::Role;
use exedra_registry::{NewToken, Registry, RegistryConfig, RegistryError, open_tokens};
use tempfile::TempDir;
use tokio::task::JoinSet;

/// What is done to a backup.
type Damage = fn(&Path);

/// A data directory with some tokens.
async fn records() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::open(RegistryConfig::new(dir.path().join("data"))).await.unwrap();
    for _ in 0..20 {
        registry.tokens().create(NewToken::of(Role::Client)).await.unwrap();
    }
    registry.shutdown().await;
    dir
}

async fn ids(data: &Path) -> Vec<String> {
    let tokens = open_tokens(data).await.unwrap();
    let ids = tokens.list().await.unwrap().iter().map(|token| token.id.as_str().to_owned()).collect();
    tokens.close().await;
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_before_a_backup_is_in_it_and_nothing_is_halved() {
    let dir = records().await;
    let data = dir.path().join("data");
    let registry = Registry::open(RegistryConfig::new(&data)).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for _ in 0..3 {
        let (data, stop) = (data.clone(), Arc::clone(&stop));
        writers.spawn(async move {
            let tokens = open_tokens(&data).await.unwrap();
            let mut made = 0;
            while !stop.load(Ordering::SeqCst) {
                tokens.create(NewToken::of(Role::Executor)).await.unwrap();
                made += 1;
            }
            tokens.close().await;
            made
        });
    }
    let mut sizes = Vec::new();
    for round in 0..5 {
        let before = ids(&data).await;
        let target = dir.path().join(format!("backup-{round}"));
        let told = backup(&data, &target).await.unwrap();
        assert_eq!(told, check(&target).await.unwrap());
        let restored = dir.path().join(format!("restored-{round}"));
        restore(&target, &restored).await.unwrap();
        let after = ids(&restored).await;
        assert!(before.iter().all(|id| after.contains(id)), "round {round}");
        for key in ["signing-keys.json", "server-key"] {
            let saved = std::fs::read(data.join(key)).unwrap();
            assert_eq!(std::fs::read(restored.join(key)).unwrap(), saved, "{key}");
        }
        sizes.push(after.len());
    }
    stop.store(true, Ordering::SeqCst);
    let made: usize = writers.join_all().await.into_iter().sum();
    assert!(made > 0 && sizes.is_sorted() && sizes.last() > sizes.first(), "{made} writes, {sizes:?}");
    registry.shutdown().await;
    let restored = Registry::open(RegistryConfig::new(dir.path().join("restored-0"))).await.unwrap();
    restored.shutdown().await;
}

#[tokio::test]
async fn only_its_owner_reads_a_backup_and_what_is_there_is_left_alone() {
    let dir = records().await;
    let (data, target) = (dir.path().join("data"), dir.path().join("saved"));
    backup(&data, &target).await.unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&target), 0o700);
    for entry in std::fs::read_dir(&target).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
    let again = backup(&data, &target).await.unwrap_err();
    assert!(matches!(again, RegistryError::Backup { .. }) && again.hint().is_some(), "{again:?}");
    check(&target).await.unwrap();
    let nothing = backup(&dir.path().join("none"), &dir.path().join("other")).await.unwrap_err();
    assert!(matches!(nothing, RegistryError::Backup { .. }), "{nothing:?}");
    assert!(!dir.path().join("none").exists(), "nothing is made");
    let nowhere = backup(&data, &dir.path().join("no/where")).await.unwrap_err();
    assert!(matches!(nowhere, RegistryError::Io { .. }), "{nowhere:?}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "nothing is left behind");
}

#[tokio::test]
async fn only_an_empty_directory_is_restored_into() {
    let dir = records().await;
    let (data, target) = (dir.path().join("data"), dir.path().join("saved"));
    backup(&data, &target).await.unwrap();
    let full = restore(&target, &data).await.unwrap_err();
    assert!(matches!(full, RegistryError::Backup { .. }), "{full:?}");
    let held = Registry::open(RegistryConfig::new(&data)).await.unwrap();
    let full = restore(&target, &data).await.unwrap_err();
    assert!(matches!(full, RegistryError::Locked { .. }), "{full:?}");
    held.shutdown().await;
    let empty = dir.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    restore(&target, &empty).await.unwrap();
    assert_eq!(ids(&empty).await, ids(&data).await);
}

#[tokio::test]
async fn a_backup_that_is_not_whole_is_refused_and_puts_nothing_in_place() {
    let dir = records().await;
    let data = dir.path().join("data");
    let damages: [(&str, Damage); 6] = [
        ("not as it was saved", |saved| {
            let file = saved.join("registry.db");
            let mut bytes = std::fs::read(&file).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(file, bytes).unwrap();
        }),
        ("not as it was saved", |saved| std::fs::write(saved.join("signing-keys.json"), "{}").unwrap()),
        ("not whole", |saved| std::fs::remove_file(saved.join("backup.json")).unwrap()),
        ("makes no sense", |saved| std::fs::write(saved.join("backup.json"), "{}").unwrap()),
        ("version", |saved| edit(saved, "\"version\": 1", "\"version\": 2")),
        ("other files", |saved| edit(saved, "registry.db", "../registry.db")),
    ];
    for (number, (word, damage)) in damages.into_iter().enumerate() {
        let (saved, into) = (dir.path().join(format!("saved-{number}")), dir.path().join(format!("into-{number}")));
        backup(&data, &saved).await.unwrap();
        damage(&saved);
        let error = restore(&saved, &into).await.unwrap_err();
        assert!(error.to_string().contains(word) && error.hint().is_some(), "{error}");
        assert!(!into.exists());
    }
}

fn edit(saved: &Path, from: &str, to: &str) {
    let manifest = saved.join("backup.json");
    let text = std::fs::read_to_string(&manifest).unwrap();
    assert!(text.contains(from), "{text}");
    std::fs::write(manifest, text.replace(from, to)).unwrap();
}
