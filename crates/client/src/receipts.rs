//! What a client confirms to an executor that keeps output until it is confirmed: when, and how.
//!
//! In flow the events that the caller of a process was given, out flows `process/ack`, once for many of them. What was given
//! counts as received when the caller comes back for more. Where that part of the extension is not in force, nothing is sent.

use exedra_proto::ids::ProcessId;
use exedra_proto::method::PROCESS_ACK;
use exedra_proto::process::AckParams;

use crate::line::{Line, Up};

/// Output that is confirmed at once, in bytes: an eighth of what executors hand out unconfirmed.
const BATCH_BYTES: usize = 128 * 1024;
/// What an event counts beside its bytes, as executors count it.
const EVENT_BYTES: usize = 128;

/// What of one process is to be confirmed.
#[derive(Debug, Default)]
pub(crate) struct Receipts {
    /// The last event that was given.
    last: u64,
    bytes: usize,
    due: bool,
}

impl Receipts {
    /// The caller was given event `seq` of `bytes` size; nothing follows the `last` one.
    pub(crate) fn given(&mut self, seq: u64, bytes: usize, last: bool) {
        self.last = seq;
        self.bytes += bytes + EVENT_BYTES;
        self.due |= last || self.bytes >= BATCH_BYTES;
    }

    /// Confirms what was given, if it is time. Cancelled, it is done by the next call.
    pub(crate) async fn flush(&mut self, line: &Line, id: &ProcessId) {
        if !self.due {
            return;
        }
        if let Some(up) = line.now() {
            send(&up, id.clone(), self.last).await;
        }
        // What was lost with a connection is told right after the next was made.
        (self.bytes, self.due) = (0, false);
    }

    /// Whether everything was confirmed.
    pub(crate) fn is_settled(&self) -> bool {
        !self.due
    }
}

/// Tells `up`, if it wants to know, that everything up to `seq` has come.
pub(crate) async fn send(up: &Up, process_id: ProcessId, seq: u64) {
    if up.extension.ack && seq > 0 {
        // That the connection has ended is told by the other direction.
        let _ = up.client.notify_with(PROCESS_ACK, &AckParams { process_id, seq }).await;
    }
}
