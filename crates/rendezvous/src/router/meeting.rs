//! A meeting of either shape, and what the router asks of both.

use exedra_proto::ids::TokenId;
use exedra_proto::ticket::{Rejection, Shape};

use super::ConnectionId;
use super::pair::Pair;
use super::streams::Streams;

/// A connected executor and its clients.
#[derive(Debug)]
pub enum Meeting {
    /// One client at a time.
    Pair(Pair),
    /// Many.
    Streams(Streams),
}

impl Meeting {
    /// The executor waits.
    pub fn new(shape: Shape, executor: ConnectionId, epoch: u64) -> Self {
        match shape {
            Shape::Pair => Self::Pair(Pair::new(executor, epoch)),
            Shape::Streams => Self::Streams(Streams::new(executor, epoch)),
        }
    }

    /// The executor's connection.
    pub fn executor(&self) -> ConnectionId {
        match self {
            Self::Pair(pair) => pair.executor(),
            Self::Streams(streams) => streams.executor(),
        }
    }

    /// The clients, those whose place is only kept included.
    pub fn clients(&self) -> Vec<ConnectionId> {
        match self {
            Self::Pair(pair) => pair.client().into_iter().collect(),
            Self::Streams(streams) => streams.clients().collect(),
        }
    }

    /// The client that has the executor to itself.
    pub fn holder(&self) -> Option<ConnectionId> {
        match self {
            Self::Pair(pair) => pair.joined(),
            Self::Streams(_) => None,
        }
    }

    /// Whether no client is here or on its way.
    pub fn is_idle(&self) -> bool {
        match self {
            Self::Pair(pair) => pair.client().is_none(),
            Self::Streams(streams) => streams.clients().next().is_none(),
        }
    }

    /// Whether the end of this connection ends the meeting.
    pub fn ends_with(&self, connection: ConnectionId) -> bool {
        match self {
            Self::Pair(pair) => pair.executor() == connection || pair.joined() == Some(connection),
            Self::Streams(streams) => streams.executor() == connection,
        }
    }

    /// Whether a client with a ticket like this may have a place.
    ///
    /// # Errors
    /// The executor that the ticket speaks of is not here, is held, or serves as many as it may.
    pub fn check(&self, shape: Shape, epoch: u64, token: &TokenId) -> Result<(), Rejection> {
        match (self, shape) {
            (Self::Pair(pair), Shape::Pair) => pair.check(epoch),
            (Self::Streams(streams), Shape::Streams) => streams.check(epoch, token),
            _ => Err(Rejection::ExecutorAway),
        }
    }

    /// Keeps a place for `client`, of this token.
    pub fn reserve(&mut self, client: ConnectionId, token: &TokenId) {
        match self {
            Self::Pair(pair) => pair.reserve(client),
            Self::Streams(streams) => streams.reserve(client, token),
        }
    }

    /// Gives up the place of `client`, if its end does not end the meeting.
    pub fn release(&mut self, client: ConnectionId) {
        match self {
            Self::Pair(pair) => pair.release(client),
            Self::Streams(streams) => streams.release(client),
        }
    }

    /// `client` takes the place that was kept for it: the executor it meets.
    pub fn join(&mut self, client: ConnectionId) -> Option<ConnectionId> {
        match self {
            Self::Pair(pair) => pair.join(client),
            Self::Streams(streams) => streams.join(client),
        }
    }

    /// The client that has to give its place to one that has joined, where there are too many.
    pub fn yielding(&self) -> Option<ConnectionId> {
        match self {
            Self::Pair(_) => None,
            Self::Streams(streams) => streams.yielding(),
        }
    }

    /// Whether the executor is held once a client has joined.
    pub fn is_exclusive(&self) -> bool {
        matches!(self, Self::Pair(_))
    }
}
