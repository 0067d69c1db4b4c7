//! `fs/writeFile`, in place.
//!
//! In flow a path and base64, out flows success once the file system has taken every byte.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use exedra_proto::base64::Base64Text;
use exedra_proto::fs::Done;

use super::regular::open_to_write;
use super::resolve::Way;
use crate::error::FsError;

/// Mode of a new file, before the umask.
pub const NEW_FILE: u32 = 0o666;
/// File systems that may refuse what they have taken only when it is synchronised: NFS, SMB, CIFS, 9P, FUSE, Ceph, AFS.
const REMOTE: [u32; 7] = [0x6969, 0xfe53_4d42, 0xff53_4d42, 0x0102_1997, 0x6573_5546, 0x00c3_6400, 0x5346_414f];

/// Makes the file hold just these bytes.
///
/// # Errors
/// Bad base64, the system's, or that it is no file.
pub fn write_file(way: Way<'_>, path: &Path, data: &Base64Text) -> Result<Done, FsError> {
    let bad = |cause| FsError::invalid(format!("fs/writeFile requires valid base64 dataBase64: {cause}"));
    let data = data.decode().map_err(bad)?;
    let (mut file, metadata) = open_to_write(way, path, NEW_FILE)?;
    if metadata.is_file() {
        file.set_len(0)?;
    }
    file.write_all(&data)?;
    settle(&file)?;
    Ok(Done {})
}

/// Makes a file system that defers its refusals say them now.
///
/// # Errors
/// Those.
pub fn settle(file: &File) -> Result<(), FsError> {
    let kind = rustix::fs::fstatfs(file).map(|stat| stat.f_type);
    if kind.is_ok_and(|kind| REMOTE.contains(&(kind as u32))) {
        file.sync_data()?;
    }
    Ok(())
}
