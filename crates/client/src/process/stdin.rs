//! The stdin of a process: single writes, a whole stream of them, and its end.
//!
//! In flow bytes, out flow `process/write` calls in the same order, several under way at once so that distance costs
//! no throughput, each with an id that makes a repetition harmless: after a break, what was not answered is written again.

use std::collections::VecDeque;
use std::pin::Pin;

use bytes::Bytes;
use exedra_link::peer::Pending;
use exedra_proto::base64::Base64Text;
use exedra_proto::envelope::INTERNAL_ERROR;
use exedra_proto::method::{Method as _, ProcessCloseStdin, ProcessWrite};
use exedra_proto::process::{ProcessParams, WriteHead, WriteParams, WriteResult, WriteStatus};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesOrdered;
use tokio::sync::mpsc;

use super::Controls;
use crate::error::Error;
use crate::line::Up;

/// Writes under way in [`Controls::feed`]: 16. When they are, the source waits.
const WRITES_UNDER_WAY: usize = 16;

impl Controls {
    /// Writes `bytes`. That it returns means that they are queued there, not that they were read.
    ///
    /// # Errors
    /// [`Error::StdinClosed`] if nobody reads any more, or the connection was lost for good.
    pub async fn write(&self, bytes: &[u8]) -> Result<(), Error> {
        let write = Write { id: self.next_write(), bytes: Bytes::copy_from_slice(bytes) };
        let mut up = self.up(ProcessWrite::NAME).await?;
        loop {
            let begun = self.begin(&up, write.clone()).await;
            let written = match begun {
                Ok(begun) => written(begun).await,
                Err(error) => Err(error),
            };
            match written {
                Err(error) if error.is_loss() => up = self.up_after(&up, error).await?,
                written => return written,
            }
        }
    }

    /// Writes all that comes from `source` until it ends. Dropping the future stops somewhere in between.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub async fn feed(&self, mut source: mpsc::Receiver<Bytes>) -> Result<(), Error> {
        let mut more = true;
        // What was not answered yet, in order: after a break all of it goes the same way again.
        let mut pending: VecDeque<Write> = VecDeque::new();
        let mut up = self.up(ProcessWrite::NAME).await?;
        loop {
            let mut answers: FuturesOrdered<Answer> = FuturesOrdered::new();
            // One at a time is handed over: several that wait for room in the connection may overtake each other.
            let mut sending = None;
            let mut sent = 0;
            let lost = loop {
                if sending.is_none()
                    && let Some(write) = pending.get(sent)
                {
                    sending = Some(Box::pin(self.begin(&up, write.clone())));
                }
                tokio::select! {
                    biased;
                    Some(written) = answers.next() => match written {
                        Ok(()) => {
                            pending.pop_front();
                            sent -= 1;
                        }
                        Err(error) if error.is_loss() => break error,
                        Err(error) => return Err(error),
                    },
                    begun = ready(&mut sending), if sending.is_some() => match begun {
                        Ok(begun) => {
                            sending = None;
                            sent += 1;
                            answers.push_back(Box::pin(written(begun)));
                        }
                        Err(error) if error.is_loss() => break error,
                        Err(error) => return Err(error),
                    },
                    piece = source.recv(), if more && pending.len() < WRITES_UNDER_WAY => match piece {
                        Some(bytes) => pending.push_back(Write { id: self.next_write(), bytes }),
                        None => more = false,
                    },
                    else => return Ok(()),
                }
            };
            drop((answers, sending));
            up = self.up_after(&up, lost).await?;
        }
    }

    /// Ends stdin after what was written.
    ///
    /// # Errors
    /// [`Error::StdinCannotBeClosed`] if the executor does not speak `exedra/1`, else as [`Self::write`].
    pub async fn close_stdin(&self) -> Result<(), Error> {
        let up = self.up(ProcessCloseStdin::NAME).await?;
        if !up.extension.close_stdin {
            return Err(Error::StdinCannotBeClosed);
        }
        let params = ProcessParams { process_id: self.id.clone() };
        let result = self.line.repeat::<ProcessCloseStdin>(&params).await?;
        match result.status {
            // It was closed by a call whose answer was lost.
            WriteStatus::StdinClosed if self.line.now().is_none_or(|now| now.number > up.number) => Ok(()),
            status => accepted(ProcessCloseStdin::NAME, status),
        }
    }

    /// The connection after `up`, which was lost with `error`.
    async fn up_after(&self, up: &Up, error: Error) -> Result<Up, Error> {
        if !self.line.mends() {
            return Err(error);
        }
        self.line.after(up.number).await.map_err(|_| error)
    }

    /// Hands a write over to the connection.
    fn begin(&self, up: &Up, write: Write) -> impl Future<Output = Result<Pending, Error>> + use<> {
        let (up, process_id) = (up.clone(), self.id.clone());
        async move {
            let Write { id, bytes } = write;
            let begun = if up.extension.binary {
                let head = WriteHead { process_id, write_id: Some(id) };
                up.client.begin(ProcessWrite::NAME, &head, Some(&bytes)).await
            } else {
                let chunk = Base64Text::encode(&bytes).into();
                up.client.begin(ProcessWrite::NAME, &WriteParams { process_id, chunk, write_id: Some(id) }, None).await
            };
            begun.map_err(|error| Error::of_call(ProcessWrite::NAME, error))
        }
    }
}

/// What became of a write.
async fn written(begun: Pending) -> Result<(), Error> {
    let reply = begun.reply().await.and_then(|reply| reply.decode::<WriteResult>(ProcessWrite::NAME));
    match reply.map_err(|error| Error::of_call(ProcessWrite::NAME, error)) {
        Ok(result) => accepted(ProcessWrite::NAME, result.status),
        // Stock's word for a child that is gone or has closed its end.
        Err(Error::Refused { source, .. }) if source.code == INTERNAL_ERROR => Err(Error::StdinClosed),
        Err(error) => Err(error),
    }
}

async fn ready<F: Future + Unpin>(future: &mut Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// The answer to a write that is on its way.
type Answer = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

/// A piece of stdin with the id that makes a repetition harmless.
#[derive(Clone, Debug)]
struct Write {
    id: String,
    bytes: Bytes,
}

fn accepted(method: &str, status: WriteStatus) -> Result<(), Error> {
    match status {
        WriteStatus::Accepted => Ok(()),
        WriteStatus::StdinClosed | WriteStatus::UnknownProcess => Err(Error::StdinClosed),
        WriteStatus::Starting => Err(Error::Protocol(format!("{method}: a process that was started is starting"))),
    }
}
