//! The processes of one owner, by id.

use std::sync::Arc;
use std::time::Duration;

use exedra_proto::ids::ProcessId;
use exedra_proto::process::{ReadParams, ReadResult, StartParams, WriteStatus};

use super::host::Host;
use super::{Event, EventRef, StartError, UnknownProcess, WriteFailed};

/// Bounds of a [`Table`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// How long a closed process, and with it its id, stays known.
    pub retention: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { retention: Duration::from_secs(80) }
    }
}

/// The processes of one owner. Dropping it kills them all, without grace.
#[derive(Debug)]
pub struct Table {}

impl Table {
    /// An empty table, detached.
    pub fn new(_host: Arc<Host>, _limits: Limits) -> Self {
        Self {}
    }

    /// Starts a process. If the future is dropped before it is done, the process does not run on.
    ///
    /// # Errors
    /// Why it did not start.
    pub async fn start(&self, _params: StartParams) -> Result<(), StartError> {
        todo!()
    }

    /// Reads retained output, waiting for some if asked to. What is returned counts as delivered.
    ///
    /// # Errors
    /// There is no such process.
    pub async fn read(&self, _params: ReadParams) -> Result<ReadResult, UnknownProcess> {
        todo!()
    }

    /// Queues `bytes` for stdin; waits only while the queue is full. Writes take their turn in the order in which they
    /// were first polled.
    ///
    /// # Errors
    /// The child is gone, or has closed its stdin.
    pub async fn write(
        &self,
        _process: &ProcessId,
        _bytes: Vec<u8>,
        _write_id: Option<String>,
    ) -> Result<WriteStatus, WriteFailed> {
        todo!()
    }

    /// Ends stdin after what is queued: a pipe is closed, a PTY in canonical mode gets its end-of-file character.
    pub async fn close_stdin(&self, _process: &ProcessId) -> WriteStatus {
        todo!()
    }

    /// Kills a process and its descendants; false and nothing else if it is unknown or has exited.
    pub fn terminate(&self, _process: &ProcessId) -> bool {
        todo!()
    }

    /// From now on events are for [`Self::next_events`].
    pub fn attach(&self) {
        todo!()
    }

    /// From now on output is kept for [`Self::read`] only; what was not taken yet is never notified.
    pub fn detach(&self) {
        todo!()
    }

    /// Waits for at least one event and takes what there is, up to about `max_bytes` of output, in turns over the
    /// processes, in order of seq per process. Nothing is lost if the future is dropped. Pends while detached.
    pub async fn next_events(&self, _max_bytes: usize) -> Vec<Event> {
        todo!()
    }

    /// These were handed to a socket: they may be evicted, and the command may go on.
    pub fn delivered(&self, _events: &[EventRef]) {
        todo!()
    }

    /// Ends all: SIGTERM to each tree, at most `grace` for it, then SIGKILL. Nothing starts afterwards.
    pub async fn shutdown(&self, _grace: Duration) {
        todo!()
    }
}
