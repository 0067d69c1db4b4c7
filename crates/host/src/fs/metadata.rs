//! `fs/getMetadata` and `fs/canonicalize`.
//!
//! In flows a path, out flow flags, size and times, or where it leads.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use exedra_proto::fs::Metadata;

use super::resolve::{Way, contains_link, is_link_loop};
use super::roots::Access;
use crate::error::FsError;

/// Of the target, and whether the path itself is a link.
///
/// # Errors
/// The system's, or that it is out of bounds.
pub fn get(way: Way<'_>, path: &Path) -> Result<Metadata, FsError> {
    let held =
        way.target(path, Access::Read).map_err(|error| if is_link_loop(&error) { contains_link() } else { error })?;
    let target = std::fs::metadata(held.path())?;
    let is_symlink = match way.is_plain() {
        true => std::fs::symlink_metadata(path)?.is_symlink(),
        // A link from outside the roots to the inside is nothing to tell about.
        false => {
            let entry = way.entry(path, Access::Read).and_then(|entry| Ok(std::fs::symlink_metadata(entry.path())?));
            way.follows() && path.file_name().is_some() && entry.is_ok_and(|own| own.is_symlink())
        }
    };
    Ok(Metadata {
        is_directory: target.is_dir(),
        is_file: target.is_file(),
        is_symlink,
        size: Some(target.len()),
        created_at_ms: milliseconds(target.created()),
        modified_at_ms: milliseconds(target.modified()),
    })
}

/// The path without links.
///
/// # Errors
/// The system's, or that it is out of bounds.
pub fn canonicalize(way: Way<'_>, path: &Path) -> Result<PathBuf, FsError> {
    match way.is_plain() {
        true => Ok(path.canonicalize()?),
        false => Ok(way.target(path, Access::Read)?.place().to_owned()),
    }
}

/// Since 1970; 0 if it is unknown or earlier.
fn milliseconds(time: io::Result<SystemTime>) -> i64 {
    let since = time.ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.and_then(|since| i64::try_from(since.as_millis()).ok()).unwrap_or(0)
}
