//! Directories that stand in for something absent while sandboxes live, so that each can mount there what keeps it as it is.
//!
//! In flow the places of a draft, out flows a guard; when the last guard of a place goes, of this executor or another, so
//! does the directory. It is known by its mode, that nobody gives by chance, and by being empty; whoever relies on it holds
//! a shared lock on it. One that is left behind by a killed executor is taken over by the next sandbox there.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{
    AtFlags, CWD, FlockOperation, Mode, OFlags, ResolveFlags, flock, fstat, mkdirat, openat, openat2, statat, unlinkat,
};
use rustix::io::Errno;

/// What marks one: nobody may write, and the sticky bit, which means nothing then.
const MARK: u32 = 0o1555;
/// How often another executor may remove one in our hands before we give up.
const TRIES: usize = 16;

/// How long to wait for the lock on one, and between two tries.
const PATIENCE: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(5);

/// Holds directories in their places. Dropping it removes those that nobody else holds.
#[derive(Debug, Default)]
pub struct Placeholders(Vec<Held>);

#[derive(Debug)]
struct Held {
    parent: OwnedFd,
    name: std::ffi::OsString,
    directory: OwnedFd,
}

impl Placeholders {
    /// Makes or joins one at each of `places`, real paths.
    ///
    /// # Errors
    /// One cannot be made though what it keeps from being made could be.
    pub fn hold<'a>(places: impl IntoIterator<Item = &'a Path>) -> io::Result<Self> {
        let mut held = Self::default();
        for place in places {
            held.0.extend(hold(place)?);
        }
        Ok(held)
    }
}

impl Drop for Placeholders {
    fn drop(&mut self) {
        for Held { parent, name, directory } in self.0.drain(..) {
            if flock(&directory, FlockOperation::NonBlockingLockExclusive).is_ok() {
                // Fails, and should, if it is in use after all.
                let _ = unlinkat(&parent, name, AtFlags::REMOVEDIR);
            }
        }
    }
}

/// None if nothing can be made there by us, and so by nobody in the sandbox.
fn hold(place: &Path) -> io::Result<Option<Held>> {
    let (Some(parent), Some(name)) = (place.parent(), place.file_name()) else { return Err(Errno::INVAL.into()) };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let parent = openat2(CWD, parent, flags, Mode::empty(), resolve)?;
    for _ in 0..TRIES {
        match mkdirat(&parent, name, Mode::from_raw_mode(MARK)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(Errno::ACCESS | Errno::PERM | Errno::ROFS) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = match openat(&parent, name, flags, Mode::empty()) {
            Ok(directory) => directory,
            Err(Errno::NOENT) => continue,
            Err(errno) => return Err(errno.into()),
        };
        lock(&directory, place)?;
        let ours = fstat(&directory)?;
        match statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(there) if (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino) => {
                let marked = ours.st_mode & 0o7777 == MARK;
                // Somebody made a real one meanwhile: it is there to be mounted over, and not ours to remove.
                return Ok(marked.then(|| Held { parent, name: name.to_owned(), directory }));
            }
            Ok(_) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Err(io::Error::other(format!("{} is made and removed all the time", place.display())))
}

/// Shares the lock on one. Whoever removes it holds it for a moment; others may hold it for ever, and nobody waits for them.
fn lock(directory: &OwnedFd, place: &Path) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match flock(directory, FlockOperation::NonBlockingLockShared) {
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline => std::thread::sleep(LOOK),
            Err(Errno::WOULDBLOCK) => {
                return Err(io::Error::other(format!("somebody else holds a lock on {}", place.display())));
            }
            done => return Ok(done?),
        }
    }
}

/// Whether a directory looks like one of these.
pub fn is_one(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|at| at.is_dir() && at.permissions().mode() & 0o7777 == MARK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_holder_removes_it_and_nobody_else_does() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let place = dir.join(".git");
        let first = Placeholders::hold([place.as_path()]).unwrap();
        assert!(is_one(&place));
        let second = Placeholders::hold([place.as_path()]).unwrap();
        drop(first);
        assert!(is_one(&place), "the second relies on it");
        drop(second);
        assert!(!place.exists());
        std::fs::create_dir(&place).unwrap();
        drop(Placeholders::hold([place.as_path()]).unwrap());
        assert!(place.is_dir(), "a real one is left alone");
    }

    #[test]
    fn a_lock_of_somebody_else_is_not_waited_for_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().canonicalize().unwrap().join(".git");
        std::fs::create_dir(&place).unwrap();
        let locked = std::fs::File::open(&place).unwrap();
        flock(&locked, FlockOperation::LockExclusive).unwrap();
        let refused = Placeholders::hold([place.as_path()]).unwrap_err();
        assert!(refused.to_string().contains("holds a lock on"), "{refused}");
        // Not by closing it: a child that another test starts meanwhile may have it, too.
        flock(&locked, FlockOperation::Unlock).unwrap();
        Placeholders::hold([place.as_path()]).unwrap();
    }

    #[test]
    fn no_link_is_followed_and_what_is_in_use_stays() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        std::fs::create_dir(dir.join("real")).unwrap();
        std::os::unix::fs::symlink(dir.join("real"), dir.join("link")).unwrap();
        assert!(Placeholders::hold([dir.join("link/.git").as_path()]).is_err());
        assert!(!dir.join("real/.git").exists());
        let held = Placeholders::hold([dir.join(".git").as_path()]).unwrap();
        std::fs::remove_dir(dir.join(".git")).unwrap();
        std::fs::create_dir(dir.join(".git")).unwrap();
        std::fs::write(dir.join(".git/HEAD"), "").unwrap();
        drop(held);
        assert!(dir.join(".git/HEAD").exists());
    }
}
