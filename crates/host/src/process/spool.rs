//! Output that waits on disk: pieces in files that have no name, so that nothing is left behind whatever happens.
//!
//! In flow pieces, out flow [`Place`]s to read them from again. A file goes when the last place in it is dropped. Knows no
//! process; everything that touches the disk blocks.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

/// After how many bytes the next file is begun: what has been read gives its room back at that pace.
const SEGMENT: u64 = 8 * 1024 * 1024;
/// What all processes of a host may have on disk, in bytes.
pub const CAPACITY: u64 = 4 * 1024 * 1024 * 1024;

/// The directory, shared by all processes of a host.
#[derive(Debug)]
pub struct Spool {
    dir: PathBuf,
    capacity: u64,
    used: AtomicU64,
    files: AtomicU64,
}

/// What one process writes.
#[derive(Debug)]
pub struct Writer {
    spool: Arc<Spool>,
    segment: Option<Arc<Segment>>,
    end: u64,
}

/// A file without a name.
#[derive(Debug)]
struct Segment {
    file: File,
    spool: Arc<Spool>,
    held: AtomicU64,
}

/// Where a piece is.
#[derive(Clone, Debug)]
pub struct Place {
    segment: Arc<Segment>,
    at: u64,
    len: usize,
}

impl Spool {
    /// Makes `dir` if it is missing, for this user alone.
    ///
    /// # Errors
    /// It cannot be made or written to, or others can get at it.
    pub fn open(dir: &Path, capacity: u64) -> io::Result<Arc<Self>> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let metadata = std::fs::symlink_metadata(dir)?;
        let ours = metadata.is_dir() && metadata.uid() == rustix::process::geteuid().as_raw();
        if !ours || metadata.mode() & 0o077 != 0 {
            let text = format!("{} has to be a directory of this user's, with no access for others", dir.display());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        let (used, files) = (AtomicU64::new(0), AtomicU64::new(0));
        let spool = Arc::new(Self { dir: dir.to_owned(), capacity, used, files });
        spool.file()?;
        Ok(spool)
    }

    /// For one process.
    pub fn writer(self: &Arc<Self>) -> Writer {
        Writer { spool: Arc::clone(self), segment: None, end: 0 }
    }

    fn file(&self) -> io::Result<File> {
        let (flags, mode) = (OFlags::RDWR | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR);
        match rustix::fs::openat(CWD, &self.dir, flags | OFlags::TMPFILE, mode) {
            // A file system without such files, or a kernel that takes this for the opening of a directory.
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {}
            opened => return Ok(File::from(opened?)),
        }
        let number = self.files.fetch_add(1, Ordering::Relaxed);
        let path = self.dir.join(format!("{}-{number}", std::process::id()));
        let file = File::from(rustix::fs::openat(CWD, &path, flags | OFlags::CREATE | OFlags::EXCL, mode)?);
        std::fs::remove_file(&path)?;
        Ok(file)
    }

    fn take(&self, bytes: u64) -> io::Result<()> {
        let fits = |used: u64| used.checked_add(bytes).filter(|used| *used <= self.capacity);
        let taken = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        taken.map(drop).map_err(|_| io::ErrorKind::StorageFull.into())
    }
}

impl Writer {
    /// Writes `pieces`, all or none.
    ///
    /// # Errors
    /// There is no room, or the system's.
    pub fn write(&mut self, pieces: &[Bytes]) -> io::Result<Vec<Place>> {
        let total = pieces.iter().map(|piece| piece.len() as u64).sum();
        self.spool.take(total)?;
        let segment = match self.segment.take().filter(|_| self.end < SEGMENT) {
            Some(segment) => segment,
            None => {
                let file = self.spool.file().inspect_err(|_| self.give_back(total))?;
                self.end = 0;
                Arc::new(Segment { file, spool: Arc::clone(&self.spool), held: AtomicU64::new(0) })
            }
        };
        // From here on it gives the room back.
        segment.held.fetch_add(total, Ordering::Relaxed);
        let mut places = Vec::with_capacity(pieces.len());
        let mut end = self.end;
        for piece in pieces {
            if let Err(error) = segment.file.write_all_at(piece, end) {
                segment.held.fetch_sub(total, Ordering::Relaxed);
                self.give_back(total);
                self.segment = Some(segment);
                return Err(error);
            }
            places.push(Place { segment: Arc::clone(&segment), at: end, len: piece.len() });
            end += piece.len() as u64;
        }
        (self.segment, self.end) = (Some(segment), end);
        Ok(places)
    }

    fn give_back(&self, bytes: u64) {
        self.spool.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Place {
    /// How many bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The bytes.
    ///
    /// # Errors
    /// The system's.
    pub fn read(&self) -> io::Result<Bytes> {
        let mut bytes = vec![0; self.len];
        self.segment.file.read_exact_at(&mut bytes, self.at)?;
        Ok(bytes.into())
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        self.spool.used.fetch_sub(self.held.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn used(spool: &Spool) -> u64 {
        spool.used.load(Ordering::Relaxed)
    }

    fn spool(capacity: u64) -> (tempfile::TempDir, Arc<Spool>) {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::open(&dir.path().join("a/spool"), capacity).unwrap();
        (dir, spool)
    }

    #[test]
    fn pieces_come_back_and_nothing_has_a_name() {
        let (_dir, spool) = spool(CAPACITY);
        let mut writer = spool.writer();
        let piece = |n: usize| Bytes::from(vec![n.to_le_bytes()[0]; 1 << 20]);
        let places: Vec<Place> = (0..20).flat_map(|n| writer.write(&[piece(n), piece(n + 100)]).unwrap()).collect();
        assert_eq!(used(&spool), 40 << 20);
        for (n, place) in places.iter().enumerate() {
            assert_eq!(place.read().unwrap(), piece(n / 2 + 100 * (n % 2)));
        }
        assert_eq!(std::fs::read_dir(&spool.dir).unwrap().count(), 0);
        drop(places);
        assert!(used(&spool) <= 10 << 20, "only the file that is being written is left");
        drop(writer);
        assert_eq!(used(&spool), 0);
    }

    #[test]
    fn without_room_nothing_is_written_and_later_it_is() {
        let (_dir, spool) = spool(10);
        let (mut first, mut second) = (spool.writer(), spool.writer());
        let places = first.write(&[Bytes::from_static(b"12345678")]).unwrap();
        let error = second.write(&[Bytes::from_static(b"abc")]).unwrap_err();
        assert_eq!((error.kind(), used(&spool)), (io::ErrorKind::StorageFull, 8));
        drop((places, first));
        assert_eq!(second.write(&[Bytes::from_static(b"abc")]).unwrap()[0].read().unwrap(), "abc");
    }

    #[test]
    fn a_directory_that_others_can_get_at_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let error = Spool::open(dir.path(), 1).unwrap_err();
        assert!(error.to_string().contains("no access for others"), "{error}");
        let link = dir.path().join("link");
        let target = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(target.path(), &link).unwrap();
        assert!(Spool::open(&link, 1).is_err(), "a link");
    }
}
