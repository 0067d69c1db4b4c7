//! Root at work on the data directory of another user: as that user, so that files keep their owner, and so that what that
//! user put into the directory leads root nowhere.
//!
//! In flows a directory and what is to be done, out flows what that came to. A unit with `DynamicUser=` has such a
//! directory, and its user cannot be entered in any other way.

use std::fs::DirBuilder;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, chown};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, RenameFlags, Uid};
use rustix::path::Arg;
use rustix::thread::CapabilitySet;

use crate::exit::Failure;

/// Whose a directory is.
#[derive(Clone, Copy)]
struct Owner {
    user: Uid,
    group: Gid,
}

/// Does `work`: as the owner of `dir`, if this is root and `dir` is another's.
///
/// # Errors
/// What `work` fails with, or the system does not let us become the owner.
pub fn acting<T>(dir: &Path, work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    let Some(owner) = of(dir) else { return work() };
    as_user(owner, work)
}

/// The same, for `work` that makes a directory at `target`, which is ours in the end wherever it is.
///
/// # Errors
/// As [`acting`]; then nothing is at `target`.
pub fn making<T>(dir: &Path, target: &Path, work: impl FnOnce(&Path) -> Result<T, Failure>) -> Result<T, Failure> {
    let Some(owner) = of(dir) else { return work(target) };
    let name = target.file_name().context("this is no name for a directory")?;
    if target.symlink_metadata().is_ok() {
        return Err(anyhow::anyhow!("{} is there already, and nothing is overwritten", target.display()).into());
    }
    let stage = Stage::new(target, owner)?;
    let made = as_user(owner, || work(&stage.path.join(name)))?;
    stage.give(Path::new(name), target).with_context(|| format!("cannot make {}", target.display()))?;
    Ok(made)
}

fn of(dir: &Path) -> Option<Owner> {
    let found = dir.metadata().ok()?;
    let is_anothers = rustix::process::geteuid().is_root() && found.uid() != 0;
    is_anothers.then(|| Owner { user: Uid::from_raw(found.uid()), group: Gid::from_raw(found.gid()) })
}

/// Whoever is called here has no threads yet but this one; those that `work` makes are the user's, too.
fn as_user<T>(owner: Owner, work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    let cannot = || format!("cannot become user {}, whose data directory it is", owner.user.as_raw());
    let groups = rustix::process::getgroups().with_context(cannot)?;
    let group = rustix::process::getegid();
    become_user(owner).with_context(cannot)?;
    let done = work();
    let back = rustix::thread::set_thread_res_uid(None, Uid::ROOT, None)
        .and_then(|()| rustix::thread::set_thread_res_gid(None, group, None))
        .and_then(|()| rustix::thread::set_thread_groups(&groups));
    back.context("cannot become root again")?;
    done
}

/// Keeps one right of root: to read, and to pass through directories, as `/var/lib/private` is one.
fn become_user(owner: Owner) -> io::Result<()> {
    rustix::thread::set_thread_groups(&[])?;
    rustix::thread::set_thread_res_gid(None, owner.group, None)?;
    rustix::thread::set_thread_res_uid(None, owner.user, None)?;
    let mut sets = rustix::thread::capabilities(None)?;
    sets.effective = sets.permitted & CapabilitySet::DAC_READ_SEARCH;
    Ok(rustix::thread::set_capabilities(None, sets)?)
}

/// A directory of the user's, beside the place where what grows in it is to be.
struct Stage {
    path: PathBuf,
}

impl Stage {
    fn new(target: &Path, owner: Owner) -> anyhow::Result<Self> {
        let mut name = target.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.partial", std::process::id()));
        let path = target.with_file_name(name);
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.with_context(|| format!("cannot make the directory {}", path.display()))?;
        let stage = Self { path };
        chown(&stage.path, Some(owner.user.as_raw()), Some(owner.group.as_raw()))?;
        Ok(stage)
    }

    /// Gives the directory `name` and the files in it to us, and moves it to `target`.
    fn give(&self, name: &Path, target: &Path) -> io::Result<()> {
        let group = rustix::process::getegid();
        // From here on the user gets no further than this.
        chown(&self.path, Some(0), Some(group.as_raw()))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let stage = rustix::fs::open(&self.path, flags, Mode::empty())?;
        let made = rustix::fs::openat(&stage, name, flags, Mode::empty())?;
        take(&stage, name, group)?;
        for entry in rustix::fs::Dir::read_from(&made)? {
            let entry = entry?;
            if entry.file_name() != c"." && entry.file_name() != c".." {
                take(&made, entry.file_name(), group)?;
            }
        }
        rustix::fs::renameat_with(&stage, name, CWD, target, RenameFlags::NOREPLACE)?;
        let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::File::open(parent)?.sync_all()
    }
}

/// Makes a file ours, and no other one that a link leads to.
fn take(dir: &OwnedFd, name: impl Arg, group: Gid) -> rustix::io::Result<()> {
    rustix::fs::chownat(dir, name, Some(Uid::ROOT), Some(group), AtFlags::SYMLINK_NOFOLLOW)
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}
