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

/// What became of reading a file that is not to be larger than so much.
#[derive(Debug, PartialEq, Eq)]
pub enum Content {
    /// All of it.
    Whole(ReadFileResult),
    /// It has about so many bytes, which are too many.
    Larger(u64),
}

/// The whole file.
///
/// # Errors
/// The system's, that it is no file, or that it is too large.
pub fn read_file(way: Way<'_>, path: &AbsolutePath) -> Result<ReadFileResult, FsError> {
    match read_file_up_to(way, path, WHOLE_FILE_LIMIT)? {
        Content::Whole(read) => Ok(read),
        Content::Larger(size) => Err(too_large(size)),
    }
}

/// The whole file, if it has at most `most` bytes.
///
/// # Errors
/// As of [`read_file`].
pub fn read_file_up_to(way: Way<'_>, path: &AbsolutePath, most: u64) -> Result<Content, FsError> {
    let (file, size) = open(way, path)?;
    if size > most {
        return Ok(Content::Larger(size));
    }
    let data = read(file, size, most)?;
    let read = data.len() as u64;
    Ok(if read > most {
        Content::Larger(read)
    } else {
        Content::Whole(ReadFileResult { data_base64: Base64Text::encode(&data) })
    })
}

/// Opens it; its size as the system has it.
fn open(way: Way<'_>, path: &AbsolutePath) -> Result<(File, u64), FsError> {
    let (file, metadata) = open_to_read(way, path.as_path()).map_err(|error| {
        // Clients that write native paths know a directory by the system's words.
        let native = path.form() == PathForm::Native;
        if native && is_directory(way, path).unwrap_or(false) { Errno::ISDIR.into() } else { error }
    })?;
    let size = metadata.len();
    if size > WHOLE_FILE_LIMIT { Err(too_large(size)) } else { Ok((file, size)) }
}

fn is_directory(way: Way<'_>, path: &AbsolutePath) -> Result<bool, FsError> {
    let held = way.target(path.as_path(), Access::Read)?;
    Ok(std::fs::metadata(held.path())?.is_dir())
}

/// Up to one byte more than `most`. The size of a file under `/proc` says nothing, and any file may grow while it is read.
fn read(file: File, size: u64, most: u64) -> Result<Vec<u8>, FsError> {
    let mut data = Vec::with_capacity(usize::try_from(size).unwrap_or(0) + 1);
    file.take(most + 1).read_to_end(&mut data)?;
    Ok(data)
}

/// The refusal of a file of `size` bytes, in stock's words where stock refuses it too.
fn too_large(size: u64) -> FsError {
    FsError::invalid(if size > STOCK_LIMIT {
        format!("file is too large to read: limit is {STOCK_LIMIT} bytes")
    } else {
        format!("file is too large to read in one message: it has {size} bytes, the limit is {WHOLE_FILE_LIMIT} bytes")
    })
}
