//! Opening files so that nothing waits: what is no regular file is told apart before and after the opening.
//!
//! In flow paths, out flow open files or the refusal. Knows no content.

use std::fs::{File, FileType, Metadata, OpenOptions};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::error::FsError;

/// Opens a regular file for reading, links followed.
///
/// # Errors
/// The system's, or that it is something else; for a directory in the words of a read from one.
pub fn open_to_read(path: &Path) -> Result<(File, Metadata), FsError> {
    check_source(path, std::fs::metadata(path)?.file_type())?;
    let file = without_waiting(OpenOptions::new().read(true)).open(path)?;
    let metadata = file.metadata()?;
    check_source(path, metadata.file_type())?;
    Ok((file, metadata))
}

/// Opens for writing what holds or swallows bytes: a regular file, made if it is missing, or a device. Nothing is cut off.
///
/// # Errors
/// The system's, or that it is something that a writer would have to wait for.
pub fn open_to_write(path: &Path, mode: u32) -> Result<(File, Metadata), FsError> {
    let opened = without_waiting(OpenOptions::new().write(true).create(true).truncate(false)).mode(mode).open(path);
    let file = match opened {
        Err(error) if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => {
            check_sink(path, std::fs::metadata(path)?.file_type())?;
            return Err(error.into());
        }
        opened => opened?,
    };
    let metadata = file.metadata()?;
    check_sink(path, metadata.file_type())?;
    Ok((file, metadata))
}

fn without_waiting(options: &mut OpenOptions) -> &mut OpenOptions {
    options.custom_flags((OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed())
}

fn check_source(path: &Path, kind: FileType) -> Result<(), FsError> {
    if kind.is_dir() {
        return Err(Errno::ISDIR.into());
    }
    if kind.is_file() { Ok(()) } else { Err(not_a_file(path)) }
}

fn check_sink(path: &Path, kind: FileType) -> Result<(), FsError> {
    if kind.is_fifo() || kind.is_socket() { Err(not_a_file(path)) } else { Ok(()) }
}

fn not_a_file(path: &Path) -> FsError {
    FsError::invalid(format!("path `{}` is not a file", path.display()))
}
