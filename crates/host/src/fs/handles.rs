//! The open files of one connection: `fs/open`, `fs/readBlock`, `fs/writeBlock`, `fs/close`, and uploads.
//!
//! In flow ids that the client chose, offsets and bytes, out flow bytes. A file stays the one that was opened, whatever
//! becomes of its name. Two requests for one handle may run at the same time; who wants an order puts them in one.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use exedra_proto::fs::OpenMode;

use super::block::Onto;
use super::regular::{not_a_file, open_to_read, open_to_write};
use super::resolve::Way;
use super::upload::Upload;
use super::write::NEW_FILE;
use crate::error::{FsError, FsErrorKind};

/// Handles that a connection may have open. One more is refused.
const MAX_HANDLES: usize = 128;
/// Bytes of a handle's id.
const MAX_ID: usize = 32;
/// Bytes of a block.
pub const MAX_BLOCK: u64 = 1_048_576;

/// The open files of one connection. An id without a file is being opened.
#[derive(Debug, Default)]
pub struct Handles(Mutex<HashMap<String, Option<Arc<Handle>>>>);

/// What a handle stands for.
#[derive(Debug)]
pub enum Handle {
    /// A file.
    File(File),
    /// The part file of an upload.
    Upload(Upload),
}

impl Handle {
    /// The file.
    pub fn file(&self) -> &File {
        match self {
            Self::File(file) => file,
            Self::Upload(upload) => upload.file(),
        }
    }
}

impl Handles {
    /// Opens a regular file under a new id.
    ///
    /// # Errors
    /// The system's, that it is no file, or that the id will not do.
    pub fn open(&self, id: &str, way: Way<'_>, path: &Path, mode: OpenMode) -> Result<(), FsError> {
        self.open_with(id, || Ok((Handle::File(open(way, path, mode)?), ())))
    }

    /// Begins an upload, or goes on with it, under a new id; how many bytes it has.
    ///
    /// # Errors
    /// Those of [`Upload::open`], or that the id will not do.
    pub fn upload(&self, id: &str, open: impl FnOnce() -> Result<(Upload, u64), FsError>) -> Result<u64, FsError> {
        self.open_with(id, || open().map(|(upload, offset)| (Handle::Upload(upload), offset)))
    }

    fn open_with<R>(&self, id: &str, open: impl FnOnce() -> Result<(Handle, R), FsError>) -> Result<R, FsError> {
        self.reserve(id)?;
        match open() {
            Ok((handle, result)) => {
                self.files().insert(id.to_owned(), Some(Arc::new(handle)));
                Ok(result)
            }
            Err(error) => {
                self.files().remove(id);
                Err(error)
            }
        }
    }

    /// Does something to an upload; the handle is closed if that leaves none.
    ///
    /// # Errors
    /// What it says, or that there is no such upload.
    pub fn with_upload(
        &self,
        id: &str,
        act: impl FnOnce(&Upload) -> (Result<(), FsError>, bool),
    ) -> Result<(), FsError> {
        let handle = self.find(id)?;
        let Handle::Upload(upload) = &*handle else {
            return Err(FsError::invalid(format!("file handle `{id}` is no upload")));
        };
        let (result, is_over) = act(upload);
        if is_over {
            self.remove(id, &handle);
        }
        result
    }

    /// Appends up to `len` bytes from `offset` on, fewer at the end of the file; how many.
    ///
    /// # Errors
    /// The system's, which closes the handle; that the length will not do, or that there is no such handle.
    pub fn read(&self, id: &str, offset: u64, len: u64, onto: impl Onto) -> Result<usize, FsError> {
        let len = block_length("read", len)?;
        let handle = self.find(id)?;
        onto.read(handle.file(), offset, len).map_err(|error| self.fail(id, &handle, error))
    }

    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    pub fn write(&self, id: &str, offset: u64, bytes: &[u8]) -> Result<(), FsError> {
        block_length("write", bytes.len() as u64)?;
        let handle = self.find(id)?;
        let written = match &*handle {
            Handle::File(file) => file.write_all_at(bytes, offset).map(Ok),
            Handle::Upload(upload) => upload.write(offset, bytes),
        };
        written.map_err(|error| self.fail(id, &handle, error))?
    }

    /// Closes a handle, if there is one.
    pub fn close(&self, id: &str) -> Option<Arc<Handle>> {
        self.files().remove(id).flatten()
    }

    fn reserve(&self, id: &str) -> Result<(), FsError> {
        if id.len() > MAX_ID {
            return Err(FsError::invalid(format!("file handle ID must not exceed {MAX_ID} bytes")));
        }
        let mut files = self.files();
        if files.contains_key(id) {
            return Err(FsError::invalid(format!("file handle `{id}` already exists")));
        }
        if files.len() >= MAX_HANDLES {
            return Err(FsError::invalid(format!("at most {MAX_HANDLES} file handles may be open per connection")));
        }
        files.insert(id.to_owned(), None);
        Ok(())
    }

    fn find(&self, id: &str) -> Result<Arc<Handle>, FsError> {
        let unknown = || FsError { kind: FsErrorKind::NotFound, text: format!("unknown file handle `{id}`") };
        self.files().get(id).cloned().flatten().ok_or_else(unknown)
    }

    fn fail(&self, id: &str, handle: &Arc<Handle>, error: io::Error) -> FsError {
        self.remove(id, handle);
        error.into()
    }

    /// Only that one: its id may be in use again.
    fn remove(&self, id: &str, handle: &Arc<Handle>) {
        let mut files = self.files();
        if files.get(id).is_some_and(|open| open.as_ref().is_some_and(|open| Arc::ptr_eq(open, handle))) {
            files.remove(id);
        }
    }

    fn files(&self) -> MutexGuard<'_, HashMap<String, Option<Arc<Handle>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn open(way: Way<'_>, path: &Path, mode: OpenMode) -> Result<File, FsError> {
    match mode {
        OpenMode::Read => Ok(open_to_read(way, path)?.0),
        OpenMode::Replace => {
            let (file, metadata) = match open_to_write(way, path, NEW_FILE) {
                Err(error) if way.target(path, super::Access::Write).is_ok_and(|held| held.path().is_dir()) => {
                    tracing::debug!(%error, "a directory was to be written");
                    return Err(not_a_file(path));
                }
                opened => opened?,
            };
            if !metadata.is_file() {
                return Err(not_a_file(path));
            }
            file.set_len(0)?;
            Ok(file)
        }
    }
}

fn block_length(what: &str, len: u64) -> Result<usize, FsError> {
    if !(1..=MAX_BLOCK).contains(&len) {
        return Err(FsError::invalid(format!("file {what} block length must be between 1 and {MAX_BLOCK}")));
    }
    Ok(usize::try_from(len).unwrap_or(usize::MAX))
}
