//! `fs/readFile`.
//!
//! In flows a path, out flows the content, as long as one message can carry it.

use std::fs::File;
use std::io::Read as _;

use exedra_proto::base64::Base64Text;
use exedra_proto::fs::ReadFileResult;
use exedra_proto::path::{AbsolutePath, PathForm};
use rustix::io::Errno;

use super::regular::open_to_read;
use super::resolve::Way;
use super::roots::Access;
use crate::error::FsError;

/// The limit of stock, in bytes.
pub const STOCK_LIMIT: u64 = 512 * 1024 * 1024;
/// What base64 and the rest of a reply leave of a message of 64 MiB, in bytes.
pub const WHOLE_FILE_LIMIT: u64 = (64 * 1024 * 1024 - 64 * 1024) / 4 * 3;

/// The whole file.
///
/// # Errors
/// The system's, that it is no file, or that it is too large.
pub fn read_file(way: Way<'_>, path: &AbsolutePath) -> Result<ReadFileResult, FsError> {
    // Clients that write native paths know a directory by the system's words.
    if path.form() == PathForm::Native {
        let held = way.target(path.as_path(), Access::Read)?;
        if std::fs::metadata(held.path())?.is_dir() {
            return Err(Errno::ISDIR.into());
        }
    }
    let (file, metadata) = open_to_read(way, path.as_path())?;
    check_size(metadata.len())?;
    let data = read_up_to_limit(file, metadata.len())?;
    Ok(ReadFileResult { data_base64: Base64Text::encode(&data) })
}

/// The size of a file under `/proc` says nothing, and any file may grow while it is read.
fn read_up_to_limit(file: File, size: u64) -> Result<Vec<u8>, FsError> {
    let mut data = Vec::with_capacity(usize::try_from(size).unwrap_or(0) + 1);
    file.take(WHOLE_FILE_LIMIT + 1).read_to_end(&mut data)?;
    check_size(data.len() as u64)?;
    Ok(data)
}

fn check_size(size: u64) -> Result<(), FsError> {
    if size > STOCK_LIMIT {
        return Err(FsError::invalid(format!("file is too large to read: limit is {STOCK_LIMIT} bytes")));
    }
    if size > WHOLE_FILE_LIMIT {
        let text = format!(
            "file is too large to read in one message: it has {size} bytes, the limit is {WHOLE_FILE_LIMIT} bytes"
        );
        return Err(FsError::invalid(text));
    }
    Ok(())
}
