//! Which stream belongs to whom, and who has to wait: the rules of one executor's streams. Pure.
//!
//! In flow the heads of frames, the bytes that queue up and drain, and the time; out flow where a frame goes, or why it
//! goes nowhere. An id belongs to the client that used it first, until that client is gone. Who may have how many streams,
//! and how fast, is decided in `begin`. It knows no socket, no clock and no payload.

mod begin;

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use exedra_proto::frame::scan::Kind;
use exedra_proto::frame::{StreamId, reset};
use exedra_proto::ids::TokenId;

use super::stall::Stall;
use crate::conduct::Standing;
use crate::limits::{EXECUTOR_QUEUE, MAX_STREAMS};
use crate::router::ConnectionId;
use crate::shares::Pace;

/// Where a frame goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// To the executor, if it came from a client; to this client, if it came from the executor.
    To(ConnectionId),
    /// To the executor, and it is the first one of its stream; first of all another stream is over, if one gave way to it.
    New(ConnectionId, Option<Yielded>),
    /// Nowhere, and its sender knows why.
    Drop,
    /// Nowhere, and its sender is told by a reset.
    Refuse(&'static str),
}

/// A stream that gave way to another: it is over for the executor, and for whoever had it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Yielded {
    /// Whose it was.
    pub owner: ConnectionId,
    /// Its id.
    pub stream: StreamId,
}

/// The streams of one executor.
#[derive(Debug)]
pub struct Switch {
    executor: ConnectionId,
    /// How many may be open at once.
    room: usize,
    streams: HashMap<StreamId, Stream>,
    open: usize,
    clients: BTreeMap<ConnectionId, Client>,
    /// Those that clients have, and those that used up a share of the rate a moment ago.
    tokens: BTreeMap<TokenId, Holder>,
    queued: usize,
    /// Clients that have more waiting for them than they may.
    full: usize,
    /// All halls together hold too much.
    pressed: bool,
    /// New streams.
    pace: Pace,
    stall: Duration,
}

#[derive(Debug)]
struct Stream {
    owner: ConnectionId,
    open: bool,
    /// The executor has sent something in it.
    answered: bool,
}

#[derive(Debug)]
struct Client {
    token: TokenId,
    /// All that it used, in their order.
    streams: Vec<StreamId>,
    open: usize,
    pace: Pace,
    queued: usize,
    /// How much may wait.
    room: usize,
    stall: Stall,
}

/// A token, and what its clients have together.
#[derive(Debug, Default)]
struct Holder {
    clients: usize,
    open: usize,
    /// New streams beyond those that all may begin together.
    pace: Pace,
    /// Whether it has kept others waiting.
    standing: Standing,
}

impl Client {
    fn is_full(&self) -> bool {
        self.queued >= self.room
    }
}

impl Switch {
    /// No streams yet. Who is in the way for `stall` without moving has to go.
    pub fn new(executor: ConnectionId, stall: Duration) -> Self {
        Self::with_room(executor, stall, MAX_STREAMS)
    }

    fn with_room(executor: ConnectionId, stall: Duration, room: usize) -> Self {
        Self {
            executor,
            room,
            streams: HashMap::new(),
            open: 0,
            clients: BTreeMap::new(),
            tokens: BTreeMap::new(),
            queued: 0,
            full: 0,
            pressed: false,
            pace: Pace::default(),
            stall,
        }
    }

    /// A client is there, with this token, which stands like this.
    pub fn join(&mut self, client: ConnectionId, token: TokenId, standing: Standing, now: Instant) {
        self.tokens.retain(|_, holder| holder.clients > 0 || !holder.pace.is_unused(now));
        let holder = self.tokens.entry(token.clone()).or_default();
        holder.clients += 1;
        holder.standing = standing;
        let (pace, stall, room) = (Pace::default(), Stall::default(), standing.queue(self.stall, now));
        self.clients.insert(client, Client { token, streams: Vec::new(), open: 0, pace, queued: 0, room, stall });
    }

    /// A client is gone, and what was queued for it does not count any more: the streams that it leaves open.
    pub fn leave(&mut self, client: ConnectionId) -> Vec<StreamId> {
        let Some(gone) = self.clients.remove(&client) else { return Vec::new() };
        self.queued -= gone.queued;
        self.full -= usize::from(gone.is_full());
        if let Some(holder) = self.tokens.get_mut(&gone.token) {
            holder.clients -= 1;
            holder.open -= gone.open;
        }
        self.open -= gone.open;
        let left = gone.streams.into_iter();
        left.filter(|id| self.streams.remove(id).is_some_and(|stream| stream.open)).collect()
    }

    /// A frame of a client.
    pub fn of_client(&mut self, client: ConnectionId, id: &StreamId, kind: Kind, now: Instant) -> Route {
        let is_reset = kind == Kind::Reset;
        match self.streams.get(id) {
            _ if !self.clients.contains_key(&client) => Route::Drop,
            Some(stream) if stream.owner != client && is_reset => Route::Drop,
            Some(stream) if stream.owner != client => Route::Refuse(reset::STREAM_TAKEN),
            Some(stream) if !stream.open => Route::Drop,
            Some(_) => {
                if is_reset {
                    self.close(id);
                }
                Route::To(self.executor)
            }
            None if is_reset => Route::Drop,
            None => self.begin(client, id, now).unwrap_or_else(Route::Refuse),
        }
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
        let owner = stream.owner;
        stream.answered = true;
        if is_reset {
            self.close(id);
        }
        Route::To(owner)
    }

    /// The stream is over; its id stays its owner's.
    fn close(&mut self, id: &StreamId) {
        let Some(stream) = self.streams.get_mut(id).filter(|stream| stream.open) else { return };
        stream.open = false;
        self.open -= 1;
        let Some(client) = self.clients.get_mut(&stream.owner) else { return };
        client.open -= 1;
        if let Some(holder) = self.tokens.get_mut(&client.token) {
            holder.open -= 1;
        }
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
            let standing = self.tokens.get(&client.token).map(|holder| holder.standing).unwrap_or_default();
            match client.stall.poll(blocks, standing.patience(self.stall, now), now) {
                Some(due) if due <= now => return (None, Some(*id)),
                Some(due) => next = Some(next.map_or(due, |next| next.min(due))),
                None => {}
            }
        }
        (next, None)
    }

    /// How long this client may keep the others waiting.
    pub fn patience(&self, client: ConnectionId, now: Instant) -> Duration {
        let holder = self.clients.get(&client).and_then(|client| self.tokens.get(&client.token));
        holder.map_or(self.stall, |holder| holder.standing.patience(self.stall, now))
    }

    /// A token stands like this from now on.
    pub fn stands(&mut self, token: &TokenId, standing: Standing) {
        if let Some(holder) = self.tokens.get_mut(token) {
            holder.standing = standing;
        }
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
