//! What happened to a process, as plain data on its way to whoever is attached.

use bytes::Bytes;
use exedra_proto::ids::ProcessId;
use exedra_proto::limits::Limit;
use exedra_proto::process::OutputStream;

/// Something that happened to a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Which process.
    pub process: ProcessId,
    /// Number of the event, from 1, without gaps per process.
    pub seq: u64,
    /// What happened.
    pub kind: EventKind,
}

/// What an [`Event`] says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// The process wrote something.
    Output {
        /// Where to.
        stream: OutputStream,
        /// What.
        bytes: Bytes,
    },
    /// The child was reaped.
    Exited {
        /// 0 to 255, or 128 + n after signal n.
        code: i32,
        /// The limit that it was ended for, if it was.
        limit: Option<Limit>,
        /// It failed, and that looks like the doing of its sandbox.
        denied: bool,
    },
    /// Exited, and end of file on every output: the last event of a process.
    Closed,
}

/// When an event that was handed out counts as delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Once it is on its way. What happened while nobody was attached is for readers, and never handed out.
    Sent,
    /// The same, but it is on its way until the peer is known to have read it, which whoever hands it over knows.
    Read,
    /// Once the peer says so. Whoever attaches is handed out again whatever was not acknowledged, the exit and the end
    /// included, and drops by number what it has.
    Acknowledged,
}

/// Names events of one process in a row that were delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRun {
    /// Which process.
    pub process: ProcessId,
    /// The first of them.
    pub first: u64,
    /// The last of them.
    pub last: u64,
}

impl Event {
    /// A run of its own.
    pub fn run(&self) -> EventRun {
        EventRun { process: self.process.clone(), first: self.seq, last: self.seq }
    }
}

impl EventKind {
    /// Bytes of output in it.
    pub fn output_len(&self) -> usize {
        match self {
            Self::Output { bytes, .. } => bytes.len(),
            Self::Exited { .. } | Self::Closed => 0,
        }
    }
}
