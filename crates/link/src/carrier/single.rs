//! The client's side of relay frames: one stream of its own on a websocket of its own.
//!
//! In flows the websocket, out flows the connection in its one stream. When either ends, so does the other.

use exedra_proto::close::CloseReason;
use exedra_proto::frame::StreamId;
use tokio::sync::oneshot;

use super::relay::{Line, Relay};
use crate::connection::{Connection, Ends};
use crate::error::Disconnect;
use crate::mux::Limits;

/// Opens the stream `id` on `websocket`.
pub(super) fn open(websocket: Connection, id: StreamId) -> Connection {
    Connection::spawn(move |ends| async move {
        let told = ends.told.clone();
        let Ends { outgoing, incoming, close, probes, .. } = ends;
        // Whoever asks learns at once that this peer cannot be asked.
        drop(probes);
        let overdue = close.clone();
        let (end, ended) = oneshot::channel();
        let (line, _here) = Line::new(outgoing, incoming, close, end);
        let run = async {
            let told_end = async {
                let reason = ended.await.unwrap_or(Disconnect::Dropped);
                told.tell(reason.clone());
                reason
            };
            let ((), reason) = tokio::join!(Relay::harness(websocket, Limits::default(), id, line).run(), told_end);
            reason
        };
        tokio::select! {
            biased;
            reason = run => reason,
            reason = overdue.overdue() => Disconnect::LocalClose(reason),
        }
    })
}

/// How a client's websocket is closed once its stream has ended for `reason`.
pub(super) fn goodbye(reason: &Disconnect) -> CloseReason {
    match reason {
        Disconnect::LocalClose(ours) => *ours,
        _ => CloseReason::PeerDone,
    }
}
