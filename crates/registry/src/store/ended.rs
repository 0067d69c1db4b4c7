//! What a store says of tokens that are over, or of whose secrets one is: plain values.

use exedra_proto::ids::TokenId;

use super::TokenRecord;

/// A token that ended, or a secret of one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ended {
    /// Which.
    pub token: TokenId,
    /// How.
    pub how: End,
}

/// How a token ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum End {
    /// Somebody revoked it.
    Revoked,
    /// Its time is over.
    Expired,
    /// It is good with another secret; the one until then was good until this second.
    Renewed(u64),
}

impl TokenRecord {
    /// How it has ended by `now`, if it has.
    pub fn ended(&self, now: u64) -> Option<End> {
        if self.revoked_at.is_some() {
            return Some(End::Revoked);
        }
        self.expires_at.is_some_and(|at| at <= now).then_some(End::Expired)
    }
}
