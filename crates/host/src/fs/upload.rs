//! Uploads: bytes gather in a private part file beside their target, and take its place when all of them are there.
//!
//! In flow a path, the name of the upload, blocks and at the end size and hash; out flows how far it has come. Part file and
//! target are names in one directory that is held open, so that nothing that is swapped meanwhile leads elsewhere. One
//! writer at a time: a part file is locked as long as its handle is open. What is left by uploads that were given up is
//! swept a week after its last change, when the next upload goes to the same directory.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Permissions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::regular::not_a_file;
use super::resolve::{Way, real_place};
use super::roots::{Access, Roots};
use super::write::NEW_FILE;
use crate::error::{FsError, FsErrorKind};

/// What the names of part files begin with; 32 digits of a hash follow.
const PREFIX: &str = ".exedra-upload-";
/// Digits of a hash in such a name.
const DIGITS: usize = 32;
/// Bytes of an upload's name.
const MAX_ID: usize = 256;
/// How long a part file stays after its last change.
const KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Names that a sweep looks at; in a larger directory the others stay.
const SWEPT: usize = 10_000;
/// Read at a time to be hashed.
const PIECE: usize = 256 * 1024;
/// How often a part file that comes and goes is tried to be opened.
const ROUNDS: usize = 100;

/// An upload under way.
#[derive(Debug)]
pub struct Upload {
    directory: OwnedFd,
    name: OsString,
    part: OsString,
    asked: PathBuf,
    size: Option<u64>,
    /// Where it may go by the sandbox that it was begun in, if by any.
    roots: Roots,
    file: File,
}

impl Upload {
    /// Begins the upload `id` of what is to be at `path`, or goes on with it; how many bytes it has.
    ///
    /// # Errors
    /// The system's, that there is no file to be there, that another connection writes it, or that there is no room.
    pub fn open(way: Way<'_>, path: &Path, id: &str, size: Option<u64>) -> Result<(Self, u64), FsError> {
        if id.is_empty() || id.len() > MAX_ID {
            return Err(FsError::invalid(format!("an upload ID has 1 to {MAX_ID} bytes")));
        }
        let place = place_of(way, path)?;
        let (Some(parent), Some(name)) = (place.parent(), place.file_name()) else { return Err(not_a_file(path)) };
        let part = part_name(name, id);
        way.check(path, &place, Access::Write)?;
        way.check(path, &parent.join(&part), Access::Write)?;
        let directory = rustix::fs::openat2(
            CWD,
            parent,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::NO_SYMLINKS,
        )?;
        sweep(way, path, &directory, parent);
        let file = open_part(&directory, &part)?;
        let (name, asked, roots) = (name.to_owned(), path.to_owned(), way.roots().clone());
        let upload = Self { directory, name, part, asked, size, roots, file };
        let mut offset = upload.len()?;
        if size.is_some_and(|size| offset > size) {
            upload.file.set_len(0)?;
            offset = 0;
        }
        if let Err(refusal) = upload.check_room(offset) {
            if offset == 0 {
                upload.discard();
            }
            return Err(refusal);
        }
        Ok((upload, offset))
    }

    /// The part file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Writes all of `bytes` at `offset`, which leaves no hole.
    ///
    /// # Errors
    /// The system's, or that the block does not belong there.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<Result<(), FsError>, io::Error> {
        let len = self.len()?;
        if offset > len {
            let text = format!("the upload has {len} bytes: a block at {offset} would leave a hole");
            return Ok(Err(FsError::invalid(text)));
        }
        let end = offset.saturating_add(bytes.len() as u64);
        if let Some(size) = self.size.filter(|size| end > *size) {
            return Ok(Err(FsError::invalid(format!("the block ends at {end}, the upload at {size}"))));
        }
        self.file.write_all_at(bytes, offset).map(Ok)
    }

    /// Puts what was written in the place of the target, if it is what it should be. `way` is what the policy says by now.
    ///
    /// # Errors
    /// The system's; that bytes are missing, after which it may go on; that the hash is another, after which the part
    /// file is gone; that the target has become something else, or out of bounds. Also whether it is over.
    pub fn finish(&self, way: Way<'_>, size: u64, sha256: &str) -> (Result<(), FsError>, bool) {
        let placed = self.place(way, size, sha256);
        let is_over = placed.is_ok() || !names(&self.directory, &self.part, &self.file).unwrap_or(true);
        (placed, is_over)
    }

    fn place(&self, way: Way<'_>, size: u64, sha256: &str) -> Result<(), FsError> {
        let len = self.len()?;
        if len != size {
            return Err(FsError::invalid(format!("the upload has {len} bytes, not {size}")));
        }
        let found = self.hash()?;
        if !found.eq_ignore_ascii_case(sha256) {
            self.discard();
            return Err(FsError::invalid(format!("the SHA-256 of what was uploaded is {found}: it is discarded")));
        }
        // The directory may be elsewhere by now, and the policy another.
        let place = real_place(&self.directory)?.join(&self.name);
        way.check(&self.asked, &place, Access::Write)?;
        self.roots.check(&self.asked, &place, Access::Write)?;
        self.take_over_from_target()?;
        self.file.sync_data()?;
        if !names(&self.directory, &self.part, &self.file)? {
            return Err(FsError::invalid("the part file of the upload has gone or was replaced"));
        }
        rustix::fs::renameat(&self.directory, &self.part, &self.directory, &self.name)?;
        // So that the new name survives a crash, too; where that cannot be had, the old one may come back.
        if let Ok(directory) = File::open(self.directory_path()) {
            let _ = directory.sync_data();
        }
        Ok(())
    }

    /// Removes the part file.
    pub fn discard(&self) {
        if names(&self.directory, &self.part, &self.file).unwrap_or(false) {
            let _ = rustix::fs::unlinkat(&self.directory, &self.part, AtFlags::empty());
        }
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn check_room(&self, offset: u64) -> Result<(), FsError> {
        let Some(size) = self.size else { return Ok(()) };
        let needed = size.saturating_sub(offset);
        let stat = rustix::fs::fstatvfs(&self.file)?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        if needed > free {
            let text = format!("no room: the upload needs {needed} bytes more, and {free} are free");
            return Err(FsError { kind: FsErrorKind::Other, text });
        }
        Ok(())
    }

    fn hash(&self) -> io::Result<String> {
        let mut reader = &self.file;
        reader.seek(SeekFrom::Start(0))?;
        let (mut hash, mut buffer) = (Sha256::new(), vec![0; PIECE]);
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => hash.update(&buffer[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(hex(&hash.finalize()))
    }

    /// Mode and, where that may be given away, owner of what is there; else what a new file gets.
    fn take_over_from_target(&self) -> Result<(), FsError> {
        let mode = match rustix::fs::statat(&self.directory, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => NEW_FILE & !umask(),
            Err(errno) => return Err(errno.into()),
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
                let own = self.file.metadata()?;
                if (own.uid(), own.gid()) != (stat.st_uid, stat.st_gid) {
                    let _ = std::os::unix::fs::fchown(&self.file, Some(stat.st_uid), Some(stat.st_gid));
                }
                stat.st_mode & 0o777
            }
            Ok(_) => return Err(not_a_file(&self.asked)),
        };
        self.file.set_permissions(Permissions::from_mode(mode))?;
        Ok(())
    }

    fn directory_path(&self) -> PathBuf {
        path_of(&self.directory)
    }
}

/// The real place of the file that is, or is to be, at `path`.
fn place_of(way: Way<'_>, path: &Path) -> Result<PathBuf, FsError> {
    let found = match way.is_plain() {
        true => std::fs::canonicalize(path).map_err(FsError::from),
        false => way.target(path, Access::Write).map(|held| held.place().to_owned()),
    };
    match found {
        Ok(place) if std::fs::symlink_metadata(&place)?.is_file() => Ok(place),
        Ok(_) => Err(not_a_file(path)),
        Err(error) if error.kind == FsErrorKind::NotFound => {
            let entry = way.entry(path, Access::Write)?;
            if std::fs::symlink_metadata(entry.path()).is_ok_and(|metadata| metadata.is_symlink()) {
                return Err(FsError::invalid(format!("path `{}` is a link that leads nowhere", path.display())));
            }
            if !way.is_plain() {
                return Ok(entry.place().to_owned());
            }
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(not_a_file(path)) };
            Ok(std::fs::canonicalize(parent)?.join(name))
        }
        Err(error) => Err(error),
    }
}

/// Opens, or makes, a part file, and locks it.
fn open_part(directory: &OwnedFd, part: &OsStr) -> Result<File, FsError> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    for _ in 0..ROUNDS {
        let file = File::from(rustix::fs::openat(directory, part, flags, Mode::RUSR | Mode::WUSR)?);
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.nlink() > 1 || metadata.uid() != rustix::process::geteuid().as_raw() {
            return Err(FsError::invalid("what has the name of the upload's part file is not ours"));
        }
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => {
                let text = "the upload is being written by another connection".to_owned();
                return Err(FsError { kind: FsErrorKind::Busy, text });
            }
            locked => locked?,
        }
        // Whoever had the lock before may have removed it, or put it in the target's place.
        if names(directory, part, &file)? {
            file.set_permissions(Permissions::from_mode(0o600))?;
            return Ok(file);
        }
    }
    Err(Errno::AGAIN.into())
}

/// Whether `name` is that of `file`.
fn names(directory: &OwnedFd, name: &OsStr, file: &File) -> Result<bool, FsError> {
    let own = file.metadata()?;
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok((stat.st_dev, stat.st_ino) == (own.dev(), own.ino())),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Removes part files that nobody has changed for long and nobody writes. What cannot be removed stays.
fn sweep(way: Way<'_>, asked: &Path, directory: &OwnedFd, place: &Path) {
    let Ok(entries) = std::fs::read_dir(path_of(directory)) else { return };
    let Some(before) = SystemTime::now().checked_sub(KEPT) else { return };
    let parts = entries.take(SWEPT).filter_map(Result::ok).map(|entry| entry.file_name());
    for part in parts.filter(|name| is_part(name)) {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        if way.check(asked, &place.join(&part), Access::Write).is_err() {
            continue;
        }
        let Ok(file) = rustix::fs::openat(directory, &part, flags, Mode::empty()).map(File::from) else { continue };
        let is_old = |metadata: &std::fs::Metadata| {
            metadata.is_file()
                && metadata.uid() == rustix::process::geteuid().as_raw()
                && metadata.modified().is_ok_and(|changed| changed < before)
        };
        if file.metadata().is_ok_and(|metadata| is_old(&metadata))
            && rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
            && names(directory, &part, &file).unwrap_or(false)
            && rustix::fs::unlinkat(directory, &part, AtFlags::empty()).is_ok()
        {
            tracing::info!(file = %place.join(&part).display(), "what was left of an upload is removed");
        }
    }
}

fn part_name(target: &OsStr, id: &str) -> OsString {
    let mut hash = Sha256::new();
    hash.update((target.len() as u64).to_be_bytes());
    hash.update(target.as_bytes());
    hash.update(id.as_bytes());
    let digits: String = hex(&hash.finalize()).chars().take(DIGITS).collect();
    format!("{PREFIX}{digits}").into()
}

fn is_part(name: &OsStr) -> bool {
    let digits = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
    digits.is_some_and(|digits| digits.len() == DIGITS && digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

fn path_of(directory: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What new files are not given. To ask for it in the other way is to change it.
fn umask() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let told = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    told.and_then(|mask| u32::from_str_radix(mask.trim(), 8).ok()).unwrap_or(0o022)
}
