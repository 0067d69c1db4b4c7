//! The gate: whether the ticket in a request is good, before anything is upgraded.
//!
//! In go the path segment, the query and the time (seconds since 1970), out come the ticket's claims or a
//! [`Rejection`]. A client's ticket opens one websocket: it is [claimed](Gate::claim) once, remembered until it expires,
//! and one from before the start of this rendezvous counts as used, because nobody here can tell. Times are whole
//! seconds, so a ticket of the very second of the start passes. It knows no connection; the query is never kept.

mod used;

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use exedra_proto::ticket::{Claims, KeyRing, Rejection, Role};
use serde::{Deserialize, Serialize};

use crate::limits::{MAX_QUERY, MAX_USED_TICKETS};
use used::{Claimed, UsedTickets};

/// Checks tickets.
#[derive(Debug)]
pub struct Gate {
    key_ring: Arc<RwLock<KeyRing>>,
    used: Mutex<UsedTickets>,
    started_at: u64,
}

/// What a gate knows of clients' tickets, for the one that comes after it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClaimedTickets {
    used: UsedTickets,
    /// Tickets from before count as used.
    started_at: u64,
}

impl Gate {
    /// Opens at `started_at`.
    pub fn new(key_ring: Arc<RwLock<KeyRing>>, started_at: u64) -> Self {
        Self::after(key_ring, ClaimedTickets { used: UsedTickets::new(MAX_USED_TICKETS), started_at })
    }

    /// Opens where another one closed.
    pub fn after(key_ring: Arc<RwLock<KeyRing>>, before: ClaimedTickets) -> Self {
        let ClaimedTickets { used, started_at } = before;
        Self { key_ring, used: Mutex::new(used), started_at }
    }

    /// What has been claimed until now.
    pub fn claimed(&self) -> ClaimedTickets {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner).clone();
        ClaimedTickets { used, started_at: self.started_at }
    }

    /// Checks the ticket in `query` of a request for `registration`, and claims it if it opens one websocket only. What it says,
    /// and the id of the key that signed it.
    ///
    /// # Errors
    /// Why the ticket is refused.
    pub fn claim(&self, registration: &str, query: &str, now: u64) -> Result<(Claims, String), Rejection> {
        if query.len() > MAX_QUERY {
            return Err(Rejection::MalformedQuery);
        }
        let (claims, key) = {
            let ring = self.key_ring.read().unwrap_or_else(PoisonError::into_inner);
            let (claims, key) = ring.verify_with_key(registration, query, now)?;
            (claims, key.id.clone())
        };
        if claims.role == Role::Executor {
            return Ok((claims, key));
        }
        if claims.issued_at < self.started_at {
            return Err(Rejection::Used);
        }
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        match used.claim(&claims.ticket_id, claims.expires_at, now) {
            Claimed::First => Ok((claims, key)),
            Claimed::Again => Err(Rejection::Used),
            Claimed::Full => Err(Rejection::Overloaded),
        }
    }

    /// The ticket was claimed and opened nothing: it may come again.
    pub fn unclaim(&self, claims: &Claims) {
        if claims.role == Role::Harness {
            let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
            used.forget(&claims.ticket_id, claims.expires_at);
        }
    }
}

#[cfg(test)]
mod tests {
    use exedra_proto::ids::{RegistrationId, TokenId};
    use exedra_proto::introduction::Client;
    use exedra_proto::ticket::{Shape, SigningKey};

    use super::*;

    fn gate() -> (Gate, impl Fn(Role, u64, &str) -> String) {
        let ring = KeyRing::new(vec![SigningKey::generate(0).unwrap()]);
        let sign = ring.clone();
        let ticket = move |role, issued_at, id: &str| {
            let claims = Claims {
                registration: RegistrationId::new("r"),
                role,
                shape: Shape::Pair,
                epoch: 1,
                token: TokenId::new("t"),
                issued_at,
                expires_at: issued_at + 60,
                ticket_id: id.into(),
                client: Client::default(),
            };
            sign.sign("", &claims).unwrap().expose().split_once('?').unwrap().1.to_owned()
        };
        (Gate::new(Arc::new(RwLock::new(ring)), 1_000), ticket)
    }

    #[test]
    fn a_clients_ticket_opens_one_websocket() {
        let (gate, ticket) = gate();
        let query = ticket(Role::Harness, 1_000, "a");
        let (claims, _) = gate.claim("r", &query, 1_010).unwrap();
        assert_eq!(gate.claim("r", &query, 1_010).map(drop), Err(Rejection::Used));
        gate.unclaim(&claims);
        assert!(gate.claim("r", &query, 1_059).is_ok());
        assert_eq!(gate.claim("r", &query, 1_060).map(drop), Err(Rejection::Expired));
        assert!(gate.claim("r", &ticket(Role::Harness, 1_000, "b"), 1_010).is_ok());
    }

    #[test]
    fn a_clients_ticket_from_before_the_start_counts_as_used() {
        let (gate, ticket) = gate();
        assert_eq!(gate.claim("r", &ticket(Role::Harness, 999, "a"), 1_001).map(drop), Err(Rejection::Used));
    }

    #[test]
    fn a_gate_that_opens_where_another_closed_knows_what_that_one_knew() {
        let (gate, ticket) = gate();
        let (used, unused) = (ticket(Role::Harness, 1_000, "a"), ticket(Role::Harness, 1_000, "b"));
        gate.claim("r", &used, 1_010).unwrap();
        let text = serde_json::to_string(&gate.claimed()).unwrap();
        let next = Gate::after(Arc::clone(&gate.key_ring), serde_json::from_str(&text).unwrap());
        assert_eq!(next.claim("r", &used, 1_020).map(drop), Err(Rejection::Used));
        assert!(next.claim("r", &unused, 1_020).is_ok());
        assert_eq!(next.claim("r", &ticket(Role::Harness, 999, "c"), 1_020).map(drop), Err(Rejection::Used));
    }

    #[test]
    fn an_executors_ticket_opens_many_also_from_before_the_start() {
        let (gate, ticket) = gate();
        let query = ticket(Role::Executor, 990, "a");
        for _ in 0..3 {
            assert!(gate.claim("r", &query, 1_001).is_ok());
        }
    }

    #[test]
    fn what_is_no_ticket_is_refused() {
        let (gate, ticket) = gate();
        let query = ticket(Role::Executor, 1_000, "a");
        assert_eq!(gate.claim("s", &query, 1_001).map(drop), Err(Rejection::InvalidSignature));
        let long = format!("{query}&x={}", "y".repeat(MAX_QUERY));
        assert_eq!(gate.claim("r", &long, 1_001).map(drop), Err(Rejection::MalformedQuery));
        assert_eq!(gate.claim("r", "", 1_001).map(drop), Err(Rejection::MissingRole));
    }
}
