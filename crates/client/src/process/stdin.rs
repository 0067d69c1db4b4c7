//! The stdin of a process: single writes, a whole stream of them, and its end.
//!
//! In flow bytes, out flow `process/write` calls in the same order, several under way at once so that distance costs
//! no throughput, each with an id that makes a repetition harmless.

use bytes::Bytes;
use exedra_proto::base64::Base64Text;
use exedra_proto::envelope::INTERNAL_ERROR;
use exedra_proto::method::{Method as _, ProcessCloseStdin, ProcessWrite};
use exedra_proto::process::{ProcessParams, WriteParams, WriteStatus};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesOrdered;
use tokio::sync::mpsc;

use super::Controls;
use crate::error::Error;

/// Writes under way in [`Controls::feed`]: 16. When they are, the source waits.
const WRITES_UNDER_WAY: usize = 16;

impl Controls {
    /// Writes `bytes`. That it returns means that they are queued there, not that they were read.
    ///
    /// # Errors
    /// [`Error::StdinClosed`] if nobody reads any more, or the connection was lost.
    pub async fn write(&self, bytes: &[u8]) -> Result<(), Error> {
        self.write_piece(bytes, self.next_write()).await
    }

    /// Writes all that comes from `source` until it ends. Dropping the future stops somewhere in between.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub async fn feed(&self, mut source: mpsc::Receiver<Bytes>) -> Result<(), Error> {
        let mut under_way = FuturesOrdered::new();
        let mut more = true;
        while more || !under_way.is_empty() {
            tokio::select! {
                biased;
                Some(written) = under_way.next() => written?,
                piece = source.recv(), if more && under_way.len() < WRITES_UNDER_WAY => match piece {
                    Some(piece) => {
                        let id = self.next_write();
                        under_way.push_back(async move { self.write_piece(&piece, id).await });
                    }
                    None => more = false,
                },
            }
        }
        Ok(())
    }

    /// Ends stdin after what was written.
    ///
    /// # Errors
    /// [`Error::StdinCannotBeClosed`] if the executor does not speak `exedra/1`, else as [`Self::write`].
    pub async fn close_stdin(&self) -> Result<(), Error> {
        if !self.extension.close_stdin {
            return Err(Error::StdinCannotBeClosed);
        }
        let params = ProcessParams { process_id: self.id.clone() };
        match self.client.call::<ProcessCloseStdin>(&params).await {
            Ok(result) => accepted(ProcessCloseStdin::NAME, result.status),
            Err(error) => Err(Error::of_call(ProcessCloseStdin::NAME, error)),
        }
    }

    async fn write_piece(&self, bytes: &[u8], write_id: String) -> Result<(), Error> {
        let process_id = self.id.clone();
        let params = WriteParams { process_id, chunk: Base64Text::encode(bytes), write_id: Some(write_id) };
        match self.client.call::<ProcessWrite>(&params).await.map_err(|e| Error::of_call(ProcessWrite::NAME, e)) {
            Ok(result) => accepted(ProcessWrite::NAME, result.status),
            // Stock's word for a child that is gone or has closed its end.
            Err(Error::Refused { source, .. }) if source.code == INTERNAL_ERROR => Err(Error::StdinClosed),
            Err(error) => Err(error),
        }
    }
}

fn accepted(method: &str, status: WriteStatus) -> Result<(), Error> {
    match status {
        WriteStatus::Accepted => Ok(()),
        WriteStatus::StdinClosed | WriteStatus::UnknownProcess => Err(Error::StdinClosed),
        WriteStatus::Starting => Err(Error::Protocol(format!("{method}: a process that was started is starting"))),
    }
}
