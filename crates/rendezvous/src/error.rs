//! The errors of this crate's own calls. What goes wrong on a connection is told to its peers, by close codes and HTTP
//! statuses, and never reaches a caller.

/// Why a rendezvous cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RendezvousError {
    /// The configuration makes no sense.
    #[error("the rendezvous cannot work with this configuration: {0}")]
    Config(&'static str),
}

impl RendezvousError {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Config(_) => false,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Config(_) => Some("start from RendezvousConfig::new, whose times and limits fit together"),
        }
    }
}
