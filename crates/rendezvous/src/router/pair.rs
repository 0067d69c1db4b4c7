//! A meeting of the shape *pair*: one executor, and one client at a time.
//!
//! The client's place is kept from the check of its ticket on, so that a second one is told so before its upgrade. The
//! meeting ends with either of the two. It decides; the router carries the decision to the connections.

use exedra_proto::ticket::Rejection;

use super::ConnectionId;

/// A connected executor and whoever holds it.
#[derive(Debug)]
pub struct Pair {
    executor: ConnectionId,
    epoch: u64,
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Free,
    Kept(ConnectionId),
    Joined(ConnectionId),
}

impl Pair {
    /// The executor waits.
    pub fn new(executor: ConnectionId, epoch: u64) -> Self {
        Self { executor, epoch, place: Place::Free }
    }

    /// The executor's connection.
    pub fn executor(&self) -> ConnectionId {
        self.executor
    }

    /// The client, even if only its place is kept.
    pub fn client(&self) -> Option<ConnectionId> {
        match self.place {
            Place::Free => None,
            Place::Kept(client) | Place::Joined(client) => Some(client),
        }
    }

    /// The client that messages pass to.
    pub fn joined(&self) -> Option<ConnectionId> {
        match self.place {
            Place::Joined(client) => Some(client),
            _ => None,
        }
    }

    /// Whether a client with a ticket of `epoch` may have the place.
    ///
    /// # Errors
    /// The executor that the ticket speaks of is not here yet, or held.
    pub fn check(&self, epoch: u64) -> Result<(), Rejection> {
        if epoch != self.epoch {
            return Err(Rejection::ExecutorAway);
        }
        if self.place == Place::Free { Ok(()) } else { Err(Rejection::ExecutorBusy) }
    }

    /// Keeps the place for `client`.
    pub fn reserve(&mut self, client: ConnectionId) {
        self.place = Place::Kept(client);
    }

    /// Gives up the place kept for `client`; nothing, if it has another or has joined.
    pub fn release(&mut self, client: ConnectionId) {
        if self.place == Place::Kept(client) {
            self.place = Place::Free;
        }
    }

    /// `client` takes the place that was kept for it: the executor it meets.
    pub fn join(&mut self, client: ConnectionId) -> Option<ConnectionId> {
        if self.place != Place::Kept(client) {
            return None;
        }
        self.place = Place::Joined(client);
        Some(self.executor)
    }
}
