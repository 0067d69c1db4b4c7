//! A meeting of the shape *streams*: one executor, and many clients at once.
//!
//! A client's place is kept from the check of its ticket on. A client that ends leaves the others where they are; the
//! meeting ends with the executor. Which frame goes where is not decided here.

use std::collections::BTreeSet;

use exedra_proto::ticket::Rejection;

use super::ConnectionId;
use crate::limits::MAX_CLIENTS;

/// A connected executor and those that it serves.
#[derive(Debug)]
pub struct Streams {
    executor: ConnectionId,
    epoch: u64,
    clients: BTreeSet<ConnectionId>,
}

impl Streams {
    /// The executor waits.
    pub fn new(executor: ConnectionId, epoch: u64) -> Self {
        Self { executor, epoch, clients: BTreeSet::new() }
    }

    /// The executor's connection.
    pub fn executor(&self) -> ConnectionId {
        self.executor
    }

    /// The clients, those whose place is only kept included.
    pub fn clients(&self) -> impl Iterator<Item = ConnectionId> + '_ {
        self.clients.iter().copied()
    }

    /// Whether a client with a ticket of `epoch` may come.
    ///
    /// # Errors
    /// The executor that the ticket speaks of is not here yet, or serves as many as it may.
    pub fn check(&self, epoch: u64) -> Result<(), Rejection> {
        if epoch != self.epoch {
            return Err(Rejection::ExecutorAway);
        }
        if self.clients.len() < MAX_CLIENTS { Ok(()) } else { Err(Rejection::Overloaded) }
    }

    /// Keeps a place for `client`.
    pub fn reserve(&mut self, client: ConnectionId) {
        self.clients.insert(client);
    }

    /// `client` is gone.
    pub fn release(&mut self, client: ConnectionId) {
        self.clients.remove(&client);
    }

    /// `client` takes the place that was kept for it: the executor it meets.
    pub fn join(&self, client: ConnectionId) -> Option<ConnectionId> {
        self.clients.contains(&client).then_some(self.executor)
    }
}
