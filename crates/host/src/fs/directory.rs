//! `fs/createDirectory` and `fs/readDirectory`.
//!
//! In flow paths, out flow directories and lists of names.

use std::path::Path;

use exedra_proto::fs::{DirectoryEntry, Done, ReadDirectoryResult};

use crate::error::FsError;

/// What the list of entries may take as JSON, in bytes, so that the answer is one message.
const LIST_LIMIT: usize = 63 * 1024 * 1024;
/// What an entry takes as JSON beside its name, at most.
const ENTRY: usize = 64;

/// Makes a directory, with its parents if `recursive`, which also accepts an existing one.
///
/// # Errors
/// The system's.
pub fn create(path: &Path, recursive: bool) -> Result<Done, FsError> {
    if recursive { std::fs::create_dir_all(path) } else { std::fs::create_dir(path) }?;
    Ok(Done {})
}

/// The entries, in the system's order. One that cannot be examined, such as a dangling link, is left out.
///
/// # Errors
/// The system's, or that there are too many.
pub fn list(path: &Path) -> Result<ReadDirectoryResult, FsError> {
    let mut entries = Vec::new();
    let mut size = 0;
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let Ok(metadata) = std::fs::metadata(entry.path()) else { continue };
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
