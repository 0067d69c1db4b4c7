//! What is granted with a hole in it. Landlock grants directories with all below; to leave something out, what lies around it
//! is granted name by name.
//!
//! In flow granted directories and what is to be left out, real paths; out flow the directories on the way there, which may
//! be listed and no more, and all else in these. What is made in them later is not granted.

use std::collections::BTreeSet;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};

/// What is granted around holes.
#[derive(Debug, Default)]
pub struct Around {
    /// Directories on the way to a hole.
    pub ways: BTreeSet<PathBuf>,
    /// Whatever else is in them, opened so that no link is followed.
    others: Vec<OwnedFd>,
}

impl Around {
    /// Around each of `holes` that is below one of `granted`.
    pub fn of(granted: &[PathBuf], holes: &[PathBuf]) -> Self {
        let mut ways = BTreeSet::new();
        let within = |hole: &PathBuf| holes.iter().any(|other| other != hole && hole.starts_with(other));
        let holes: Vec<&PathBuf> = holes.iter().filter(|hole| !within(hole)).collect();
        for hole in &holes {
            let above = granted.iter().filter(|root| hole.starts_with(root)).min_by_key(|root| root.as_os_str().len());
            let Some(root) = above else { continue };
            ways.extend(hole.ancestors().skip(1).take_while(|way| way.starts_with(root)).map(Path::to_owned));
        }
        let mut others = Vec::new();
        for way in &ways {
            let Ok(entries) = std::fs::read_dir(way) else { continue };
            let paths = entries.filter_map(Result::ok).map(|entry| way.join(entry.file_name()));
            let rest = paths.filter(|path| !ways.contains(path) && !holes.contains(&path));
            others.extend(rest.filter_map(|path| open(&path)));
        }
        Self { ways, others }
    }

    /// Paths of what else is granted, for as long as this lives.
    pub fn names(&self) -> Vec<PathBuf> {
        self.others.iter().map(|other| PathBuf::from(format!("/proc/self/fd/{}", other.as_raw_fd()))).collect()
    }
}

/// What is no link. A link needs no right of its own, and must not lend one to what it leads to.
fn open(path: &Path) -> Option<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let opened = rustix::fs::openat2(CWD, path, flags, Mode::empty(), resolve).ok()?;
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&opened).ok()?.st_mode);
    (kind != FileType::Symlink).then_some(opened)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_around_a_hole_and_no_link_into_it() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        for name in ["a/b/hole", "a/b/next", "a/other"] {
            std::fs::create_dir_all(dir.join(name)).unwrap();
        }
        std::fs::write(dir.join("file"), "").unwrap();
        std::os::unix::fs::symlink(dir.join("a/b/hole"), dir.join("a/link")).unwrap();
        let around = Around::of(
            std::slice::from_ref(&dir),
            &[dir.join("a/b/hole"), dir.join("a/b/hole/in"), "/elsewhere".into()],
        );
        assert_eq!(around.ways, [dir.clone(), dir.join("a"), dir.join("a/b")].into());
        let mut named: Vec<PathBuf> = around.names().iter().map(|name| std::fs::read_link(name).unwrap()).collect();
        named.sort();
        assert_eq!(named, [dir.join("a/b/next"), dir.join("a/other"), dir.join("file")]);
        assert!(Around::of(&[dir.join("a/other")], &[dir.join("a/b/hole")]).ways.is_empty());
    }
}
