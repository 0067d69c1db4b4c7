//! A meeting of the shape *streams*: one executor, and many clients at once.
//!
//! A client's place is kept from the check of its ticket on. A client that ends leaves the others where they are; the
//! meeting ends with the executor. Where all places are taken, one whose token has less than its share has one of the token
//! that has most, from the moment on when it is really there. Which frame goes where is not decided here.

use std::collections::BTreeMap;

use exedra_proto::ids::TokenId;
use exedra_proto::ticket::Rejection;

use super::ConnectionId;
use crate::limits::MAX_CLIENTS;
use crate::shares::is_below_share;

/// A connected executor and those that it serves.
#[derive(Debug)]
pub struct Streams {
    executor: ConnectionId,
    epoch: u64,
    clients: BTreeMap<ConnectionId, Place>,
}

#[derive(Debug)]
struct Place {
    token: TokenId,
    /// Its client is there; else it is kept for it.
    joined: bool,
}

impl Streams {
    /// The executor waits.
    pub fn new(executor: ConnectionId, epoch: u64) -> Self {
        Self { executor, epoch, clients: BTreeMap::new() }
    }

    /// The executor's connection.
    pub fn executor(&self) -> ConnectionId {
        self.executor
    }

    /// The clients, those whose place is only kept included.
    pub fn clients(&self) -> impl Iterator<Item = ConnectionId> + '_ {
        self.clients.keys().copied()
    }

    /// Whether a client of `token` with a ticket of `epoch` may come.
    ///
    /// # Errors
    /// The executor that the ticket speaks of is not here yet, or serves as many as it may, and this token has its share.
    pub fn check(&self, epoch: u64, token: &TokenId) -> Result<(), Rejection> {
        if epoch != self.epoch {
            return Err(Rejection::ExecutorAway);
        }
        if self.clients.len() < MAX_CLIENTS {
            return Ok(());
        }
        let held = held(self.clients.values());
        let own = held.get(token).copied().unwrap_or_default();
        let others = held.len() - usize::from(own > 0);
        if is_below_share(own, MAX_CLIENTS, others) { Ok(()) } else { Err(Rejection::Overloaded) }
    }

    /// Keeps a place for `client`.
    pub fn reserve(&mut self, client: ConnectionId, token: &TokenId) {
        self.clients.insert(client, Place { token: token.clone(), joined: false });
    }

    /// `client` is gone.
    pub fn release(&mut self, client: ConnectionId) {
        self.clients.remove(&client);
    }

    /// `client` takes the place that was kept for it: the executor it meets.
    pub fn join(&mut self, client: ConnectionId) -> Option<ConnectionId> {
        self.clients.get_mut(&client)?.joined = true;
        Some(self.executor)
    }

    /// The client that gives its place to another, where too many are there: the newest of the token that has most.
    pub fn yielding(&self) -> Option<ConnectionId> {
        let joined = || self.clients.iter().filter(|(_, place)| place.joined);
        if joined().count() <= MAX_CLIENTS {
            return None;
        }
        let (greediest, _) = held(joined().map(|(_, place)| place)).into_iter().max_by_key(|(_, held)| *held)?;
        joined().filter(|(_, place)| place.token == *greediest).map(|(id, _)| *id).next_back()
    }
}

/// How many of these places each token has.
fn held<'a>(places: impl Iterator<Item = &'a Place>) -> BTreeMap<&'a TokenId, usize> {
    let mut held = BTreeMap::new();
    for place in places {
        *held.entry(&place.token).or_default() += 1;
    }
    held
}
