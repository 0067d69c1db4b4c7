//! The data directory: made for its owner alone, held by one server at a time.
//!
//! A path flows in, the paths of the files in it and a [`Hold`] flow out. Who works on the records beside a running
//! server (`token create`) needs no hold. It must not know what is in the files.

use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::RegistryError;

/// The database, in the directory.
pub const DATABASE: &str = "registry.db";
/// The signing keys, in the directory.
pub const SIGNING_KEYS: &str = "signing-keys.json";
/// The name of the server's own key.
pub const SERVER_KEY: &str = "server-key";
/// The file that a server holds.
pub const LOCK: &str = "lock";
/// The files that say who works on the directory; a directory with no others is empty.
const LOCKS: [&str; 2] = [LOCK, "setup.lock"];
/// Time between two looks at a lock that somebody holds.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// How often is looked for the end of somebody else's set-up: 40 s, more than that one waits for a database that is busy.
const SETUP_LOOKS: usize = 4_000;
/// How often is looked for the name of a holder that has only just come: 100 ms.
const HOLDER_LOOKS: usize = 10;

/// A data directory that exists and is ours.
#[derive(Clone, Debug)]
pub struct DataDir {
    path: PathBuf,
}

/// Whether there is a database in the directory `path`, so that some server has worked on it, or somebody for one.
pub fn has_records(path: &Path) -> bool {
    path.join(DATABASE).exists()
}

/// The directory is held, until this and all its copies are dropped.
#[derive(Debug)]
pub struct Hold {
    lock: File,
}

impl Hold {
    /// A copy, for the process that takes our place.
    ///
    /// # Errors
    /// There are too many files open.
    pub fn copy(&self) -> std::io::Result<OwnedFd> {
        Ok(self.lock.try_clone()?.into())
    }
}

/// What the lock file says.
#[derive(Serialize, Deserialize)]
struct Holder {
    pid: u32,
    purpose: String,
    started_at: u64,
}

impl DataDir {
    /// Makes the directory, mode 0700, or takes over the one that is there: others lose their rights on it.
    ///
    /// # Errors
    /// It is no directory, belongs to somebody else, or cannot be made.
    pub fn prepare(path: &Path) -> Result<Self, RegistryError> {
        let io = |error| RegistryError::io(path, error);
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            std::fs::create_dir_all(parent).map_err(io)?;
        }
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists && !path.is_dir() => return Err(io(error)),
            _ => {}
        }
        let path = path.canonicalize().map_err(io)?;
        let io = |error| RegistryError::io(&path, error);
        let found = std::fs::metadata(&path).map_err(io)?;
        if !found.is_dir() {
            return Err(RegistryError::NotADirectory { path });
        }
        if found.uid() != rustix::process::geteuid().as_raw() {
            return Err(RegistryError::ForeignOwner { owner: found.uid(), path });
        }
        if found.mode() & 0o077 != 0 {
            std::fs::set_permissions(&path, Permissions::from_mode(0o700)).map_err(io)?;
            tracing::warn!(path = %path.display(), "the data directory was open to others; it is not any more");
        }
        Ok(Self { path })
    }

    /// The database.
    pub fn database(&self) -> PathBuf {
        self.path.join(DATABASE)
    }

    /// The signing keys.
    pub fn signing_keys(&self) -> PathBuf {
        self.path.join(SIGNING_KEYS)
    }

    /// Where a database is that is being put in place.
    pub fn arriving(&self) -> PathBuf {
        self.path.join("registry.db.new")
    }

    /// Whether nothing is in it but what this program locks it with.
    ///
    /// # Errors
    /// [`RegistryError::Backup`] if there is.
    pub fn check_empty(&self) -> Result<(), RegistryError> {
        let io = |error| RegistryError::io(&self.path, error);
        for entry in std::fs::read_dir(&self.path).map_err(io)? {
            let name = entry.map_err(io)?.file_name();
            if LOCKS.iter().all(|lock| name != *lock) {
                let reason = format!("it is not empty: there is {}", name.display());
                return Err(RegistryError::Backup { path: self.path.clone(), reason });
            }
        }
        Ok(())
    }

    /// The server's own key.
    pub fn server_key(&self) -> PathBuf {
        self.path.join(SERVER_KEY)
    }

    /// Holds the directory for a server, and leaves word in it who does.
    ///
    /// # Errors
    /// [`RegistryError::Locked`] says who holds it.
    pub async fn hold(&self, purpose: &str, now: u64) -> Result<Hold, RegistryError> {
        let path = self.lock_file();
        let mut lock = open(&path)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = holder(&mut lock, now).await;
                return Err(RegistryError::Locked { path: self.path.clone(), holder });
            }
            Err(TryLockError::Error(error)) => return Err(RegistryError::io(&path, error)),
        }
        self.held(lock, purpose, now)
    }

    /// Goes on with the hold of another process, which gave us its copy. The directory is free at no moment.
    ///
    /// # Errors
    /// It is the hold of another directory, or none.
    pub fn take_over(&self, hold: OwnedFd, purpose: &str, now: u64) -> Result<Hold, RegistryError> {
        let path = self.lock_file();
        let io = |error| RegistryError::io(&path, error);
        let lock = File::from(hold);
        let (given, here) = (lock.metadata().map_err(io)?, std::fs::metadata(&path).map_err(io)?);
        if (given.dev(), given.ino()) != (here.dev(), here.ino()) {
            return Err(io(std::io::Error::other("what was handed over is the hold of another directory")));
        }
        match lock.try_lock() {
            Ok(()) => self.held(lock, purpose, now),
            Err(TryLockError::WouldBlock) => Err(io(std::io::Error::other("what was handed over is no hold"))),
            Err(TryLockError::Error(error)) => Err(io(error)),
        }
    }

    /// Leaves word who holds the directory.
    fn held(&self, mut lock: File, purpose: &str, now: u64) -> Result<Hold, RegistryError> {
        let path = self.lock_file();
        let io = |error| RegistryError::io(&path, error);
        let holder = Holder { pid: std::process::id(), purpose: purpose.to_owned(), started_at: now };
        let text = serde_json::to_string(&holder).map_err(|error| io(error.into()))?;
        lock.set_len(0).map_err(io)?;
        // Its place in the file is shared with whoever had it before.
        lock.rewind().map_err(io)?;
        lock.write_all(text.as_bytes()).map_err(io)?;
        Ok(Hold { lock })
    }

    fn lock_file(&self) -> PathBuf {
        self.path.join(LOCK)
    }

    /// Holds the directory for as long as the database is being opened; waits for others who do.
    ///
    /// # Errors
    /// It takes longer than 40 s.
    pub async fn set_up(&self) -> Result<Hold, RegistryError> {
        let path = self.path.join("setup.lock");
        let lock = open(&path)?;
        for _ in 0..SETUP_LOOKS {
            match lock.try_lock() {
                Ok(()) => return Ok(Hold { lock }),
                Err(TryLockError::WouldBlock) => tokio::time::sleep(LOOK_AGAIN).await,
                Err(TryLockError::Error(error)) => return Err(RegistryError::io(&path, error)),
            }
        }
        let holder = "a process that is setting it up".to_owned();
        Err(RegistryError::Locked { path: self.path.clone(), holder })
    }
}

fn open(path: &Path) -> Result<File, RegistryError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options.open(path).map_err(|error| RegistryError::io(path, error))
}

/// Who holds the lock, in words.
async fn holder(lock: &mut File, now: u64) -> String {
    for _ in 0..HOLDER_LOOKS {
        let mut text = String::new();
        let read = lock.rewind().and_then(|()| lock.take(4096).read_to_string(&mut text));
        if let (Ok(_), Ok(holder)) = (read, serde_json::from_str::<Holder>(&text)) {
            let age = age(now.saturating_sub(holder.started_at));
            return format!("process {} ({}), started {age} ago", holder.pid, holder.purpose);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    "another process".to_owned()
}

fn age(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn the_directory_is_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/data");
        assert_eq!(DataDir::prepare(&path).unwrap().database(), path.canonicalize().unwrap().join("registry.db"));
        assert_eq!(mode(&path), 0o700);
        std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        DataDir::prepare(&path).unwrap();
        assert_eq!(mode(&path), 0o700, "tightened");
    }

    #[test]
    fn what_is_no_directory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        for path in [file.clone(), file.join("below")] {
            let error = DataDir::prepare(&path).unwrap_err();
            assert!(matches!(error, RegistryError::NotADirectory { .. } | RegistryError::Io { .. }), "{error:?}");
        }
    }

    #[test]
    fn somebody_elses_directory_is_refused() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: only root can give a directory away");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::chown(dir.path(), Some(12_345), None).unwrap();
        let error = DataDir::prepare(dir.path()).unwrap_err();
        assert!(matches!(error, RegistryError::ForeignOwner { owner: 12_345, .. }), "{error:?}");
    }

    #[tokio::test]
    async fn a_second_server_is_told_who_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::prepare(dir.path()).unwrap();
        let hold = data.hold("exedra up", 1_000).await.unwrap();
        let error = data.hold("exedra serve", 1_000 + 300).await.unwrap_err();
        assert!(error.is_retryable() && error.hint().is_some());
        let expected = format!("is in use by process {} (exedra up), started 5 min ago", std::process::id());
        assert!(error.to_string().ends_with(&expected), "{error}");
        drop(hold);
        data.hold("exedra serve", 1_000).await.unwrap();
    }

    #[tokio::test]
    async fn a_hold_that_is_handed_over_is_held_throughout() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let data = DataDir::prepare(dir.path()).unwrap();
        let before = data.hold("exedra serve, for a long time", 0).await.unwrap();
        let hold = data.take_over(before.copy().unwrap(), "exedra up", 100).unwrap();
        drop(before);
        let error = data.hold("b", 100).await.unwrap_err();
        assert!(error.to_string().ends_with("(exedra up), started 0 s ago"), "{error}");
        let elsewhere = DataDir::prepare(other.path()).unwrap();
        let theirs = elsewhere.hold("c", 0).await.unwrap();
        data.take_over(theirs.copy().unwrap(), "d", 0).unwrap_err();
        data.take_over(open(&data.lock_file()).unwrap().into(), "e", 0).unwrap_err();
        drop(hold);
        data.hold("f", 0).await.unwrap();
    }

    #[tokio::test]
    async fn a_lock_file_with_nonsense_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::prepare(dir.path()).unwrap();
        std::fs::write(dir.path().join("lock"), [0xff; 100]).unwrap();
        let _hold = data.hold("a", 0).await.unwrap();
        std::fs::write(dir.path().join("lock"), "nonsense").unwrap();
        let error = data.hold("b", 0).await.unwrap_err();
        assert!(error.to_string().ends_with("in use by another process"), "{error}");
    }

    #[tokio::test]
    async fn set_up_waits_for_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::prepare(dir.path()).unwrap();
        let first = data.set_up().await.unwrap();
        let mut second = Box::pin(data.set_up());
        assert!(futures_util::poll!(&mut second).is_pending());
        drop(first);
        second.await.unwrap();
    }

    #[test]
    fn ages_are_for_people() {
        assert_eq!(
            [0, 119, 120, 7_199, 7_200, 172_800].map(age),
            ["0 s", "119 s", "2 min", "119 min", "2 h", "2 days"]
        );
    }
}
