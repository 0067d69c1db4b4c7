//! Downloads: a file of the executor, read by blocks that are asked for a few ahead of their answers.
//!
//! In flows a path, out flow all bytes of the file, in order. What is read is the file that was opened, as it is at the time
//! of each block; it ends where a block ends early.

use std::collections::VecDeque;

use exedra_link::peer::Pending;
use exedra_proto::fs::{CloseParams, OpenMode, OpenParams, ReadBlockParams};
use exedra_proto::method::{FsClose, FsOpen, FsReadBlock, Method as _};
use exedra_proto::path::AbsolutePath;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use super::blocks::block;
use super::{FileHandle, Files};
use crate::error::Error;
use crate::line::Up;

/// Blocks that are asked for ahead of their answers; one more waits. So many MiB may be on their way, or here.
const IN_FLIGHT: usize = 4;

impl Files {
    /// Writes the whole content of a file to `sink`, and tells its size. `progress` hears how many bytes have been written.
    /// A break ends it: what is there then, in another session, may be another file.
    ///
    /// # Errors
    /// It is no file, or cannot be read; the sink takes no more; or see [`Error`].
    pub async fn download<W, P>(&self, path: &AbsolutePath, sink: &mut W, progress: P) -> Result<u64, Error>
    where
        W: AsyncWrite + Unpin + Send,
        P: FnMut(u64) + Send,
    {
        let up = self.line.up().await.map_err(|loss| loss.not_sent(FsOpen::NAME))?;
        let handle_id = format!("h{}", self.routes.next_number());
        let (path, mode) = (self.written(path), OpenMode::Read);
        let open = OpenParams { handle_id: handle_id.clone(), path, mode, follow_symlinks: None, sandbox: None };
        up.client.call::<FsOpen>(&open).await.map_err(|error| Error::of_call(FsOpen::NAME, error))?;
        let received = receive(&up, &handle_id, sink, progress).await;
        let closed = up.client.call::<FsClose>(&CloseParams { handle_id }).await;
        let size = received?;
        closed.map_err(|error| Error::of_call(FsClose::NAME, error))?;
        Ok(size)
    }
}

async fn receive<W, P>(up: &Up, handle: &str, sink: &mut W, mut progress: P) -> Result<u64, Error>
where
    W: AsyncWrite + Unpin + Send,
    P: FnMut(u64) + Send,
{
    let bad = |error| Error::of_call(FsReadBlock::NAME, error);
    let mut pending: VecDeque<Pending> = VecDeque::new();
    let (mut asked, mut written) = (0, 0);
    loop {
        while pending.len() < IN_FLIGHT {
            let len = FileHandle::MAX_BLOCK as u64;
            let params = ReadBlockParams { handle_id: handle.to_owned(), offset: asked, len };
            pending.push_back(up.client.begin(FsReadBlock::NAME, &params, None).await.map_err(bad)?);
            asked += len;
        }
        let Some(read) = pending.pop_front() else { return Ok(written) };
        let (bytes, eof) = block(read.reply().await.map_err(bad)?)?;
        if bytes.len() != FileHandle::MAX_BLOCK && !eof {
            return Err(Error::Protocol(format!("{}: a block that ends early before the end", FsReadBlock::NAME)));
        }
        sink.write_all(&bytes).await.map_err(Error::Sink)?;
        written += bytes.len() as u64;
        progress(written);
        if eof {
            sink.flush().await.map_err(Error::Sink)?;
            return Ok(written);
        }
    }
}
