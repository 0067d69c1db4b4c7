//! The few questions that making a plan asks a disk, so that they can be asked of one that is only thought up.
//!
//! In flow paths, out flows what is there. Knows no rule.

use std::ffi::OsString;
use std::fs::FileType;
use std::path::{Path, PathBuf};

use super::placeholder;
use super::rules::Kind;

/// What is at a path, a link not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A directory or file.
    Real(Kind),
    /// A symbolic link.
    Link,
}

/// A disk.
pub trait Disk {
    /// Where a path leads, all links followed, and what is there; none if nothing is, or it may not be known.
    fn resolve(&self, path: &Path) -> Option<(PathBuf, Kind)>;
    /// What is at a path itself; a directory that only stands in for something absent is nothing.
    fn look(&self, path: &Path) -> Option<Found>;
    /// The names in a directory.
    fn names(&self, directory: &Path) -> Vec<(OsString, Found)>;
}

/// The disk of this machine.
#[derive(Clone, Copy, Debug)]
pub struct Machine;

impl Disk for Machine {
    fn resolve(&self, path: &Path) -> Option<(PathBuf, Kind)> {
        let real = std::fs::canonicalize(path).ok()?;
        let kind = if std::fs::metadata(&real).ok()?.is_dir() { Kind::Directory } else { Kind::File };
        Some((real, kind))
    }

    fn look(&self, path: &Path) -> Option<Found> {
        let found = found(std::fs::symlink_metadata(path).ok()?.file_type());
        (!placeholder::is_one(path)).then_some(found)
    }

    fn names(&self, directory: &Path) -> Vec<(OsString, Found)> {
        let entries = std::fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
        entries.filter_map(|entry| Some((entry.file_name(), found(entry.file_type().ok()?)))).collect()
    }
}

fn found(kind: FileType) -> Found {
    match kind {
        kind if kind.is_symlink() => Found::Link,
        kind if kind.is_dir() => Found::Real(Kind::Directory),
        _ => Found::Real(Kind::File),
    }
}
