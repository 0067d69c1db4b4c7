//! `fs/createDirectory` and `fs/readDirectory`.
//!
//! In flow paths, out flow directories and lists of names.

use std::io;
use std::path::Path;

use exedra_proto::fs::{DirectoryEntry, Done, ReadDirectoryResult};
use rustix::io::Errno;

use super::resolve::Way;
use super::roots::Access;
use crate::error::{FsError, FsErrorKind};

/// What the list of entries may take as JSON, in bytes, so that the answer is one message.
const LIST_LIMIT: usize = 63 * 1024 * 1024;
/// What an entry takes as JSON beside its name, at most.
const ENTRY: usize = 64;

/// Makes a directory, with its parents if `recursive`, which also accepts an existing one.
///
/// # Errors
/// The system's.
pub fn create(way: Way<'_>, path: &Path, recursive: bool) -> Result<Done, FsError> {
    way.check_new(path)?;
    match (recursive, way.is_plain()) {
        (true, true) => std::fs::create_dir_all(path)?,
        (true, false) => create_all(way, path)?,
        (false, _) => std::fs::create_dir(way.entry(path, Access::Write)?.path())?,
    }
    Ok(Done {})
}

fn create_all(way: Way<'_>, path: &Path) -> Result<(), FsError> {
    let exists = |path: &Path| match std::fs::metadata(way.target(path, Access::Read)?.path())?.is_dir() {
        true => Ok(()),
        false => Err(FsError::from(Errno::EXIST)),
    };
    match exists(path) {
        Err(error) if error.kind == FsErrorKind::NotFound => {}
        done => return done,
    }
    if let Some(parent) = path.parent() {
        create_all(way, parent)?;
    }
    match std::fs::create_dir(way.entry(path, Access::Write)?.path()) {
        // Somebody else was faster, or a link leads nowhere.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => exists(path).map_err(|_| error.into()),
        made => Ok(made?),
    }
}

/// The entries, in the system's order. One that cannot be examined, such as a dangling link, is left out.
///
/// # Errors
/// The system's, or that there are too many.
pub fn list(way: Way<'_>, path: &Path) -> Result<ReadDirectoryResult, FsError> {
    let held = way.target(path, Access::Read)?;
    let mut entries = Vec::new();
    let mut size = 0;
    for entry in std::fs::read_dir(held.path())? {
        let entry = entry?;
        let Ok(child) = way.target(&held.place().join(entry.file_name()), Access::Read) else { continue };
        let Ok(metadata) = std::fs::metadata(child.path()) else { continue };
        let file_name = entry.file_name().to_string_lossy().into_owned();
        // A control character takes six bytes.
        size += ENTRY + file_name.len() + 5 * file_name.bytes().filter(|byte| byte.is_ascii_control()).count();
        if size > LIST_LIMIT {
            return Err(FsError::invalid(format!(
                "directory is too large to list in one message: limit is {LIST_LIMIT} bytes, reached after {} entries",
                entries.len()
            )));
        }
        entries.push(DirectoryEntry { file_name, is_directory: metadata.is_dir(), is_file: metadata.is_file() });
    }
    Ok(ReadDirectoryResult { entries })
}
