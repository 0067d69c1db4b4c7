//! Directories that fail: damaged, read-only, full. The last two need a mount of their own, in which this test program
//! runs once more.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use exedra_registry::{NewToken, Registry, RegistryConfig, RegistryError, open_tokens, token::Role};

use crate::support::{Site, StandingClock, config, refusal, site};

/// Where the inner tests find their file system.
const DIR: &str = "EXEDRA_TEST_MOUNT";

async fn opening(dir: &Path) -> RegistryError {
    let error = Registry::open(RegistryConfig::new(dir)).await.err().expect("it opened");
    assert!(!error.to_string().is_empty() && error.hint().is_some(), "{error:?}");
    error
}

#[tokio::test]
async fn a_damaged_database_is_told() {
    let (site, dir) = site().await;
    site.stop().await;
    std::fs::write(dir.path().join("registry.db"), "this is no database".repeat(500)).unwrap();
    let error = opening(dir.path()).await;
    assert!(matches!(error, RegistryError::Store { .. }) && !error.is_retryable(), "{error:?}");
    assert!(open_tokens(dir.path()).await.is_err());
}

#[tokio::test]
async fn damaged_keys_are_told() {
    let (site, dir) = site().await;
    site.stop().await;
    std::fs::write(dir.path().join("signing-keys.json"), "{").unwrap();
    let error = opening(dir.path()).await;
    assert!(matches!(error, RegistryError::Keys { .. }) && !error.is_retryable(), "{error:?}");
    std::fs::remove_file(dir.path().join("signing-keys.json")).unwrap();
    Registry::open(RegistryConfig::new(dir.path())).await.unwrap().shutdown().await;
}

#[tokio::test]
async fn a_directory_that_is_a_file_is_told() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = opening(file.path()).await;
    assert!(matches!(error, RegistryError::NotADirectory { .. }), "{error:?}");
}

#[tokio::test]
async fn while_somebody_else_has_locked_the_database_registrations_wait_and_nothing_is_lost() {
    use sqlx::{ConnectOptions as _, Executor as _};
    let (site, dir) = site().await;
    let first = site.register("box", "i1").await;
    let path = dir.path().join("registry.db");
    let mut other = sqlx::sqlite::SqliteConnectOptions::new().filename(path).connect().await.unwrap();
    other.execute("BEGIN IMMEDIATE").await.unwrap();
    assert_eq!(site.register("box", "i1").await.id, first.id, "what needs no write goes on");
    let waiting = site.register("box", "i2");
    let unlocking = async {
        // It is under way by then, or comes later; in either case it is answered with success.
        tokio::task::yield_now().await;
        other.execute("ROLLBACK").await.unwrap();
    };
    let (second, _) = tokio::join!(waiting, unlocking);
    assert_eq!(site.verify(second.url.expose()).unwrap().epoch, 2);
    other.execute("BEGIN IMMEDIATE").await.unwrap();
    let response = site.register_raw("box", "i3").await;
    assert!(response.headers().contains_key("retry-after"));
    refusal(response, 503, "unavailable").await;
    other.execute("ROLLBACK").await.unwrap();
    assert_eq!(site.register("box", "i2").await.id, second.id);
    let third = site.register("box", "i3").await;
    assert_eq!(site.verify(third.url.expose()).unwrap().epoch, 3, "the one that was refused left nothing");
}

#[test]
fn on_a_read_only_file_system() {
    in_a_mount("disk::inside_read_only");
}

#[test]
fn on_a_full_file_system() {
    in_a_mount("disk::inside_full");
}

/// Runs an ignored test of this program with a tmpfs of 1 MiB of its own.
fn in_a_mount(test: &str) {
    let dir = tempfile::tempdir().unwrap();
    let flags = if rustix::process::geteuid().is_root() { "-m" } else { "-rm" };
    let mount = "mount -t tmpfs -o size=1m,mode=700 none \"$EXEDRA_TEST_MOUNT\"";
    let unshare = |script: &str| {
        let mut command = Command::new("unshare");
        command.args([flags, "sh", "-c", script, "sh"]).env(DIR, dir.path());
        command
    };
    match unshare(mount).output() {
        Ok(probe) if probe.status.success() => {}
        Ok(probe) => return println!("skipped: {}", String::from_utf8_lossy(&probe.stderr).trim()),
        Err(error) => return println!("skipped: unshare cannot be run: {error}"),
    }
    let mut command = unshare(&format!("{mount} && exec \"$@\""));
    command.arg(std::env::current_exe().unwrap()).args(["--exact", test, "--ignored", "--nocapture"]);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("1 passed"), "{text}");
}

fn mount_point() -> PathBuf {
    PathBuf::from(std::env::var_os(DIR).expect("this is run by the tests without `inside`"))
}

fn remount(mode: &str) {
    let status = Command::new("mount").args(["-o", &format!("remount,{mode}")]).arg(mount_point()).status().unwrap();
    assert!(status.success());
}

#[tokio::test]
#[ignore = "run inside a mount of its own by on_a_read_only_file_system"]
async fn inside_read_only() {
    let mount = mount_point();
    let data = mount.join("data");
    let site = Site::on(&data).await;
    site.register("box", "i").await;
    site.stop().await;
    remount("ro");
    for dir in [data.clone(), mount.join("new")] {
        let error = opening(&dir).await;
        assert!(matches!(error, RegistryError::ReadOnly { .. }), "{error:?}");
        let error = open_tokens(&dir).await.err().unwrap();
        assert!(matches!(error, RegistryError::ReadOnly { .. }), "{error:?}");
    }
    remount("rw");
    Site::on(&data).await.stop().await;
}

/// Takes all the space that is left.
fn fill() -> PathBuf {
    use std::io::Write as _;
    let path = mount_point().join("filler");
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(&path).unwrap();
    for size in [65_536, 4_096, 1] {
        while file.write_all(&vec![0; size]).is_ok() {}
    }
    path
}

/// Waits until `/readyz` has this answer, without a request that writes.
async fn ready(site: &Site, status: u16) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while site.get("/readyz").await.status() != status {
        assert!(tokio::time::Instant::now() < deadline, "it never came to {status}");
    }
}

#[tokio::test]
#[ignore = "run inside a mount of its own by on_a_full_file_system"]
async fn inside_full() {
    let data = mount_point().join("data");
    let site = Site::on(&data).await;
    let first = site.register("box", "i1").await;
    let filler = fill();
    for _ in 0..3 {
        let response = site.register_raw("box", "i2").await;
        assert!(response.headers().contains_key("retry-after"));
        let told = refusal(response, 503, "unavailable").await;
        assert_eq!(told.message.as_deref(), Some("the server's disk is full"));
        let error = site.registry.tokens().create(NewToken::of(Role::Client)).await.unwrap_err();
        assert!(matches!(error, RegistryError::Full { .. }), "{error:?}");
        assert!(site.registry.rotate_keys().await.is_err());
    }
    assert_eq!(site.register("box", "i1").await.id, first.id, "what needs no write goes on");
    refusal(site.connect_raw("box", 0).await, 409, "environment_offline").await;
    refusal(site.connect_raw("bix", 0).await, 404, "executor_unknown").await;
    assert_eq!(site.get("/healthz").await.status(), 200);
    std::fs::remove_file(&filler).unwrap();
    let second = site.register("box", "i2").await;
    assert_eq!(site.verify(second.url.expose()).unwrap().epoch, 2, "and the rest does, once there is space");
    site.registry.rotate_keys().await.unwrap();

    let admin = site.admin.clone();
    site.stop().await;
    let mut config = config(&data, &StandingClock::new());
    (config.housekeeping, config.token_watch) = (Duration::from_millis(10), Duration::from_millis(10));
    let site = Site::start(config).await.unwrap();
    for _ in 0..3 {
        fill();
        ready(&site, 503).await;
        // What is written beside the requests finds room that the database has, and is no reason to think that there is more.
        for _ in 0..50 {
            site.registry.look().store_answers().await;
            let told = refusal(site.get("/readyz").await, 503, "unavailable").await;
            assert_eq!(told.message.as_deref(), Some("the server's disk is full"));
        }
        std::fs::remove_file(&filler).unwrap();
        ready(&site, 200).await;
    }
    site.stop().await;
    fill();
    for dir in [mount_point().join("new"), data.clone()] {
        let error = opening(&dir).await;
        assert!(matches!(error, RegistryError::Full { .. }) && error.is_retryable(), "{error:?}");
    }
    std::fs::remove_file(&filler).unwrap();
    let mut site = Site::on(&data).await;
    site.admin = admin;
    assert_eq!(site.register("box", "i2").await.id, second.id, "nothing that was answered is lost");
    for instance in 0..200 {
        site.register("box", &format!("many-{instance}")).await;
    }
}
