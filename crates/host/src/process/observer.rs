//! Whoever watches what processes do, beside the peer that they run for: an audit, for instance.
//!
//! In flow pieces of output as they are read, and ends, in the order of the process's own events; nothing flows out but
//! whether more may be read. Knows no peer and no session.

use std::fmt;
use std::task::{Context, Poll};

use bytes::Bytes;
use exedra_proto::ids::ProcessId;
use exedra_proto::limits::Limit;
use exedra_proto::process::OutputStream;

/// Told of everything that the processes of one table write, and of how they end. Calls come from the runtime's threads
/// and must not block.
pub trait Observer: fmt::Debug + Send + Sync {
    /// A piece of output was read.
    fn output(&self, process: &ProcessId, stream: OutputStream, bytes: &Bytes);

    /// The child was reaped, after it was ended for `limit` if it was. `last`: its outputs have ended too, and
    /// [`Self::closed`] follows at once.
    fn exited(&self, process: &ProcessId, code: i32, limit: Option<Limit>, last: bool);

    /// Exited, and end of file on every output.
    fn closed(&self, process: &ProcessId);

    /// Whether more output may be read. While it is pending, the pipes are not read and the commands wait.
    fn poll_room(&self, context: &mut Context<'_>) -> Poll<()> {
        let _ = context;
        Poll::Ready(())
    }
}
