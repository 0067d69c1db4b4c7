//! The files of a log: numbered segments in a private directory that one executor holds at a time.
//!
//! In flow lines and heads, out flows nothing. What was there before is looked at in `recover`. Knows that lines end with
//! a line feed, not what they say.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::error::AuditError;
use super::head::Head;

/// The newest head, for whoever keeps heads elsewhere.
pub const HEAD_FILE: &str = "head";
const LOCK_FILE: &str = "lock";
const PREFIX: &str = "audit-";
const SUFFIX: &str = ".jsonl";

/// See the module.
#[derive(Debug)]
pub struct Segments {
    dir: PathBuf,
    file: File,
    number: u64,
    len: u64,
    limit: u64,
    _lock: File,
}

/// The directory of a log, which nobody else can hold meanwhile.
#[derive(Debug)]
pub struct Hold {
    dir: PathBuf,
    lock: File,
}

impl Hold {
    /// Takes `dir`, and makes it if it is missing.
    ///
    /// # Errors
    /// The directory cannot be used, is not private, or is held by another executor.
    pub fn take(dir: &Path) -> Result<Self, AuditError> {
        let failed = |source| AuditError::Io { path: dir.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
        let mode = std::fs::metadata(dir).map_err(failed)?.mode() & 0o7777;
        if mode & 0o022 != 0 {
            return Err(AuditError::Exposed { dir: dir.to_owned(), mode });
        }
        let lock = private().create(true).truncate(false).write(true).open(dir.join(LOCK_FILE)).map_err(failed)?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(AuditError::Held(dir.to_owned()));
        }
        Ok(Self { dir: dir.to_owned(), lock })
    }
}

impl Segments {
    /// Opens or makes segment `number` of the log that is held, to go on at its end; a segment is full at `limit` bytes.
    ///
    /// # Errors
    /// The file cannot be used.
    pub fn open(hold: Hold, number: u64, limit: u64) -> Result<Self, AuditError> {
        let Hold { dir, lock } = hold;
        let failed = |source| AuditError::Io { path: dir.clone(), source };
        let path = segment(&dir, number);
        let file = private().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
        let len = file.metadata().map_err(failed)?.len();
        sync_dir(&dir).map_err(failed)?;
        Ok(Self { dir, file, number, len, limit, _lock: lock })
    }

    /// Writes whole lines at the end. After a failure the same lines may be tried again.
    ///
    /// # Errors
    /// The system's.
    pub fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all_at(lines, self.len) {
            // Half a line would stand there until the next try; if this fails too, that overwrites it.
            let _ = self.file.set_len(self.len);
            return Err(error);
        }
        self.len += lines.len() as u64;
        Ok(())
    }

    /// Waits until what was appended is on the disk.
    ///
    /// # Errors
    /// The system's. What is on the disk is unknown then.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Whether the segment has reached its size.
    pub fn is_full(&self) -> bool {
        self.len >= self.limit
    }

    /// Goes on in a new segment; the old one must be on the disk.
    ///
    /// # Errors
    /// The system's; then the old one goes on.
    pub fn rotate(&mut self) -> io::Result<()> {
        let file = private().create_new(true).write(true).open(segment(&self.dir, self.number + 1))?;
        sync_dir(&self.dir)?;
        (self.file, self.len, self.number) = (file, 0, self.number + 1);
        Ok(())
    }

    /// Puts the newest head beside the segments.
    ///
    /// # Errors
    /// The system's.
    pub fn keep_head(&self, head: &Head) -> io::Result<()> {
        let temporary = self.dir.join("head.new");
        let mut file = private().create(true).truncate(true).write(true).open(&temporary)?;
        file.write_all(&serde_json::to_vec(head)?)?;
        file.write_all(b"\n")?;
        file.sync_data()?;
        std::fs::rename(&temporary, self.dir.join(HEAD_FILE))
    }
}

/// The path of segment `number`.
pub fn segment(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{PREFIX}{number:08}{SUFFIX}"))
}

/// The numbers of all segments, ascending.
///
/// # Errors
/// The system's.
pub fn numbers(dir: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        let digits = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX));
        numbers.extend(digits.and_then(|digits| digits.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
