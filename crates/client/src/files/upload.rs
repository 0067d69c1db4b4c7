//! Uploads that survive a break (`exedra/1`): blocks go to a part file over there, which takes the file's place in the end.
//!
//! In flows what is to be there, twice: to be hashed, and to be sent from wherever the executor has it already. The upload is
//! named by its content, so that whoever uploads the same to the same place goes on where another was cut off.

use std::collections::VecDeque;
use std::io::SeekFrom;
use std::time::Duration;

use exedra_link::peer::Pending;
use exedra_proto::base64::Base64Text;
use exedra_proto::envelope::UPLOAD_BUSY;
use exedra_proto::fs::{UploadFinishParams, UploadOpenParams, WriteBlockHead, WriteBlockParams};
use exedra_proto::method::{FsUploadFinish, FsUploadOpen, FsWriteBlock, Method as _};
use exedra_proto::path::AbsolutePath;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncSeek, AsyncSeekExt as _};
use tokio::time::Instant;

use super::{FileHandle, Files};
use crate::error::Error;
use crate::line::Up;

/// Blocks that are sent ahead of their answers; one more waits.
const IN_FLIGHT: usize = 4;
/// How long a connection that is dead and does not know it yet may keep an upload locked.
const PATIENCE: Duration = Duration::from_secs(15);
/// Between two tries meanwhile.
const PAUSE: Duration = Duration::from_millis(200);

/// What is uploaded.
struct Content<'a, S> {
    path: &'a AbsolutePath,
    source: &'a mut S,
    size: u64,
    sha256: String,
}

/// How an attempt failed.
struct Failure {
    error: Error,
    /// It went on with what was there already, which may have been something else.
    continued: bool,
}

impl Files {
    /// Makes or replaces a file by the whole content of `source`, and tells its size. After a break it goes on where it
    /// was, also in another session; until all is there and its hash is right, the file stays as it was. `progress` hears
    /// how many bytes have arrived.
    ///
    /// # Errors
    /// The executor has no uploads, the source cannot be read, or see [`Error`]; what arrived stays there for a week.
    pub async fn upload<S, P>(&self, path: &AbsolutePath, source: &mut S, mut progress: P) -> Result<u64, Error>
    where
        S: AsyncRead + AsyncSeek + Unpin + Send,
        P: FnMut(u64) + Send,
    {
        let (size, sha256) = measure(source).await.map_err(Error::Source)?;
        let mut content = Content { path, source, size, sha256 };
        let (mut afresh, until) = (false, Instant::now() + PATIENCE);
        loop {
            let up = self.line.up().await.map_err(|loss| loss.not_sent(FsUploadOpen::NAME))?;
            if !up.extension.uploads {
                return Err(Error::Lacking(FsUploadOpen::NAME));
            }
            let Err(Failure { error, continued }) = self.attempt(&up, &mut content, &mut progress).await else {
                return Ok(size);
            };
            match &error {
                error if error.is_loss() && self.line.mends() => {}
                Error::Refused { source, .. } if source.code == UPLOAD_BUSY && Instant::now() < until => {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                Error::Refused { method: FsUploadFinish::NAME, .. } if continued && !afresh => {
                    afresh = true;
                    continue;
                }
                _ => return Err(error),
            }
            if self.line.after(up.number).await.is_err() {
                return Err(error);
            }
        }
    }

    async fn attempt<S, P>(&self, up: &Up, content: &mut Content<'_, S>, progress: &mut P) -> Result<(), Failure>
    where
        S: AsyncRead + AsyncSeek + Unpin + Send,
        P: FnMut(u64) + Send,
    {
        let handle = format!("h{}", self.routes.next_number());
        let params = UploadOpenParams {
            handle_id: handle.clone(),
            path: content.path.clone(),
            upload_id: format!("sha256:{}", content.sha256),
            size: Some(content.size),
            sandbox: None,
        };
        let opened = up.client.call::<FsUploadOpen>(&params).await;
        let first = |error| Failure { error, continued: false };
        let offset = opened.map_err(|error| first(Error::of_call(FsUploadOpen::NAME, error)))?.offset;
        if offset > content.size {
            return Err(first(Error::Protocol(format!("{}: more than there is to upload", FsUploadOpen::NAME))));
        }
        let failure = |error| Failure { error, continued: offset > 0 };
        progress(offset);
        send(up, &handle, content, offset, progress).await.map_err(failure)?;
        let params = UploadFinishParams { handle_id: handle, size: content.size, sha256: content.sha256.clone() };
        let finished = up.client.call::<FsUploadFinish>(&params).await;
        finished.map(drop).map_err(|error| failure(Error::of_call(FsUploadFinish::NAME, error)))
    }
}

/// Sends the content from `offset` on, a few blocks ahead of their answers.
async fn send<S, P>(
    up: &Up,
    handle: &str,
    content: &mut Content<'_, S>,
    mut offset: u64,
    progress: &mut P,
) -> Result<(), Error>
where
    S: AsyncRead + AsyncSeek + Unpin + Send,
    P: FnMut(u64) + Send,
{
    let source = &mut *content.source;
    source.seek(SeekFrom::Start(offset)).await.map_err(Error::Source)?;
    let mut pending: VecDeque<(u64, Pending)> = VecDeque::new();
    let mut block = vec![0; FileHandle::MAX_BLOCK];
    while offset < content.size || !pending.is_empty() {
        if offset == content.size || pending.len() == IN_FLIGHT {
            if let Some((end, write)) = pending.pop_front() {
                write.reply().await.map_err(|error| Error::of_call(FsWriteBlock::NAME, error))?;
                progress(end);
            }
            continue;
        }
        let len = FileHandle::MAX_BLOCK.min(usize::try_from(content.size - offset).unwrap_or(usize::MAX));
        let block = &mut block[..len];
        // A source that has become shorter meanwhile ends here.
        source.read_exact(block).await.map_err(Error::Source)?;
        let write = begin(up, handle, offset, block).await?;
        offset += len as u64;
        pending.push_back((offset, write));
    }
    Ok(())
}

async fn begin(up: &Up, handle: &str, offset: u64, block: &[u8]) -> Result<Pending, Error> {
    let (method, handle_id) = (FsWriteBlock::NAME, handle.to_owned());
    let begun = if up.extension.binary {
        up.client.begin(method, &WriteBlockHead { handle_id, offset }, Some(block)).await
    } else {
        let chunk = Base64Text::encode(block).into();
        up.client.begin(method, &WriteBlockParams { handle_id, offset, chunk }, None).await
    };
    begun.map_err(|error| Error::of_call(method, error))
}

/// Size and SHA-256 of all that is in `source`.
async fn measure<S: AsyncRead + AsyncSeek + Unpin>(source: &mut S) -> std::io::Result<(u64, String)> {
    source.seek(SeekFrom::Start(0)).await?;
    let (mut hash, mut size, mut buffer) = (Sha256::new(), 0, vec![0; 256 * 1024]);
    loop {
        let read = source.read(&mut buffer).await?;
        if read == 0 {
            break;
        }
        size += read as u64;
        hash.update(&buffer[..read]);
    }
    let digits = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((size, digits))
}
