//! Why the service does not do what was asked: one case for each thing that the asker can do about it.

use exedra_proto::ids::ExecutorId;

use crate::auth::Denied;
use crate::error::RegistryError;
use crate::presence::{Refused, Wait};
use crate::sigv4::Fault;
use crate::store::StoreError;

/// Why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The asker may not.
    Denied(Denied),
    /// The request speaks of two executors.
    OtherExecutor,
    /// A part of the request is missing; the text says which.
    Incomplete(&'static str),
    /// A part of the request is longer than it may be.
    TooLong {
        /// Which.
        what: &'static str,
        /// In bytes.
        limit: usize,
    },
    /// No such executor ever registered.
    Unknown {
        /// Those with nearly that id.
        near: Vec<ExecutorId>,
    },
    /// The executor is not connected.
    Offline {
        /// When it last was, seconds since 1970.
        last_seen: Option<u64>,
    },
    /// Another client holds the executor.
    Busy {
        /// Since when, seconds since 1970.
        since: u64,
    },
    /// The executor is connected, and what was asked is for one that is gone.
    Connected,
    /// The request is signed, and not well.
    Signature(Fault),
    /// The executor's name is another key's.
    OtherKey,
    /// None of the transports offered fits.
    Transport,
    /// An administrator lets no new client in to the executor.
    Drained {
        /// Since when, seconds since 1970.
        since: u64,
    },
    /// A wish that makes no sense; the text says why.
    Invalid(String),
    /// There is no such signing key.
    UnknownKey,
    /// There is no such token.
    UnknownToken,
    /// The token has ended.
    EndedToken,
    /// A join token cannot be traded for this name, which somebody has.
    NameTaken,
    /// Too many wait for events.
    Crowded,
    /// The token follows the events as often as it may.
    CrowdedByOwn,
    /// The store does not answer, or cannot be written.
    Unavailable,
    /// There is no room on the server's disk.
    Full,
    /// The server's disk cannot be written.
    ReadOnly,
    /// The server is shutting down.
    Draining,
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        if error == StoreError::OtherKey {
            return Self::OtherKey;
        }
        tracing::error!(%error, hint = error.hint(), "the store cannot answer");
        Self::of_failing(&error)
    }
}

impl Refusal {
    /// What is told of a store that fails so.
    pub fn of_failing(error: &StoreError) -> Self {
        match error {
            StoreError::Full => Self::Full,
            StoreError::ReadOnly => Self::ReadOnly,
            _ => Self::Unavailable,
        }
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self::Signature(fault)
    }
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Store(error) => error.into(),
            denied => Self::Denied(denied),
        }
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Draining => Self::Draining,
            Refused::Unavailable(Wait::Away { last_seen }) => Self::Offline { last_seen },
            Refused::Unavailable(Wait::Held { since }) => Self::Busy { since },
        }
    }
}

impl From<RegistryError> for Refusal {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::Config(text) => Self::Invalid(text),
            RegistryError::UnknownToken { .. } => Self::UnknownToken,
            RegistryError::EndedToken { .. } => Self::EndedToken,
            RegistryError::Store { source, .. } => source.into(),
            error => {
                tracing::error!(%error, hint = error.hint(), "a token could not be changed");
                match error {
                    RegistryError::Full { .. } => Self::Full,
                    RegistryError::ReadOnly { .. } => Self::ReadOnly,
                    _ => Self::Unavailable,
                }
            }
        }
    }
}
