//! What a log answers a reader.

use exedra_proto::limits::Limit;
use exedra_proto::process::OutputStream;

use super::Body;

/// An answer to `process/read`.
#[derive(Clone, Debug)]
pub struct Reading {
    /// Retained output in order.
    pub chunks: Vec<(u64, OutputStream, Body)>,
    /// The number after the last piece, or of the next event where there is no piece.
    pub next_seq: u64,
    /// The number of the next event, unless there is output that did not fit: then as [`Self::next_seq`].
    pub next_event: u64,
    /// The exit code, once there is one.
    pub exit_code: Option<i32>,
    /// The limit that it was ended for, if it was.
    pub limit: Option<Limit>,
    /// It failed, and that looks like the doing of its sandbox.
    pub denied: bool,
    /// Nothing more will come.
    pub closed: bool,
    /// Bytes that were dropped before anybody was given them.
    pub dropped: u64,
    /// Whether this answers a long poll.
    pub is_news: bool,
}

impl Reading {
    /// Bytes of output in it.
    pub fn output_len(&self) -> usize {
        self.chunks.iter().map(|(.., bytes)| bytes.len()).sum()
    }

    /// Whether some of it has to be read from disk.
    pub fn is_on_disk(&self) -> bool {
        self.chunks.iter().any(|(.., body)| body.is_on_disk())
    }
}
