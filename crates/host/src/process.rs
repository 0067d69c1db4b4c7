//! The processes of one owner: started, read, written to, ended; their output kept until it is delivered.
//!
//! In flow the params of `process/*`, out flow results and [`Event`]s. Knows no session and no connection: who owns a
//! [`Table`] says when somebody is attached, and what has been delivered.

pub mod host;
pub mod table;

use bytes::Bytes;
use exedra_proto::ids::ProcessId;
use exedra_proto::process::OutputStream;

pub use table::{Limits, Table};

/// Something that happened to a process, to be told to whoever is attached.
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
    },
    /// Exited, and end of file on every output: the last event of a process.
    Closed,
}

/// Names an [`Event`] that was delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRef {
    /// Which process.
    pub process: ProcessId,
    /// Which of its events.
    pub seq: u64,
}

impl Event {
    /// Its name, for [`Table::delivered`].
    pub fn reference(&self) -> EventRef {
        EventRef { process: self.process.clone(), seq: self.seq }
    }

    /// Bytes of output in it.
    pub fn len(&self) -> usize {
        match &self.kind {
            EventKind::Output { bytes, .. } => bytes.len(),
            EventKind::Exited { .. } | EventKind::Closed => 0,
        }
    }

    /// Whether it holds no output.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Why a process did not start. The texts are those of the wire.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// No program at all: wrong params.
    #[error("argv must not be empty")]
    EmptyArgv,
    /// Params that no process can be made of, such as a NUL byte in an argument: wrong params.
    #[error("{0}")]
    Invalid(String),
    /// Something was to be enforced that this build cannot enforce: wrong params.
    #[error("sandbox intent cannot be enforced on this executor")]
    SandboxUnavailable,
    /// The sandbox depends on a working directory that it does not name: a wrong request.
    #[error("file system sandbox context with dynamic permissions requires cwd")]
    SandboxMissingCwd,
    /// The id is in use or retained: a wrong request.
    #[error("process {0} already exists")]
    AlreadyExists(ProcessId),
    /// Terminated before it ran: a wrong request.
    #[error("process {0} start was cancelled")]
    Cancelled(ProcessId),
    /// The program name is empty: a failure.
    #[error("missing program for {} spawn", if *.pty { "PTY" } else { "pipe" })]
    MissingProgram {
        /// Whether a PTY was asked for.
        pty: bool,
    },
    /// The system refused: a failure. The text is its own, or that of stock for a PTY.
    #[error("{0}")]
    Spawn(String),
    /// The table is being shut down: a failure.
    #[error("the executor is shutting down")]
    ShuttingDown,
}

/// There is no such process, or no longer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown process id {0}")]
pub struct UnknownProcess(pub ProcessId);

/// The child is gone, or has closed its stdin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to write to process stdin")]
pub struct WriteFailed;
