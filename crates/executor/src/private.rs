//! Small files for their owner alone: a key, a credential.
//!
//! A path flows in, a text flows out, or the reason why the file is not to be trusted. What is written is on the disk and whole
//! before it is seen; a file that is there is never written over by chance. Errors hold nothing of what is in a file.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use exedra_proto::secret::Secret;
use rustix::fs::{AtFlags, CWD, OFlags};

/// Larger files are something else.
const MAX_FILE: u64 = 4096;

/// Why a file cannot be used.
#[derive(Debug)]
pub enum Unusable {
    /// It cannot be read.
    Io(io::Error),
    /// It is no file, others than its owner may read or write it, or somebody else owns it.
    Exposed {
        /// Its permission bits.
        mode: u32,
        /// Who owns it.
        owner: u32,
    },
    /// It holds no text.
    NoText,
}

impl Unusable {
    /// Whether there is no file.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::NotFound)
    }
}

/// What is in the file at `path`, up to its 4096th byte.
pub fn read(path: &Path) -> Result<Secret, Unusable> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(Unusable::Io)?;
    let metadata = file.metadata().map_err(Unusable::Io)?;
    let (mode, owner) = (metadata.mode() & 0o7777, metadata.uid());
    if !metadata.is_file() || mode & 0o077 != 0 || owner != rustix::process::geteuid().as_raw() {
        return Err(Unusable::Exposed { mode, owner });
    }
    let mut text = String::new();
    match file.take(MAX_FILE).read_to_string(&mut text) {
        Ok(_) => Ok(Secret::new(text)),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(Unusable::NoText),
        Err(error) => Err(Unusable::Io(error)),
    }
}

/// Makes the file at `path`, and its directory, unless somebody was quicker; theirs stays then.
pub fn create(path: &Path, text: &Secret) -> io::Result<()> {
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    }
    put(path, text, |temporary| match rustix::fs::linkat(CWD, temporary, CWD, path, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno.into()),
    })
}

/// Puts another text in the place of the file at `path`.
pub fn replace(path: &Path, text: &Secret) -> io::Result<()> {
    put(path, text, |temporary| std::fs::rename(temporary, path))
}

/// Writes `text` beside `path` and has it brought there.
fn put(path: &Path, text: &Secret, bring: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let temporary = beside(path);
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(text.expose().as_bytes())?;
        file.sync_all()?;
        bring(&temporary)?;
        File::open(path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")))?.sync_all()
    })();
    let _ = std::fs::remove_file(&temporary);
    written
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", uuid::Uuid::new_v4()));
    path.with_file_name(name)
}
