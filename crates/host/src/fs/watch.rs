//! `fs/watchMissing`: one watch of a connection, for paths that are to appear and one that is to change.
//!
//! In flow paths, out flows a [`Change`] that comes true once, or nothing where no watch can promise it. The watches are
//! set before it is looked at what exists, so that nothing falls between the two.

use std::ffi::{CStr, OsStr, OsString};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use exedra_proto::path::AbsolutePath;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tokio::io::Interest as Ready;
use tokio::sync::oneshot;

use super::resolve::Way;
use super::roots::Access;
use crate::error::{FsError, FsErrorKind};
use crate::process::Watched;

/// Paths that one watch may wait for.
const MAX_MISSING: usize = 64;
/// Room for one read of events, in bytes: at least one with the longest name.
const BUFFER: usize = 4096;

const APPEARS: WatchFlags = WatchFlags::CREATE.union(WatchFlags::MOVED_TO);
const GOES: WatchFlags = WatchFlags::DELETE_SELF.union(WatchFlags::MOVE_SELF);
const REPLACED: WatchFlags = APPEARS.union(WatchFlags::DELETE).union(WatchFlags::MOVED_FROM);

/// The latest watch of a connection.
#[derive(Debug, Default)]
pub struct Latest(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    id: Option<u64>,
    #[expect(dead_code, reason = "the watch sees its drop")]
    replaced: Option<oneshot::Sender<()>>,
}

/// Comes true once.
#[derive(Debug)]
pub struct Change {
    watch: Watch,
    replaced: oneshot::Receiver<()>,
}

#[derive(Debug)]
pub struct Watch {
    inotify: OwnedFd,
    interests: Vec<Interest>,
}

/// What counts as the change: an event on `watched`, about `name` in it or about itself.
#[derive(Debug)]
struct Interest {
    watched: i32,
    name: Option<OsString>,
    any_name: bool,
    events: WatchFlags,
}

impl Latest {
    /// Takes the place of an earlier watch, unless `id` is not newer.
    pub fn begin(&self, id: u64) -> Option<oneshot::Receiver<()>> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.id.is_some_and(|latest| id <= latest) {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        *state = State { id: Some(id), replaced: Some(sender) };
        Some(receiver)
    }
}

impl Change {
    pub(super) fn new(watch: Watch, replaced: oneshot::Receiver<()>) -> Self {
        Self { watch, replaced }
    }

    /// Waits for it; false if a newer watch took its place, or it can no longer be seen.
    pub async fn wait(self) -> bool {
        let Self { watch, replaced } = self;
        tokio::select! {
            biased;
            _ = replaced => false,
            seen = watch.wait() => seen,
        }
    }
}

/// Sets a watch; none if it could not keep its promise.
///
/// # Errors
/// A path is out of bounds.
pub fn set(way: Way<'_>, missing: &[AbsolutePath], present: Option<&AbsolutePath>) -> Result<Option<Watch>, FsError> {
    if missing.is_empty() || missing.len() > MAX_MISSING {
        return Ok(None);
    }
    let Ok(inotify) = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC) else { return Ok(None) };
    let mut watch = Watch { inotify, interests: Vec::new() };
    let missing: Vec<&Path> = missing.iter().map(AbsolutePath::as_path).collect();
    for path in &missing {
        let Some((directory, name)) = first_missing(way, path)? else { return Ok(None) };
        if !watch.add(way, directory, Some(name), APPEARS)? || !watch.add(way, directory, None, GOES)? {
            return Ok(None);
        }
    }
    if let Some(present) = present.map(AbsolutePath::as_path) {
        let named = match (present.parent(), present.file_name()) {
            (Some(directory), Some(name)) => watch.add(way, directory, Some(name), REPLACED)?,
            _ => true,
        };
        if !named || !watch.add_itself(way, present)? {
            return Ok(None);
        }
    }
    // What appeared before its watch was set is told by what it has become.
    for path in &missing {
        let Some((directory, name)) = first_missing(way, path)? else { return Ok(None) };
        if !watch.interests.iter().any(|interest| interest.name.as_deref() == Some(name)) || !directory.is_dir() {
            return Ok(None);
        }
    }
    Ok(Some(watch))
}

/// The deepest directory of `path` that exists, and the name that is missing in it; none if all of it exists, or a link
/// that leads nowhere is in the way.
fn first_missing<'p>(way: Way<'_>, path: &'p Path) -> Result<Option<(&'p Path, &'p OsStr)>, FsError> {
    let mut at = path;
    loop {
        match way.target(at, Access::Read) {
            Ok(held) if way.is_plain() && !exists(held.path())? => {}
            // A file on the way is not going to hold anything.
            Ok(held) if at == path || !held.path().is_dir() => return Ok(None),
            Ok(_) => {
                let below = path.strip_prefix(at).ok().and_then(|rest| rest.components().next());
                let Some(name) = below.map(|component| component.as_os_str()) else { return Ok(None) };
                let dangling = std::fs::symlink_metadata(way.entry(&at.join(name), Access::Read)?.path()).is_ok();
                return Ok((!dangling).then_some((at, name)));
            }
            Err(error) if error.kind == FsErrorKind::NotFound => {}
            Err(error) if error.text == not_a_directory() => return Ok(None),
            Err(error) => return Err(error),
        }
        let Some(parent) = at.parent() else { return Ok(None) };
        at = parent;
    }
}

fn exists(path: &Path) -> Result<bool, FsError> {
    match std::fs::metadata(path).map_err(FsError::from) {
        Ok(_) => Ok(true),
        Err(error) if error.kind == FsErrorKind::NotFound || error.text == not_a_directory() => Ok(false),
        Err(error) => Err(error),
    }
}

fn not_a_directory() -> String {
    FsError::from(Errno::NOTDIR).text
}

impl Watch {
    fn add(&mut self, way: Way<'_>, path: &Path, name: Option<&OsStr>, events: WatchFlags) -> Result<bool, FsError> {
        let held = way.target(path, Access::Read)?;
        // One directory may be watched for several things.
        let watched = inotify::add_watch(&self.inotify, held.path(), events | WatchFlags::MASK_ADD);
        let Ok(watched) = watched else { return Ok(false) };
        self.interests.push(Interest { watched, name: name.map(OsStr::to_owned), any_name: false, events });
        Ok(true)
    }

    /// Of a directory, what happens in it is a change of it.
    fn add_itself(&mut self, way: Way<'_>, path: &Path) -> Result<bool, FsError> {
        let held = match way.target(path, Access::Read) {
            Err(error) if error.kind == FsErrorKind::NotFound => return Ok(false),
            held => held?,
        };
        let Ok(metadata) = std::fs::metadata(held.path()) else { return Ok(false) };
        let events = if metadata.is_dir() { GOES | REPLACED } else { GOES | WatchFlags::MODIFY };
        let added = self.add(way, path, None, events)?;
        if let Some(interest) = self.interests.last_mut().filter(|_| added && metadata.is_dir()) {
            interest.any_name = true;
        }
        Ok(added)
    }

    async fn wait(self) -> bool {
        let Self { inotify, interests } = self;
        let Ok(inotify) = Watched::new(inotify, Ready::READABLE) else { return false };
        loop {
            let Ok(mut ready) = inotify.readable().await else { return false };
            match happened(inotify.get_ref(), &interests) {
                Ok(true) => return true,
                Ok(false) => ready.clear_ready(),
                Err(_) => return false,
            }
        }
    }
}

/// Reads all events that are there.
fn happened(inotify: &OwnedFd, interests: &[Interest]) -> Result<bool, Errno> {
    let mut buffer = [MaybeUninit::uninit(); BUFFER];
    let mut reader = Reader::new(inotify, &mut buffer);
    loop {
        match reader.next() {
            Err(Errno::AGAIN) => return Ok(false),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
            // Too many at once: some of them may have been the one.
            Ok(event) if event.events().contains(ReadFlags::QUEUE_OVERFLOW) => return Ok(true),
            Ok(event) => {
                let name = event.file_name().map(CStr::to_bytes);
                let matches = |interest: &&Interest| interest.matches(event.wd(), name, event.events());
                if interests.iter().any(|interest| matches(&interest)) {
                    return Ok(true);
                }
            }
        }
    }
}

impl Interest {
    fn matches(&self, watched: i32, name: Option<&[u8]>, events: ReadFlags) -> bool {
        // What is no longer watched, as its file system is gone, will not be told of again.
        let events = WatchFlags::from_bits_truncate(events.bits());
        let named = self.any_name || self.name.as_deref().map(OsStr::as_bytes) == name;
        self.watched == watched && named && events.intersects(self.events)
    }
}
