//! Reading a file on whose word somebody is let in: only if nobody but its owner or root can have written it.
//!
//! In flows a path, out flow the bytes, or who could have put others there. What they say is not looked at.

use std::fs::{File, Metadata};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Of a mode: others, and whoever is in the group, may write.
const WRITABLE: u32 = 0o022;
/// Of a mode: in such a directory one moves only what is one's own.
const STICKY: u32 = 0o1000;

/// What is in the file, and where it really is. It is judged by the open file, and by every directory on the way.
///
/// # Errors
/// It cannot be read, is larger than `largest` bytes, or others could have written it.
pub fn read(path: &Path, largest: usize) -> Result<(PathBuf, Vec<u8>), String> {
    let real = std::fs::canonicalize(path).map_err(|error| error.to_string())?;
    let file = File::open(&real).map_err(|error| error.to_string())?;
    let metadata = file.metadata().map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("it is no file".to_owned());
    }
    judge(&metadata, false)?;
    for directory in real.ancestors().skip(1) {
        let metadata = std::fs::symlink_metadata(directory).map_err(|error| error.to_string())?;
        judge(&metadata, true).map_err(|why| format!("the directory {} holds it, and {why}", directory.display()))?;
    }
    let mut bytes = Vec::new();
    file.take(largest as u64 + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() > largest {
        return Err(format!("it is larger than {largest} bytes"));
    }
    Ok((real, bytes))
}

/// Refuses what somebody else than we, or root, owns or may write.
fn judge(metadata: &Metadata, directory: bool) -> Result<(), String> {
    if metadata.uid() != 0 && metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(format!("user {} owns it", metadata.uid()));
    }
    let is_writable = metadata.mode() & WRITABLE != 0;
    if is_writable && !(directory && metadata.mode() & STICKY != 0) {
        return Err(format!("others may write it (mode {:o})", metadata.mode() & 0o7777));
    }
    Ok(())
}
