//! What the executor keeps for itself on this machine: its key, its audit, its tokens, its output on disk.
//!
//! In flow the places as they were configured, out flow the places where they are now. A place that is there at the start
//! is held open, so that it is known by whatever name somebody gives it or what holds it. Refuses nothing itself: file
//! methods and sandboxes ask here.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

/// All of it.
#[derive(Debug, Default)]
pub struct OwnState(Vec<Place>);

#[derive(Debug)]
struct Place {
    /// Where it was at the start, or would have been, without links.
    named: PathBuf,
    held: Option<OwnedFd>,
    /// A directory that is to be made where it is missing.
    made: bool,
}

impl OwnState {
    /// What is, or is to be, at `paths` and in `directories`, with all below.
    pub fn new(paths: impl IntoIterator<Item = PathBuf>, directories: impl IntoIterator<Item = PathBuf>) -> Self {
        let mut all: Vec<Place> = Vec::new();
        let paths = paths.into_iter().map(|path| (path, false));
        for (path, made) in directories.into_iter().map(|path| (path, true)).chain(paths) {
            let Ok(path) = std::path::absolute(path) else { continue };
            let named = real(&path);
            if all.iter().all(|other| other.named != named) {
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let held = rustix::fs::open(&named, flags, Mode::empty()).ok();
                all.push(Place { named, held, made });
            }
        }
        Self(all)
    }

    /// Makes the directories that are missing, for this user alone. Where we cannot, nobody can whom we start. Without a home
    /// there is none to be kept either: nothing is made where all of the way is missing.
    pub fn make_directories(&self) {
        let has_holder = |place: &&Place| {
            let there = place.named.ancestors().skip(1).find(|ancestor| ancestor.exists());
            there.is_some_and(|there| there.parent().is_some())
        };
        let missing = self.0.iter().filter(|place| place.made && place.held.is_none());
        for Place { named, .. } in missing.filter(has_holder) {
            let _ = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(named);
        }
    }

    /// Where all of it is, real paths: each by its first name, and by its present one if that is another.
    pub fn places(&self) -> Vec<PathBuf> {
        let mut all = Vec::with_capacity(self.0.len());
        for Place { named, held, .. } in &self.0 {
            all.push(named.clone());
            let now =
                held.as_ref().and_then(|held| std::fs::read_link(format!("/proc/self/fd/{}", held.as_raw_fd())).ok());
            all.extend(now.filter(|now| now.is_absolute() && now != named));
        }
        all
    }
}

/// Without links, as far as it exists.
fn real(path: &Path) -> PathBuf {
    let found = path.ancestors().find_map(|ancestor| {
        let real = std::fs::canonicalize(ancestor).ok()?;
        let rest = path.strip_prefix(ancestor).ok()?;
        Some(if rest.as_os_str().is_empty() { real } else { real.join(rest) })
    });
    found.unwrap_or_else(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_made_where_there_is_something_to_hold_them() {
        let dir = tempfile::tempdir().unwrap();
        let nowhere = PathBuf::from(format!("/exedra-nowhere-{}", std::process::id()));
        let own = OwnState::new([dir.path().join("file")], [dir.path().join("a/b"), nowhere.join(".config/exedra")]);
        own.make_directories();
        assert!(dir.path().join("a/b").is_dir() && !dir.path().join("file").exists() && !nowhere.exists());
    }

    #[test]
    fn what_is_moved_is_known_by_both_names() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(dir.join("state/exedra")).unwrap();
        std::os::unix::fs::symlink(dir.join("state"), dir.join("link")).unwrap();
        let own = OwnState::new([dir.join("link/exedra"), dir.join("state/exedra"), dir.join("link/later/token")], []);
        assert_eq!(own.places(), [dir.join("state/exedra"), dir.join("state/later/token")]);
        own.make_directories();
        assert!(!dir.join("state/later").exists());
        std::fs::rename(dir.join("state"), dir.join("moved")).unwrap();
        assert!(own.places().contains(&dir.join("moved/exedra")) && own.places().contains(&dir.join("state/exedra")));
    }
}
