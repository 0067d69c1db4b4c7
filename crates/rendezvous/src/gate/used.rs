//! The memory of tickets that opened their one websocket.
//!
//! Ids and expiry times in (seconds since 1970), verdicts out. It keeps an id until its ticket expires, and no more
//! than its limit in all.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};

/// Ids by the second at which their tickets expire.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UsedTickets {
    by_expiry: BTreeMap<u64, HashSet<Box<str>>>,
    len: usize,
    max: usize,
}

/// What a claim met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// The ticket is its bearer's.
    First,
    /// It was claimed before.
    Again,
    /// There is no more room to remember.
    Full,
}

impl UsedTickets {
    /// Remembers at most `max` tickets.
    pub fn new(max: usize) -> Self {
        Self { by_expiry: BTreeMap::new(), len: 0, max }
    }

    /// Claims the ticket `id`, good until `expires_at`.
    pub fn claim(&mut self, id: &str, expires_at: u64, now: u64) -> Claimed {
        while let Some(expired) = self.by_expiry.first_entry().filter(|entry| *entry.key() <= now) {
            self.len -= expired.remove().len();
        }
        let full = self.len >= self.max;
        let ids = self.by_expiry.entry(expires_at).or_default();
        if ids.contains(id) {
            return Claimed::Again;
        }
        if full {
            return Claimed::Full;
        }
        ids.insert(id.into());
        self.len += 1;
        Claimed::First
    }

    /// Forgets a claim.
    pub fn forget(&mut self, id: &str, expires_at: u64) {
        if self.by_expiry.get_mut(&expires_at).is_some_and(|ids| ids.remove(id)) {
            self.len -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_kept_until_its_ticket_expires_and_not_longer() {
        let mut used = UsedTickets::new(100);
        assert_eq!(used.claim("a", 60, 0), Claimed::First);
        assert_eq!(used.claim("a", 60, 59), Claimed::Again);
        for now in 0..10_000 {
            assert_eq!(used.claim(&now.to_string(), now + 60, now), Claimed::First);
        }
        assert_eq!(used.len, 60);
        assert_eq!(used.by_expiry.len(), 60);
    }

    #[test]
    fn a_full_memory_claims_nothing_and_forgets_nothing() {
        let mut used = UsedTickets::new(2);
        assert_eq!(used.claim("a", 60, 0), Claimed::First);
        assert_eq!(used.claim("b", 61, 0), Claimed::First);
        assert_eq!(used.claim("c", 61, 0), Claimed::Full);
        assert_eq!(used.claim("a", 60, 0), Claimed::Again);
        used.forget("a", 60);
        assert_eq!(used.claim("c", 61, 0), Claimed::First);
        assert_eq!(used.claim("d", 122, 61), Claimed::First);
    }
}
