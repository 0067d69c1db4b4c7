//! `fs/copy`: bytes and mode of a file, a link as such, a directory with what it holds.
//!
//! In flow two paths, out flows the copy. Source links are not followed, destination links are, as in stock. A file that
//! would be copied onto itself, by whatever name, is left as it is.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use exedra_proto::fs::Done;

use super::directory;
use super::regular::{open_to_read, open_to_write};
use super::resolve::{Way, contains_link, is_link_loop};
use super::roots::Access;
use super::write::settle;
use crate::error::FsError;

/// Copies `source` to `destination`.
///
/// # Errors
/// The system's, a request that makes no sense, or that it is out of bounds.
pub fn copy(way: Way<'_>, source: &Path, destination: &Path, recursive: bool) -> Result<Done, FsError> {
    let copied = copy_any(way, source, destination, recursive);
    copied.map_err(|error| if is_link_loop(&error) { contains_link() } else { error })
}

fn copy_any(way: Way<'_>, source: &Path, destination: &Path, recursive: bool) -> Result<Done, FsError> {
    let kind = std::fs::symlink_metadata(way.entry(source, Access::Read)?.path())?.file_type();
    if kind.is_dir() {
        if !recursive {
            return Err(FsError::invalid("fs/copy requires recursive: true when sourcePath is a directory"));
        }
        way.check_absent(destination)?;
        if resolve_missing(destination)?.starts_with(source.canonicalize()?) {
            return Err(FsError::invalid("fs/copy cannot copy a directory to itself or one of its descendants"));
        }
        copy_directory(way, source, destination)?;
    } else if kind.is_symlink() {
        if !way.follows() {
            return Err(contains_link());
        }
        copy_link(way, source, destination)?;
    } else if kind.is_file() {
        copy_file(way, source, destination)?;
    } else {
        return Err(FsError::invalid("fs/copy only supports regular files, directories, and symlinks"));
    }
    Ok(Done {})
}

fn copy_directory(way: Way<'_>, source: &Path, destination: &Path) -> Result<(), FsError> {
    directory::create(way, destination, true)?;
    let held = way.target(source, Access::Read)?;
    for entry in std::fs::read_dir(held.path())? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let (from, to) = (held.place().join(entry.file_name()), destination.join(entry.file_name()));
        if kind.is_dir() {
            copy_directory(way, &from, &to)?;
        } else if kind.is_symlink() {
            copy_link(way, &from, &to)?;
        } else if kind.is_file() {
            copy_file(way, &from, &to)?;
        }
    }
    Ok(())
}

fn copy_link(way: Way<'_>, source: &Path, destination: &Path) -> Result<(), FsError> {
    let text = std::fs::read_link(way.entry(source, Access::Read)?.path())?;
    way.check_new(destination)?;
    Ok(std::os::unix::fs::symlink(text, way.entry(destination, Access::Write)?.path())?)
}

fn copy_file(way: Way<'_>, source: &Path, destination: &Path) -> Result<(), FsError> {
    let (from, metadata) = open_to_read(way, source)?;
    let (to, replaced) = open_to_write(way, destination, metadata.permissions().mode())?;
    if same(&metadata, &replaced) {
        return Ok(());
    }
    if replaced.is_file() {
        to.set_len(0)?;
    }
    transfer(from, &to)?;
    if replaced.is_file() {
        to.set_permissions(metadata.permissions())?;
    }
    settle(&to)
}

fn transfer(mut from: File, mut to: &File) -> io::Result<u64> {
    io::copy(&mut from, &mut to)
}

fn same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// Where `path` would be, its existing part resolved.
fn resolve_missing(path: &Path) -> io::Result<PathBuf> {
    let mut missing = Vec::new();
    let mut existing = path;
    loop {
        match existing.canonicalize() {
            Ok(resolved) => return Ok(missing.iter().rev().fold(resolved, |path, name| path.join(name))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let (Some(parent), Some(name)) = (existing.parent(), existing.file_name()) else {
            return Ok(path.to_owned());
        };
        missing.push(name);
        existing = parent;
    }
}
