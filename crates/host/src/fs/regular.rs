//! Opening files so that nothing waits: what is no regular file is told apart before and after the opening.
//!
//! In flow paths, out flow open files or the refusal. Knows no content.

use std::fs::{File, FileType, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::resolve::Way;
use super::roots::Access;
use crate::error::{FsError, FsErrorKind};

/// How often a file that comes and goes is tried to be opened.
const ROUNDS: usize = 100;

/// Opens a regular file for reading.
///
/// # Errors
/// The system's, or that it is something else.
pub fn open_to_read(way: Way<'_>, path: &Path) -> Result<(File, Metadata), FsError> {
    let held = way.target(path, Access::Read)?;
    check_source(path, std::fs::metadata(held.path())?.file_type())?;
    let file = without_waiting(OpenOptions::new().read(true)).open(held.path())?;
    way.check_open(path, &file, Access::Read)?;
    let metadata = file.metadata()?;
    check_source(path, metadata.file_type())?;
    Ok((file, metadata))
}

/// Opens for writing what holds or swallows bytes: a regular file, made if it is missing, or a device. Nothing is cut off.
///
/// # Errors
/// The system's, or that it is something that a writer would have to wait for.
pub fn open_to_write(way: Way<'_>, path: &Path, mode: u32) -> Result<(File, Metadata), FsError> {
    let file = if way.is_plain() {
        let mut options = OpenOptions::new();
        let options = without_waiting(options.write(true)).mode(mode);
        match open_sink(path, path, options) {
            Err(error) if error.kind == FsErrorKind::NotFound => {
                way.check_new(path)?;
                open_sink(path, path, options.create(true).truncate(false))?
            }
            opened => opened?,
        }
    } else {
        open_held(way, path, mode)?
    };
    way.check_open(path, &file, Access::Write)?;
    let metadata = file.metadata()?;
    check_sink(path, metadata.file_type())?;
    if way.roots().has_rules() && metadata.is_file() && metadata.nlink() > 1 {
        return Err(way.refuse(path, "has other names (hard links), maybe outside the roots"));
    }
    Ok((file, metadata))
}

fn open_held(way: Way<'_>, path: &Path, mode: u32) -> Result<File, FsError> {
    for _ in 0..ROUNDS {
        match way.target(path, Access::Write) {
            Ok(held) => return open_sink(path, held.path(), without_waiting(OpenOptions::new().write(true))),
            Err(error) if error.kind == FsErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let entry = way.entry(path, Access::Write)?;
        let mut options = OpenOptions::new();
        match without_waiting(options.write(true).create_new(true)).mode(mode).open(entry.path()) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if std::fs::symlink_metadata(entry.path()).is_ok_and(|metadata| metadata.is_symlink()) {
                    let why = "is a link that leads nowhere: beneath roots none is written through";
                    return Err(way.refuse(path, why));
                }
            }
            opened => return Ok(opened?),
        }
    }
    Err(Errno::AGAIN.into())
}

fn open_sink(asked: &Path, path: &Path, options: &OpenOptions) -> Result<File, FsError> {
    match options.open(path) {
        Err(error) if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => {
            check_sink(asked, std::fs::metadata(path)?.file_type())?;
            Err(error.into())
        }
        opened => Ok(opened?),
    }
}

fn without_waiting(options: &mut OpenOptions) -> &mut OpenOptions {
    options.custom_flags((OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed())
}

fn check_source(path: &Path, kind: FileType) -> Result<(), FsError> {
    if kind.is_file() { Ok(()) } else { Err(not_a_file(path)) }
}

fn check_sink(path: &Path, kind: FileType) -> Result<(), FsError> {
    if kind.is_fifo() || kind.is_socket() { Err(not_a_file(path)) } else { Ok(()) }
}

/// The refusal of a path that is something else.
pub fn not_a_file(path: &Path) -> FsError {
    FsError::invalid(format!("path `{}` is not a file", path.display()))
}
