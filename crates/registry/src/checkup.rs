//! A look at a data directory from outside, whether or not a server works on it. Nothing is made, changed or repaired.
//!
//! In flows a path, out flow findings for people: what is well, what is not quite, what has to be seen to.

use std::fs::{File, Metadata, TryLockError};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::datadir::{DATABASE, LOCK, SERVER_KEY, SIGNING_KEYS};
use crate::keys;
use crate::serverkey::ServerKey;
use crate::store::SqliteStore;

/// Less free space than this is a matter of hours, in bytes.
const SPACE_LOW: u64 = 1024 * 1024 * 1024;
/// Less than this is none, in bytes: the log of the database alone grows to 1 MiB, and more while others read.
const SPACE_NONE: u64 = 16 * 1024 * 1024;
/// Of a mode: what others than the owner may do.
const OTHERS: u32 = 0o077;
/// What is read of a lock file, in bytes.
const MAX_LOCK: u64 = 4096;

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Sound,
    /// It works, and somebody should look at it.
    Doubtful,
    /// It does not work, or is not safe.
    Bad,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub name: &'static str,
    /// How it is.
    pub verdict: Verdict,
    /// What was found.
    pub text: String,
}

impl Finding {
    fn sound(name: &'static str, text: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Sound, text: text.into() }
    }

    fn doubtful(name: &'static str, text: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Doubtful, text: text.into() }
    }

    fn bad(name: &'static str, text: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Bad, text: text.into() }
    }
}

/// Looks at the data directory `dir`.
pub async fn checkup(dir: &Path) -> Vec<Finding> {
    let path = match std::fs::canonicalize(dir) {
        Ok(path) if path.is_dir() => path,
        Ok(path) => return vec![Finding::bad("directory", format!("{} is no directory", path.display()))],
        Err(error) => return vec![Finding::bad("directory", format!("{}: {error}", dir.display()))],
    };
    let (holder, is_held) = lock(&path);
    vec![
        directory(&path),
        space(&path),
        files(&path),
        holder,
        records(&path, is_held).await,
        signing(&path),
        own(&path),
    ]
}

fn directory(path: &Path) -> Finding {
    const NAME: &str = "directory";
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) => return Finding::bad(NAME, format!("{}: {error}", path.display())),
    };
    let me = rustix::process::geteuid().as_raw();
    if metadata.uid() != me && me != 0 {
        return Finding::bad(
            NAME,
            format!("{} belongs to user {}, and this is user {me}", path.display(), metadata.uid()),
        );
    }
    match mode_of_others(&metadata) {
        Some(mode) => {
            Finding::doubtful(NAME, format!("{} is open to others (mode {mode}); serve closes it", path.display()))
        }
        None => Finding::sound(NAME, path.display().to_string()),
    }
}

fn space(path: &Path) -> Finding {
    const NAME: &str = "disk space";
    let volume = match rustix::fs::statvfs(path) {
        Ok(volume) => volume,
        Err(error) => return Finding::bad(NAME, error.to_string()),
    };
    let free = volume.f_bavail.saturating_mul(volume.f_frsize);
    let text = format!("{} MiB free", free / (1024 * 1024));
    // Some file systems have no fixed number of files, and say 0 of 0.
    if volume.f_files > 0 && volume.f_favail == 0 {
        return Finding::bad(NAME, format!("{text}, but no file can be made any more"));
    }
    match free {
        0..SPACE_NONE => Finding::bad(NAME, text),
        SPACE_NONE..SPACE_LOW => Finding::doubtful(NAME, text),
        _ => Finding::sound(NAME, text),
    }
}

/// Whether others can read or write what is in it.
fn files(path: &Path) -> Finding {
    const NAME: &str = "files";
    let (mut open, mut count) = (Vec::new(), 0);
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) => return Finding::bad(NAME, error.to_string()),
    };
    let owner = std::fs::metadata(path).map(|metadata| metadata.uid()).ok();
    for entry in entries.flatten() {
        let Ok(metadata) = std::fs::symlink_metadata(entry.path()) else { continue };
        let name = entry.file_name().display().to_string();
        count += 1;
        if Some(metadata.uid()) != owner {
            open.push(format!("{name} belongs to user {}", metadata.uid()));
        } else if let Some(mode) = mode_of_others(&metadata) {
            open.push(format!("{name} is open to others (mode {mode})"));
        }
    }
    open.sort();
    if open.is_empty() {
        Finding::sound(NAME, format!("{count}, for their owner alone"))
    } else {
        Finding::bad(NAME, open.join(", "))
    }
}

/// Who works on it. The lock is looked at without keeping anybody from it for longer than that.
fn lock(path: &Path) -> (Finding, bool) {
    const NAME: &str = "server";
    let file = path.join(LOCK);
    let free = || (Finding::sound(NAME, "none works on it"), false);
    let mut lock = match File::open(&file) {
        Ok(lock) => lock,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return free(),
        Err(error) => return (Finding::bad(NAME, format!("{}: {error}", file.display())), false),
    };
    match lock.try_lock_shared() {
        Ok(()) => free(),
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let _ = (&mut lock).take(MAX_LOCK).read_to_string(&mut text);
            let holder: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
            let words = match (holder["pid"].as_u64(), holder["purpose"].as_str()) {
                (Some(pid), Some(purpose)) => format!("process {pid} ({purpose}) works on it"),
                _ => "another process works on it".to_owned(),
            };
            (Finding::sound(NAME, words), true)
        }
        Err(TryLockError::Error(error)) => (Finding::bad(NAME, format!("{}: {error}", file.display())), false),
    }
}

async fn records(path: &Path, is_held: bool) -> Finding {
    const NAME: &str = "records";
    let database = path.join(DATABASE);
    if !database.exists() {
        return Finding::doubtful(NAME, "there are none yet; serve makes them");
    }
    let log = PathBuf::from(format!("{}-wal", database.display()));
    // What a server that was killed left there belongs to the records.
    let has_log = std::fs::metadata(log).is_ok_and(|log| log.len() > 0);
    match SqliteStore::examine(&database, !is_held && !has_log).await {
        Ok((found, known)) if found < known => Finding::doubtful(
            NAME,
            format!("whole; schema {found}, which the next start of this version brings to {known}"),
        ),
        Ok((found, _)) => Finding::sound(NAME, format!("whole; schema {found}")),
        Err(error) if error.is_retryable() => Finding::doubtful(NAME, error.to_string()),
        Err(error) => Finding::bad(NAME, error.to_string()),
    }
}

fn signing(path: &Path) -> Finding {
    const NAME: &str = "signing keys";
    let file = path.join(SIGNING_KEYS);
    if !file.exists() {
        return Finding::doubtful(NAME, "there are none yet; serve makes them");
    }
    match keys::check(&file) {
        Ok(()) => Finding::sound(NAME, "whole"),
        Err(error) => Finding::bad(NAME, error.to_string()),
    }
}

fn own(path: &Path) -> Finding {
    const NAME: &str = "server's own key";
    let file = path.join(SERVER_KEY);
    if !file.exists() {
        return Finding::doubtful(NAME, "there is none yet; serve makes it");
    }
    match ServerKey::open(&file) {
        Ok(_) => Finding::sound(NAME, "whole"),
        Err(error) => Finding::bad(NAME, error.to_string()),
    }
}

fn mode_of_others(metadata: &Metadata) -> Option<String> {
    let mode = metadata.mode() & 0o7777;
    (mode & OTHERS != 0 && !metadata.is_symlink()).then(|| format!("{mode:o}"))
}
