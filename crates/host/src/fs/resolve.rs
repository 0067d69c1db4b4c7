//! From a path to the thing itself: nothing is looked at by path and then used by path.
//!
//! In flow the paths of a request, out flow [`Held`] things. Where there are roots, or links are not to be followed, a
//! thing is an `O_PATH` descriptor whose real place the kernel told and the rules allow, and its path is the one under
//! `/proc/self/fd`: whatever becomes of the links and names on the way to it, it stays the thing that was checked. Where
//! there is neither, it is the path as it came. A hard link has its own real place: it cannot be told apart from the name
//! that it was made from, so that files with several names are not written beneath roots, but are read.

use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FsWord, Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags};
use rustix::io::Errno;

use super::own::PROCESSES;
use super::roots::{Access, Roots};
use crate::error::{FsError, FsErrorKind};

/// Stock's words for a link where none may be; they are not the system's.
const LINK_LOOP: &str = "Symbolic link loop (os error 40)";
/// File systems of control groups, versions 1 and 2 (linux/magic.h).
const CGROUP_MAGIC: FsWord = 0x0027_e0eb;
const CGROUP2_MAGIC: FsWord = 0x6367_7270;
/// Links at the end of a path that are followed, as the kernel does.
const MAX_LINKS: usize = 40;
/// What the kernel puts behind the place of a thing that has no name any more.
const DELETED: &[u8] = b" (deleted)";

/// How the paths of one request become things.
#[derive(Clone, Copy, Debug)]
pub struct Way<'a> {
    roots: &'a Roots,
    follow: bool,
}

/// A thing, or a name in a directory, that was checked.
#[derive(Debug)]
pub struct Held {
    path: PathBuf,
    place: PathBuf,
    #[expect(dead_code, reason = "the path is valid as long as it is open")]
    descriptor: Option<OwnedFd>,
}

impl Held {
    /// For use in system calls. The last component of an [`entry`](Way::entry) must not be followed.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where it is: the real place if it was asked for, else as the client put it.
    pub fn place(&self) -> &Path {
        &self.place
    }
}

impl<'a> Way<'a> {
    /// Within `roots`, links followed.
    pub fn new(roots: &'a Roots) -> Self {
        Self { roots, follow: true }
    }

    /// The same, and whether links are followed.
    pub fn following(roots: &'a Roots, follow: Option<bool>) -> Self {
        Self { roots, follow: follow.unwrap_or(true) }
    }

    /// Whether paths are used as they came.
    pub fn is_plain(&self) -> bool {
        self.follow && self.roots.is_everything()
    }

    /// Whether there are roots.
    pub fn is_limited(&self) -> bool {
        !self.roots.is_everything()
    }

    /// Where it may go.
    pub fn roots(&self) -> &'a Roots {
        self.roots
    }

    /// Whether links are followed.
    pub fn follows(&self) -> bool {
        self.follow
    }

    /// What is at `path`, links followed.
    ///
    /// # Errors
    /// The system's, or that it is out of bounds.
    pub fn target(&self, path: &Path, needed: Access) -> Result<Held, FsError> {
        if self.is_plain() {
            return Ok(plain(path));
        }
        let descriptor = self.open(path).map_err(|errno| self.failure(path, needed, errno))?;
        let place = real_place(&descriptor)?;
        self.roots.check(path, &place, needed)?;
        self.check_system(path, &descriptor, &place, needed)?;
        Ok(Held { path: name_of(&descriptor), place, descriptor: Some(descriptor) })
    }

    /// The name that `path` ends with, in its directory, whether or not there is something; a link there is not followed.
    ///
    /// # Errors
    /// The system's, or that it is out of bounds.
    pub fn entry(&self, path: &Path, needed: Access) -> Result<Held, FsError> {
        if self.is_plain() {
            return Ok(plain(path));
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return self.target(path, needed) };
        let directory = self.open(parent).map_err(|errno| self.failure(path, needed, errno))?;
        let place = real_place(&directory)?.join(name);
        self.roots.check(path, &place, needed)?;
        self.check_system(path, &directory, &place, needed)?;
        Ok(Held { path: name_of(&directory).join(name), place, descriptor: Some(directory) })
    }

    /// Refuses to take along what the rules keep below `held`, or to take a root from where it is.
    ///
    /// # Errors
    /// The refusal.
    pub fn check_removal(&self, asked: &Path, held: &Held) -> Result<(), FsError> {
        match self.is_limited() {
            true => self.roots.check_removal(asked, held.place()),
            false => Ok(()),
        }
    }

    /// Refuses an open file that is the executor's own, where paths are used as they came.
    ///
    /// # Errors
    /// The refusal.
    pub fn check_open(&self, asked: &Path, file: &impl AsFd, needed: Access) -> Result<(), FsError> {
        if !self.is_plain() || !self.roots.keeps_own() {
            return Ok(());
        }
        match std::fs::read_link(name_of(file)) {
            Ok(place) if place.is_absolute() => self.roots.check(asked, &place, needed),
            _ => Ok(()),
        }
    }

    /// Refuses something new at or below what is the executor's own, where paths are used as they came.
    ///
    /// # Errors
    /// The refusal.
    pub fn check_new(&self, asked: &Path) -> Result<(), FsError> {
        if !self.is_plain() || !self.roots.keeps_own() {
            return Ok(());
        }
        let mut path = asked.to_owned();
        for _ in 0..MAX_LINKS {
            let Ok(to) = std::fs::read_link(&path) else { break };
            path = path.parent().map_or_else(|| to.clone(), |parent| parent.join(&to));
        }
        self.would_be(&path).map_or(Ok(()), |place| self.roots.check(asked, &place, Access::Write))
    }

    /// Refuses a name that is the executor's own to be taken away, where paths are used as they came.
    ///
    /// # Errors
    /// The refusal.
    pub fn check_own_name(&self, asked: &Path) -> Result<(), FsError> {
        if !self.is_plain() || !self.roots.keeps_own() {
            return Ok(());
        }
        let (Some(parent), Some(name)) = (asked.parent(), asked.file_name()) else { return Ok(()) };
        let Ok(parent) = std::fs::canonicalize(parent) else { return Ok(()) };
        self.roots.check(asked, &parent.join(name), Access::Write)
    }

    /// Refuses views of processes that are mounted elsewhere than where they belong, and changes to control groups: limits
    /// are held by those.
    fn check_system(&self, asked: &Path, held: &OwnedFd, place: &Path, needed: Access) -> Result<(), FsError> {
        if !self.roots.keeps_processes() || place.starts_with(PROCESSES) {
            return Ok(());
        }
        match rustix::fs::fstatfs(held).map(|stat| stat.f_type) {
            Ok(PROC_SUPER_MAGIC) => Err(self.roots.kept(asked, "used")),
            Ok(CGROUP_MAGIC | CGROUP2_MAGIC) if needed == Access::Write => {
                Err(self.roots.refuse(asked, "may not be written: it is, or holds, a control group"))
            }
            _ => Ok(()),
        }
    }

    /// Refuses what may not be at `path`, whether or not it is there: who may not go there learns nothing of that.
    ///
    /// # Errors
    /// The refusal.
    pub fn check_absent(&self, path: &Path) -> Result<(), FsError> {
        if !self.is_limited() {
            return Ok(());
        }
        let place = match self.open(path) {
            Ok(descriptor) => real_place(&descriptor)?,
            Err(_) => self.would_be(path).unwrap_or_else(|| path.to_owned()),
        };
        self.roots.check(path, &place, Access::Write)
    }

    /// The refusal of `asked` for what it is and not for where.
    pub fn refuse(&self, asked: &Path, why: &str) -> FsError {
        self.roots.refuse(asked, why)
    }

    /// Refuses what needs more than is allowed at the real place `real`.
    ///
    /// # Errors
    /// The refusal.
    pub fn check(&self, asked: &Path, real: &Path, needed: Access) -> Result<(), FsError> {
        self.roots.check(asked, real, needed)
    }

    fn open(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let links = if self.follow { ResolveFlags::empty() } else { ResolveFlags::NO_SYMLINKS };
        // A magic link leads wherever its process is; beneath roots none is needed.
        let magic = if self.is_limited() { ResolveFlags::NO_MAGICLINKS } else { ResolveFlags::empty() };
        rustix::fs::openat2(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), links | magic)
    }

    /// What does not open tells whether it exists; of places out of bounds not even that may be told.
    fn failure(&self, path: &Path, needed: Access, errno: Errno) -> FsError {
        if self.is_limited() {
            let place = self.would_be(path).unwrap_or_else(|| path.to_owned());
            // What may be read may be known not to be there, whatever was to be done with it.
            let known = if errno == Errno::NOENT { needed.min(Access::Read) } else { needed };
            if self.roots.access(&place) < known
                && let Err(refusal) = self.roots.check(path, &place, needed)
            {
                return refusal;
            }
        }
        if self.follow || errno != Errno::LOOP {
            return errno.into();
        }
        let parent = path.parent().map(|parent| self.open(parent));
        if matches!(parent, Some(Err(Errno::LOOP))) {
            return Errno::NOTDIR.into();
        }
        FsError { kind: FsErrorKind::Other, text: LINK_LOOP.to_owned() }
    }

    /// Where `path` would be: what of it exists resolved, the rest as it is.
    fn would_be(&self, path: &Path) -> Option<PathBuf> {
        path.ancestors().skip(1).find_map(|ancestor| {
            let real = real_place(&self.open(ancestor).ok()?).ok()?;
            Some(real.join(path.strip_prefix(ancestor).ok()?))
        })
    }
}

/// A link where none may be, in the words of the methods that look at names.
pub fn contains_link() -> FsError {
    FsError::invalid("path contains a symbolic link")
}

/// Whether that is the refusal of a link at the end of a path.
pub fn is_link_loop(error: &FsError) -> bool {
    error.text == LINK_LOOP
}

fn plain(path: &Path) -> Held {
    Held { path: path.to_owned(), place: path.to_owned(), descriptor: None }
}

fn name_of(descriptor: &impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", descriptor.as_fd().as_raw_fd()))
}

/// Where the thing behind `descriptor` is now.
pub fn real_place(descriptor: &OwnedFd) -> Result<PathBuf, FsError> {
    use std::os::unix::ffi::OsStrExt as _;
    let place = std::fs::read_link(name_of(descriptor))?;
    // Out of our sight, or no file at all.
    if !place.is_absolute() {
        return Err(Errno::NOENT.into());
    }
    if place.as_os_str().as_bytes().ends_with(DELETED) {
        let own = std::fs::metadata(name_of(descriptor))?;
        let named = std::fs::symlink_metadata(&place)?;
        if (own.dev(), own.ino()) != (named.dev(), named.ino()) {
            return Err(Errno::NOENT.into());
        }
    }
    Ok(place)
}
