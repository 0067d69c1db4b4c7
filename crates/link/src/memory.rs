//! A pair of connections inside one process, for tests: what one sends, the other receives.
//!
//! The same queues as on a socket, so the same back-pressure: a side that does not receive makes the other one wait.

use exedra_proto::close::CloseReason;

use crate::connection::{Closing, Connection, Ends, Outgoing};
use crate::error::Disconnect;
use crate::message::Message;
use crate::queue;

/// Two connections that are each other's peer.
pub fn pair() -> (Connection, Connection) {
    let (a_tx, a_rx) = queue::channel(WIRE_BYTES);
    let (b_tx, b_rx) = queue::channel(WIRE_BYTES);
    let left = Connection::spawn(|ends| drive(ends, a_tx, b_rx));
    let right = Connection::spawn(|ends| drive(ends, b_tx, a_rx));
    (left, right)
}

/// Room between the two drivers, in bytes, as a socket's buffers would give: when it is full, the sending driver waits.
const WIRE_BYTES: usize = 64 * 1024;

#[derive(Debug)]
enum Parcel {
    Message(Message),
    Close(CloseReason),
}

async fn drive(ends: Ends, wire_out: queue::Tx<Parcel>, wire_in: queue::Rx<Parcel>) -> Disconnect {
    let Ends { outgoing, incoming, close, probes, .. } = ends;
    // Whoever asks learns at once that this peer cannot be asked.
    drop(probes);
    tokio::select! {
        reason = read(wire_in, incoming) => reason,
        reason = write(outgoing, close, wire_out) => reason,
    }
}

async fn read(mut wire: queue::Rx<Parcel>, incoming: queue::Tx<Message>) -> Disconnect {
    loop {
        match wire.recv().await {
            Some(Parcel::Message(message)) => {
                let bytes = message.len();
                if incoming.send(message, bytes).await.is_err() {
                    return Disconnect::Dropped;
                }
            }
            Some(Parcel::Close(reason)) => {
                let (code, text) = (Some(reason.code()), reason.text().to_owned());
                return Disconnect::PeerClosed { code, reason: Some(reason), text };
            }
            None => return Disconnect::Lost,
        }
    }
}

async fn write(outgoing: queue::Rx<Outgoing>, close: Closing, wire: queue::Tx<Parcel>) -> Disconnect {
    let overdue = close.clone();
    tokio::select! {
        biased;
        reason = pump(outgoing, &close, wire) => Disconnect::LocalClose(reason),
        reason = overdue.overdue() => Disconnect::LocalClose(reason),
    }
}

async fn pump(mut outgoing: queue::Rx<Outgoing>, close: &Closing, wire: queue::Tx<Parcel>) -> CloseReason {
    loop {
        let message = tokio::select! {
            biased;
            message = outgoing.recv() => message,
            reason = close.wanted() => {
                let _ = wire.send(Parcel::Close(reason), 0).await;
                return reason;
            }
        };
        let sent = match message.map(Outgoing::message) {
            Some(None) => continue,
            Some(Some(message)) => {
                let bytes = message.len();
                wire.send(Parcel::Message(message), bytes).await
            }
            None => Err(queue::Closed),
        };
        if sent.is_err() {
            // The reading half learns why the other side is gone.
            return std::future::pending().await;
        }
    }
}
