//! `fs/getMetadata`.
//!
//! In flows a path, out flow flags, size and times.

use std::io;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use exedra_proto::fs::Metadata;

use crate::error::FsError;

/// Of the target, and whether the path itself is a link.
///
/// # Errors
/// The system's.
pub fn get(path: &Path) -> Result<Metadata, FsError> {
    let target = std::fs::metadata(path)?;
    let own = std::fs::symlink_metadata(path)?;
    Ok(Metadata {
        is_directory: target.is_dir(),
        is_file: target.is_file(),
        is_symlink: own.is_symlink(),
        size: Some(target.len()),
        created_at_ms: milliseconds(target.created()),
        modified_at_ms: milliseconds(target.modified()),
    })
}

/// Since 1970; 0 if it is unknown or earlier.
fn milliseconds(time: io::Result<SystemTime>) -> i64 {
    let since = time.ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.and_then(|since| i64::try_from(since.as_millis()).ok()).unwrap_or(0)
}
