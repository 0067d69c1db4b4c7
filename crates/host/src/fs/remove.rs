//! `fs/remove`.
//!
//! In flows a path, out flows its absence. Links are removed and never followed, on no level.

use std::io;
use std::path::Path;

use exedra_proto::fs::Done;

use crate::error::FsError;

/// Removes a file, a link, or a directory, with what it holds if `recursive`. A missing one is a success if `force`.
///
/// # Errors
/// The system's, or that it is the root.
pub fn remove(path: &Path, recursive: bool, force: bool) -> Result<Done, FsError> {
    if path.parent().is_none() {
        return Err(FsError::invalid("fs/remove does not remove the root directory"));
    }
    match remove_one(path, recursive) {
        Err(error) if force && error.kind() == io::ErrorKind::NotFound => Ok(Done {}),
        removed => Ok(removed.map(|()| Done {})?),
    }
}

fn remove_one(path: &Path, recursive: bool) -> io::Result<()> {
    let is_directory = std::fs::symlink_metadata(path)?.is_dir();
    match (is_directory, recursive) {
        (false, _) => std::fs::remove_file(path),
        (true, false) => std::fs::remove_dir(path),
        (true, true) => std::fs::remove_dir_all(path),
    }
}
