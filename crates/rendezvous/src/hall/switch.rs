//! Which stream belongs to whom, and who has to wait: the rules of one executor's streams. Pure.
//!
//! In flow the heads of frames, the bytes that queue up and drain, and the time; out flow where a frame goes, or why it
//! goes nowhere. An id belongs to the client that used it first, until that client is gone. It knows no socket, no clock
//! and no payload.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use exedra_proto::frame::scan::Kind;
use exedra_proto::frame::{StreamId, reset};

use super::stall::Stall;
use crate::limits::{
    CLIENT_QUEUE, EXECUTOR_QUEUE, MAX_STREAMS, MAX_STREAMS_SEEN, NEW_STREAMS_BURST, NEW_STREAMS_PAUSE,
};
use crate::router::ConnectionId;

/// Where a frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// To the executor, if it came from a client; to this client, if it came from the executor.
    To(ConnectionId),
    /// To the executor, and it is the first one of its stream.
    New(ConnectionId),
    /// Nowhere, and its sender knows why.
    Drop,
    /// Nowhere, and its sender is told by a reset.
    Refuse(&'static str),
}

/// The streams of one executor.
#[derive(Debug)]
pub struct Switch {
    executor: ConnectionId,
    streams: HashMap<StreamId, Stream>,
    open: usize,
    clients: BTreeMap<ConnectionId, Client>,
    queued: usize,
    /// Clients that have more waiting for them than they may.
    full: usize,
    /// All halls together hold too much.
    pressed: bool,
    /// When the next new stream would be too many, were there no burst.
    new_streams: Option<Instant>,
    stall: Duration,
}

#[derive(Debug)]
struct Stream {
    owner: ConnectionId,
    open: bool,
}

#[derive(Debug, Default)]
struct Client {
    streams: Vec<StreamId>,
    queued: usize,
    stall: Stall,
}

impl Client {
    fn is_full(&self) -> bool {
        self.queued >= CLIENT_QUEUE
    }
}

impl Switch {
    /// No streams yet. Who is in the way for `stall` without moving has to go.
    pub fn new(executor: ConnectionId, stall: Duration) -> Self {
        let (streams, clients) = (HashMap::new(), BTreeMap::new());
        Self { executor, streams, open: 0, clients, queued: 0, full: 0, pressed: false, new_streams: None, stall }
    }

    /// A client is there.
    pub fn join(&mut self, client: ConnectionId) {
        self.clients.entry(client).or_default();
    }

    /// A client is gone, and what was queued for it does not count any more: the streams that it leaves open.
    pub fn leave(&mut self, client: ConnectionId) -> Vec<StreamId> {
        let Some(gone) = self.clients.remove(&client) else { return Vec::new() };
        self.queued -= gone.queued;
        self.full -= usize::from(gone.is_full());
        let left = gone.streams.into_iter();
        let open = left.filter(|id| self.streams.remove(id).is_some_and(|stream| stream.open)).collect::<Vec<_>>();
        self.open -= open.len();
        open
    }

    /// A frame of a client.
    pub fn of_client(&mut self, client: ConnectionId, id: &StreamId, kind: Kind, now: Instant) -> Route {
        let Some(from) = self.clients.get_mut(&client) else { return Route::Drop };
        let is_reset = kind == Kind::Reset;
        match self.streams.get_mut(id) {
            Some(stream) if stream.owner != client => {
                return if is_reset { Route::Drop } else { Route::Refuse(reset::STREAM_TAKEN) };
            }
            Some(stream) if !stream.open => return Route::Drop,
            Some(stream) => {
                if is_reset {
                    stream.open = false;
                    self.open -= 1;
                }
                return Route::To(self.executor);
            }
            None if is_reset => return Route::Drop,
            None => {}
        }
        if self.open >= MAX_STREAMS || from.streams.len() >= MAX_STREAMS_SEEN {
            return Route::Refuse(reset::TOO_MANY_STREAMS);
        }
        let due = self.new_streams.map_or(now, |due| due.max(now));
        if due.saturating_duration_since(now) >= NEW_STREAMS_PAUSE * NEW_STREAMS_BURST {
            return Route::Refuse(reset::TOO_FAST);
        }
        self.new_streams = Some(due + NEW_STREAMS_PAUSE);
        from.streams.push(id.clone());
        self.streams.insert(id.clone(), Stream { owner: client, open: true });
        self.open += 1;
        Route::New(self.executor)
    }

    /// A frame of the executor.
    pub fn of_executor(&mut self, id: &StreamId, kind: Kind) -> Route {
        let is_reset = kind == Kind::Reset;
        let Some(stream) = self.streams.get_mut(id) else {
            return if is_reset { Route::Drop } else { Route::Refuse(reset::UNKNOWN_STREAM) };
        };
        if !stream.open {
            return Route::Drop;
        }
        if is_reset {
            stream.open = false;
            self.open -= 1;
        }
        Route::To(stream.owner)
    }

    /// `bytes` wait to be written to `client`.
    pub fn queued(&mut self, client: ConnectionId, bytes: usize) {
        if let Some(client) = self.clients.get_mut(&client) {
            let before = client.is_full();
            client.queued += bytes;
            self.queued += bytes;
            self.full += usize::from(client.is_full() && !before);
        }
    }

    /// `bytes` of them were written.
    pub fn drained(&mut self, client: ConnectionId, bytes: usize) {
        if let Some(client) = self.clients.get_mut(&client) {
            debug_assert!(bytes <= client.queued);
            let before = client.is_full();
            client.queued -= bytes;
            self.queued -= bytes;
            self.full -= usize::from(before && !client.is_full());
            client.stall.moved(bytes);
        }
    }

    /// All halls together hold too much, or not: then nothing may wait when the executor is read.
    pub fn press(&mut self, pressed: bool) {
        self.pressed = pressed;
    }

    fn room(&self) -> usize {
        if self.pressed { 1 } else { EXECUTOR_QUEUE }
    }

    /// Whether the executor may be read: no client has more waiting for it than it may, nor all together.
    pub fn may_read_executor(&self) -> bool {
        self.full == 0 && self.queued < self.room()
    }

    /// Looks who keeps the executor from being read. When to look again, and whose time is up.
    pub fn poll_stalls(&mut self, now: Instant) -> (Option<Instant>, Option<ConnectionId>) {
        let full = self.queued >= self.room();
        let mut next = None::<Instant>;
        for (id, client) in &mut self.clients {
            let blocks = client.is_full() || full && client.queued > 0;
            match client.stall.poll(blocks, self.stall, now) {
                Some(due) if due <= now => return (None, Some(*id)),
                Some(due) => next = Some(next.map_or(due, |next| next.min(due))),
                None => {}
            }
        }
        (next, None)
    }

    /// Bytes that wait to be written to clients.
    pub fn waiting(&self) -> usize {
        self.queued
    }

    /// Streams that are open.
    pub fn open(&self) -> usize {
        self.open
    }
}

#[cfg(test)]
mod tests;
