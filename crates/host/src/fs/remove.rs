//! `fs/remove`.
//!
//! In flows a path, out flows its absence. Links are removed and never followed, on no level.

use std::io;
use std::path::Path;

use exedra_proto::fs::Done;

use super::resolve::{Way, contains_link};
use super::roots::Access;
use crate::error::{FsError, FsErrorKind};

/// Removes a file, a link, or a directory, with what it holds if `recursive`. A missing one is a success if `force`.
///
/// # Errors
/// The system's, that it is the root, or that it is out of bounds.
pub fn remove(way: Way<'_>, path: &Path, recursive: bool, force: bool) -> Result<Done, FsError> {
    if path.parent().is_none() {
        return Err(FsError::invalid("fs/remove does not remove the root directory"));
    }
    if recursive && !way.follows() {
        let text = "recursive no-follow removal is unsupported".to_owned();
        return Err(FsError { kind: FsErrorKind::Other, text });
    }
    match remove_one(way, path, recursive) {
        Err(error) if force && error.kind == FsErrorKind::NotFound => Ok(Done {}),
        removed => removed.map(|()| Done {}),
    }
}

fn remove_one(way: Way<'_>, path: &Path, recursive: bool) -> Result<(), FsError> {
    // Where there is nothing, that is what is said, also where nothing may be changed.
    std::fs::symlink_metadata(way.entry(path, Access::Read)?.path())?;
    let entry = way.entry(path, Access::Write)?;
    let kind = std::fs::symlink_metadata(entry.path())?.file_type();
    if kind.is_symlink() && !way.follows() {
        return Err(contains_link());
    }
    way.check_removal(path, &entry)?;
    way.check_own_name(path)?;
    Ok(remove_entry(entry.path(), kind.is_dir(), recursive)?)
}

fn remove_entry(path: &Path, is_directory: bool, recursive: bool) -> io::Result<()> {
    match (is_directory, recursive) {
        (false, _) => std::fs::remove_file(path),
        (true, false) => std::fs::remove_dir(path),
        (true, true) => std::fs::remove_dir_all(path),
    }
}
