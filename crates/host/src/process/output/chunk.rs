//! A piece of output in a log, and what it costs.

use exedra_proto::process::OutputStream;

use super::Body;

/// What a piece costs in memory beside its bytes.
pub(super) const CHUNK_OVERHEAD: usize = 128;
/// What a piece costs as JSON beside its base64.
pub(super) const JSON_OVERHEAD: usize = 72;

/// See the module.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) stream: OutputStream,
    pub(super) bytes: Body,
    pub(super) delivered: bool,
    pub(super) in_flight: bool,
    /// In an answer, which may have been lost.
    pub(super) returned: bool,
}

impl Chunk {
    pub(super) fn memory(&self) -> usize {
        self.bytes.len() + CHUNK_OVERHEAD
    }

    pub(super) fn json_len(&self) -> usize {
        self.bytes.len().div_ceil(3) * 4 + JSON_OVERHEAD
    }

    /// What of [`Self::json_len`] is undelivered and in memory.
    pub(super) fn held(&self) -> usize {
        if self.delivered || self.bytes.is_on_disk() { 0 } else { self.json_len() }
    }
}
