//! Backups: the records of a data directory in a directory of their own, taken while a server works on them, and put into
//! an empty data directory again.
//!
//! In flow two directories, out flows what was saved. The database is copied by SQLite in one read transaction
//! (`VACUUM INTO`), the signing keys and the server's own key after it; a manifest with their hashes is written last, so that a backup without
//! one is none. The lock, who is connected, and tickets that were used are no part of it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::clock::{Clock as _, SystemClock};
use crate::datadir::{DATABASE, DataDir, SERVER_KEY, SIGNING_KEYS};
use crate::error::RegistryError;
use crate::keys;
use crate::serverkey::ServerKey;
use crate::store::{Check, SqliteStore};

/// The layout of a backup that this version writes, and the only one that it reads.
const VERSION: u32 = 1;
const MANIFEST: &str = "backup.json";
/// What a backup consists of, in this order. The last is missing where it was never needed.
const FILES: [&str; 3] = [DATABASE, SIGNING_KEYS, SERVER_KEY];
/// Largest manifest, in bytes; anything larger is some other file.
const MAX_MANIFEST: u64 = 64 * 1024;

/// What a backup says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backup {
    version: u32,
    /// When it was taken, seconds since 1970.
    pub created_at: u64,
    /// The schema of its database.
    pub schema: u32,
    /// What it consists of.
    pub files: Vec<Saved>,
}

/// A file of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// Its name.
    pub name: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// Its SHA-256, in hex.
    pub sha256: String,
}

/// Saves the records of `data_dir` into `target`, a directory that is made. A server may be working on them.
///
/// # Errors
/// There are no records, something is at `target` already, or a file cannot be read or written. Then there is nothing at
/// `target`.
pub async fn backup(data_dir: &Path, target: &Path) -> Result<Backup, RegistryError> {
    if !data_dir.join(DATABASE).is_file() {
        return Err(refused(data_dir, "there are no records in it"));
    }
    let dir = DataDir::prepare(data_dir)?;
    if target.symlink_metadata().is_ok() {
        return Err(refused(target, "it is there already, and no backup is overwritten"));
    }
    let beside = beside(target);
    let saved = save(&dir, &beside).await;
    let moved = saved.and_then(|backup| {
        // Another backup may have been as quick.
        let renamed = rustix::fs::renameat_with(
            rustix::fs::CWD,
            &beside,
            rustix::fs::CWD,
            target,
            rustix::fs::RenameFlags::NOREPLACE,
        );
        renamed.map_err(|error| RegistryError::io(target, error.into()))?;
        Ok(backup)
    });
    match moved {
        Ok(backup) => {
            sync(target.parent())?;
            Ok(backup)
        }
        Err(error) => {
            let _ = std::fs::remove_dir_all(&beside);
            Err(error)
        }
    }
}

async fn save(dir: &DataDir, into: &Path) -> Result<Backup, RegistryError> {
    DirBuilder::new().mode(0o700).create(into).map_err(|error| RegistryError::io(into, error))?;
    let database = into.join(DATABASE);
    drop(create(&database)?);
    let copied = SqliteStore::copy(&dir.database(), &database).await;
    let schema = copied.map_err(|error| RegistryError::store(&dir.database(), error))?;
    File::open(&database).and_then(|file| file.sync_all()).map_err(|error| RegistryError::io(&database, error))?;
    copy(&dir.signing_keys(), &into.join(SIGNING_KEYS))?;
    let mut names = FILES.to_vec();
    if dir.server_key().is_file() {
        copy(&dir.server_key(), &into.join(SERVER_KEY))?;
    } else {
        names.pop();
    }
    let files = names.into_iter().map(|name| saved(into, name)).collect::<Result<_, _>>()?;
    let backup = Backup { version: VERSION, created_at: SystemClock.now(), schema, files };
    let manifest = into.join(MANIFEST);
    let text = serde_json::to_vec_pretty(&backup).map_err(|error| RegistryError::io(&manifest, error.into()))?;
    let written = create(&manifest)?.write_all(&text).and_then(|()| File::open(&manifest)?.sync_all());
    written.map_err(|error| RegistryError::io(&manifest, error))?;
    sync(Some(into))?;
    Ok(backup)
}

/// Looks whether `backup` is whole and of a schema that this version knows.
///
/// # Errors
/// What is wrong with it.
pub async fn check(backup: &Path) -> Result<Backup, RegistryError> {
    let manifest = backup.join(MANIFEST);
    let file = File::open(&manifest).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => refused(backup, "it is no backup, or not whole: backup.json is missing"),
        _ => RegistryError::io(&manifest, error),
    })?;
    let mut text = Vec::new();
    file.take(MAX_MANIFEST).read_to_end(&mut text).map_err(|error| RegistryError::io(&manifest, error))?;
    let told: Backup = serde_json::from_slice(&text).map_err(|_| refused(backup, "its backup.json makes no sense"))?;
    if told.version != VERSION {
        return Err(refused(backup, format!("it has version {}, and this program knows {VERSION}", told.version)));
    }
    let names: Vec<_> = told.files.iter().map(|file| file.name.as_str()).collect();
    if names != FILES && names != FILES[..2] {
        return Err(refused(backup, "its backup.json names other files than a backup has"));
    }
    for file in &told.files {
        if saved(backup, &file.name)? != *file {
            return Err(refused(backup, format!("{} is not as it was saved", file.name)));
        }
    }
    let database = backup.join(DATABASE);
    let schema = SqliteStore::schema(&database, Check::Pages).await;
    schema.map_err(|error| RegistryError::store(&database, error))?;
    keys::check(&backup.join(SIGNING_KEYS))?;
    if names.contains(&SERVER_KEY) {
        ServerKey::open(&backup.join(SERVER_KEY))?;
    }
    Ok(told)
}

/// Puts the records of `backup` into `data_dir`, which has to be empty or missing.
///
/// # Errors
/// The backup is not whole, the directory is not empty, or a file cannot be written.
pub async fn restore(backup: &Path, data_dir: &Path) -> Result<Backup, RegistryError> {
    let told = check(backup).await?;
    let dir = DataDir::prepare(data_dir)?;
    let _hold = dir.hold("exedra restore", SystemClock.now()).await?;
    dir.check_empty()?;
    let put = put(backup, &told, &dir, data_dir).await;
    if put.is_err() {
        let _ = std::fs::remove_file(dir.signing_keys());
        let _ = std::fs::remove_file(dir.server_key());
        let _ = std::fs::remove_file(dir.arriving());
    }
    put.map(|()| told)
}

async fn put(backup: &Path, told: &Backup, dir: &DataDir, data_dir: &Path) -> Result<(), RegistryError> {
    for name in told.files.iter().map(|file| &file.name).filter(|name| **name != DATABASE) {
        copy(&backup.join(name), &data_dir.join(name))?;
    }
    // With the database the directory counts as full, so it comes last and at once.
    let (arriving, database) = (dir.arriving(), dir.database());
    copy(&backup.join(DATABASE), &arriving)?;
    // Beyond any id that was given after the backup, whose holders would hear nothing until it is reached again.
    let first = (SystemClock.now() + 1) * 1_000;
    SqliteStore::leap_events(&arriving, first).await.map_err(|error| RegistryError::store(&arriving, error))?;
    std::fs::rename(&arriving, &database).map_err(|error| RegistryError::io(&database, error))?;
    sync(Some(data_dir))
}

/// Where a backup grows before it is whole.
fn beside(target: &Path) -> PathBuf {
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.partial", std::process::id()));
    target.with_file_name(name)
}

fn create(path: &Path) -> Result<File, RegistryError> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    opened.map_err(|error| RegistryError::io(path, error))
}

fn copy(from: &Path, to: &Path) -> Result<(), RegistryError> {
    let mut source = File::open(from).map_err(|error| RegistryError::io(from, error))?;
    let mut target = create(to)?;
    let copied = io::copy(&mut source, &mut target).and_then(|_| target.sync_all());
    copied.map_err(|error| RegistryError::io(to, error))
}

fn saved(dir: &Path, name: &str) -> Result<Saved, RegistryError> {
    let path = dir.join(name);
    let failed = |error| RegistryError::io(&path, error);
    let mut file = File::open(&path).map_err(failed)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    let mut bytes = 0;
    loop {
        match file.read(&mut buffer).map_err(failed)? {
            0 => break,
            read => {
                hash.update(&buffer[..read]);
                bytes += read as u64;
            }
        }
    }
    let sha256 = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Saved { name: name.to_owned(), bytes, sha256 })
}

fn sync(dir: Option<&Path>) -> Result<(), RegistryError> {
    let dir = dir.filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| RegistryError::io(dir, error))
}

fn refused(path: &Path, reason: impl Into<String>) -> RegistryError {
    RegistryError::Backup { path: path.to_owned(), reason: reason.into() }
}
