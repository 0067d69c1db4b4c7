//! A file of the executor that is read or written by blocks.
//!
//! In flow offsets and bytes, out flow bytes. The executor closes what failed; a handle that is dropped without being
//! closed stays open there until the connection ends, since nothing can be sent from a drop.

use bytes::Bytes;
use exedra_link::peer::Reply;
use exedra_proto::fs::{CloseParams, OpenMode, OpenParams, ReadBlockHead, ReadBlockParams, ReadBlockResult};
use exedra_proto::method::{FsClose, FsOpen, FsReadBlock, Method as _};
use exedra_proto::path::AbsolutePath;

use super::Files;
use crate::error::Error;

/// An open file.
#[derive(Debug)]
pub struct FileHandle {
    files: Files,
    id: String,
    /// The connection that it belongs to.
    connection: u64,
}

impl FileHandle {
    /// Bytes that one block may have.
    pub const MAX_BLOCK: usize = 1_048_576;

    pub(super) async fn open(files: Files, path: &AbsolutePath, mode: OpenMode) -> Result<Self, Error> {
        let id = format!("h{}", files.routes.next_number());
        let params =
            OpenParams { handle_id: id.clone(), path: files.written(path), mode, follow_symlinks: None, sandbox: None };
        let connection = files.connection(FsOpen::NAME).await?;
        files.line.call_on::<FsOpen>(connection, &params).await?;
        Ok(Self { files, id, connection })
    }

    /// Up to `len` bytes from `offset` on, and whether the file ended before that.
    ///
    /// # Errors
    /// The executor cannot read it; see [`Error`].
    pub async fn read_block(&self, offset: u64, len: usize) -> Result<(Bytes, bool), Error> {
        let params = ReadBlockParams { handle_id: self.id.clone(), offset, len: len as u64 };
        block(self.files.line.begin_on(self.connection, FsReadBlock::NAME, &params, None).await?)
    }

    /// Writes `bytes` at `offset`.
    ///
    /// # Errors
    /// The executor cannot write it; see [`Error`].
    pub async fn write_block(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        self.files.line.write_block(self.connection, self.id.clone(), offset, bytes).await
    }

    /// Closes it.
    ///
    /// # Errors
    /// What was written could not be kept after all.
    pub async fn close(self) -> Result<(), Error> {
        self.files.line.call_on::<FsClose>(self.connection, &CloseParams { handle_id: self.id }).await?;
        Ok(())
    }
}

/// What an answer to `fs/readBlock` holds.
pub(super) fn block(reply: Reply) -> Result<(Bytes, bool), Error> {
    let bad = |error| Error::of_call(FsReadBlock::NAME, error);
    if let Some(bytes) = reply.payload() {
        let head: ReadBlockHead = reply.decode(FsReadBlock::NAME).map_err(bad)?;
        return Ok((bytes.clone(), head.eof));
    }
    let result: ReadBlockResult = reply.decode(FsReadBlock::NAME).map_err(bad)?;
    let bytes = result.chunk.decode();
    Ok((bytes.map_err(|text| Error::Protocol(format!("{}: {text}", FsReadBlock::NAME)))?, result.eof))
}
