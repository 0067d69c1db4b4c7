//! Tokens: what they look like, what they are kept as, and what they allow.
//!
//! A token is `exedra_`, the letter of its role (`x` executor, `c` client, `a` admin, `j` join), `_`, 43 base62 digits that hold
//! 256 random bits, and 6 that hold a checksum over all before. Secret scanners match it by
//! `\bexedra_[xcaj]_[0-9A-Za-z]{49}\b` and can check the sum without asking anybody. Only the SHA-256 of the text is kept;
//! what a token may do stands in its record, and its letter is for people. Knows no store and no HTTP.

mod format;
mod labels;
mod lifetime;
mod pattern;

use std::fmt;

use serde::Serialize;

pub use exedra_proto::rights::{InvalidRights, Right, Rights};
pub use format::{TokenHash, generate, is_well_formed, new_id};
pub use labels::{InvalidLabels, Labels};
pub use lifetime::{InvalidLifetime, parse_lifetime};
pub(crate) use pattern::matches;
pub use pattern::{InvalidPattern, Pattern};

/// What the holder of a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// May register as an executor.
    Executor,
    /// May be connected with executors.
    Client,
    /// May do both, and what concerns the server itself.
    Admin,
    /// May be traded for a token of an executor.
    Join,
}

impl Role {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Executor, Self::Client, Self::Admin, Self::Join];

    /// The role's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Executor => "executor",
            Self::Client => "client",
            Self::Admin => "admin",
            Self::Join => "join",
        }
    }

    /// The role of that word.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }

    /// Whether a holder of this role may do what needs `needed`.
    pub fn covers(self, needed: Self) -> bool {
        self == needed || (self == Self::Admin && needed != Self::Join)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_admin_may_do_what_the_others_may() {
        use Role::{Admin, Client, Executor, Join};
        for role in [Executor, Client, Admin] {
            assert!(Admin.covers(role));
            assert!(role.covers(role));
        }
        for role in Role::ALL {
            assert_eq!(Role::parse(role.as_str()), Some(role));
        }
        for (held, needed) in [
            (Executor, Client),
            (Client, Executor),
            (Executor, Admin),
            (Client, Admin),
            (Admin, Join),
            (Join, Executor),
        ] {
            assert!(!held.covers(needed), "{held} {needed}");
        }
        assert_eq!(Role::parse("root"), None);
    }
}
