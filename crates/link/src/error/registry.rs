//! What a registry or a rendezvous may answer instead of what was asked for.
//!
//! The texts of [`RegisterError`] are those of stock 0.130 (protocol 3.5), which people and scripts know. The classes say
//! what the daemon does: try again, re-read the token, or give up. Nothing here holds a token or a URL with a query.

use std::fmt;
use std::time::Duration;

use exedra_proto::registry::code;

/// An HTTP answer that refuses a websocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Status code.
    pub status: u16,
    /// The rendezvous' reason (`x-codex-rendezvous-rejection-reason`), cleaned and cut.
    pub reason: Option<String>,
    /// When to come back, at most five minutes.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// Whether the same request may succeed later.
    pub fn is_transient(&self) -> bool {
        is_transient(self.status)
    }

    /// What a person can do, if anything.
    pub fn hint(&self) -> Option<&'static str> {
        match self.status {
            401 | 403 => Some("the ticket has expired or is not valid here; ask the registry for a new one"),
            404 => Some("no websocket is served at that path"),
            409 => Some("the other end is away or taken; try again"),
            _ => None,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", status_line(self.status))?;
        match &self.reason {
            Some(reason) => write!(f, " ({reason})"),
            None => Ok(()),
        }
    }
}

/// Why a reply cannot be used, in words that quote nothing of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Cause(pub(crate) String);

/// What the caller can do about a failed registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Try again later: connect errors, time-outs, 408, 409, 425, 429, 5xx, answers that cannot be read.
    Retry,
    /// The token is missing or refused (401, 403).
    Auth,
    /// Another refusal that repeats itself until somebody changes something: other 4xx, a redirect elsewhere.
    Refused,
    /// The configuration is wrong; nothing was sent.
    Config,
}

/// Why a registration failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// The configuration is wrong; nothing was sent.
    #[error("executor registry configuration error: {0}")]
    Config(String),
    /// There is no token; nothing was sent.
    #[error("executor registry authentication error: {0}")]
    Credential(String),
    /// 401 or 403.
    #[error("executor registry authentication error: executor registry authentication failed ({}): {message}", status_line(*.status))]
    Auth {
        /// Status code.
        status: u16,
        /// The code in the error body, if any.
        code: Option<String>,
        /// The registry's message, or a preview of the body.
        message: String,
    },
    /// Any other answer that is no success.
    #[error("executor registry request failed ({}{}): {message}", status_line(*.status), comma(.code))]
    Status {
        /// Status code.
        status: u16,
        /// The code in the error body, if any.
        code: Option<String>,
        /// The registry's message, or a preview of the body.
        message: String,
        /// When to come back, at most five minutes.
        retry_after: Option<Duration>,
    },
    /// The registry could not be reached, or did not answer in time.
    #[error("executor registry request failed: {0}")]
    Transport(String),
    /// The registry sent us to another origin, where the token must not go.
    #[error("executor registry request failed: redirected to another origin ({0}), where the token must not go")]
    Redirected(String),
    /// A success whose body cannot be used.
    #[error("executor registry request failed: error decoding response body")]
    Undecodable(#[source] Cause),
}

impl RegisterError {
    /// What the caller can do.
    pub fn class(&self) -> Class {
        match self {
            Self::Config(_) => Class::Config,
            // The token is good, and no other one would do.
            Self::Auth { code: Some(code), .. } if code == code::EXECUTOR_KEY_BOUND => Class::Refused,
            Self::Credential(_) | Self::Auth { .. } => Class::Auth,
            Self::Status { status, .. } if is_transient(*status) => Class::Retry,
            Self::Status { .. } | Self::Redirected(_) => Class::Refused,
            Self::Transport(_) | Self::Undecodable(_) => Class::Retry,
        }
    }

    /// Whether the same registration may succeed later without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        self.class() == Class::Retry
    }

    /// What the registry said about when to come back, at most five minutes.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// What a person can do, if anything.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Credential(_) => Some(
                "put a token of `exedra token create --role executor` into EXEDRA_TOKEN, or into a file for --token-file",
            ),
            Self::Auth { status: 401, .. } => Some("the token is wrong, revoked or expired; create a new one"),
            Self::Auth { code: Some(code), .. } if code == code::EXECUTOR_KEY_BOUND => Some(
                "the server binds names to keys, and that name to one that this executor does not have: take another id, or have \
                 `exedra forget-key ID` run beside the server",
            ),
            Self::Auth { .. } => Some(
                "the token is known, but not for this: its role or its executors do not fit; see `exedra token list`",
            ),
            Self::Status { status: 404, .. } => Some("does the base URL name a registry?"),
            Self::Redirected(_) => Some("use the final address as the base URL"),
            Self::Transport(_) => Some("is the registry running, and is the base URL right?"),
            _ => None,
        }
    }
}

/// Why the registry did not connect a client with an executor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The configuration is wrong; nothing was sent.
    #[error("{0}")]
    Config(String),
    /// There is no token; nothing was sent.
    #[error("{0}")]
    Credential(String),
    /// 401 or 403.
    #[error("the registry refused the token ({}): {message}", status_line(*.status))]
    Auth {
        /// Status code.
        status: u16,
        /// The code in the error body, if any.
        code: Option<String>,
        /// The registry's message, or a preview of the body.
        message: String,
    },
    /// No executor of that id ever registered.
    #[error("there is no executor `{executor}`{}", near_names(.near))]
    Unknown {
        /// The id asked for.
        executor: String,
        /// Ids that are nearly the one asked for.
        near: Vec<String>,
    },
    /// The executor is not connected at the moment.
    #[error("executor `{executor}` is offline")]
    Offline {
        /// The id asked for.
        executor: String,
        /// When it was last connected, seconds since 1970.
        last_seen: Option<u64>,
    },
    /// Another client holds the executor.
    #[error("executor `{executor}` is held by another client")]
    Busy {
        /// The id asked for.
        executor: String,
        /// Since when, seconds since 1970.
        held_since: Option<u64>,
    },
    /// Any other answer that is no success.
    #[error("the registry's answer was {}{}: {message}", status_line(*.status), comma(.code))]
    Status {
        /// Status code.
        status: u16,
        /// The code in the error body, if any.
        code: Option<String>,
        /// The registry's message, or a preview of the body.
        message: String,
        /// When to come back, at most five minutes.
        retry_after: Option<Duration>,
    },
    /// The registry could not be reached, or did not answer in time.
    #[error("cannot reach the registry: {0}")]
    Transport(String),
    /// The registry sent us to another origin, where the token must not go.
    #[error("the registry redirected to another origin ({0}), where the token must not go")]
    Redirected(String),
    /// A success whose body cannot be used.
    #[error("the registry's answer cannot be read")]
    Undecodable(#[source] Cause),
}

impl ConnectError {
    /// Whether the same request may succeed later without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Config(_) | Self::Credential(_) | Self::Auth { .. } | Self::Unknown { .. } | Self::Redirected(_) => {
                false
            }
            Self::Offline { .. } | Self::Busy { .. } | Self::Transport(_) | Self::Undecodable(_) => true,
            Self::Status { status, .. } => is_transient(*status),
        }
    }

    /// What the registry said about when to come back, at most five minutes.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// What a person can do, if anything.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Credential(_) => Some("set EXEDRA_TOKEN to a token of `exedra token create --role client`"),
            Self::Auth { status: 401, .. } => Some("the token is wrong, revoked or expired; create a new one"),
            Self::Auth { .. } => Some(
                "the token is known, but not for this: its role or its executors do not fit; see `exedra token list`",
            ),
            Self::Unknown { .. } => {
                Some("check the id; start it there with `exedra exec-server --remote` if it never ran")
            }
            Self::Offline { .. } => {
                Some("start it there with `exedra exec-server --remote`, or wait longer with --wait")
            }
            Self::Busy { .. } => Some("wait longer with --wait"),
            Self::Redirected(_) => Some("use the final address as the server"),
            Self::Transport(_) => Some("is the registry running, and is the server address right?"),
            _ => None,
        }
    }
}

/// `404 Not Found`, or the number alone where there is no such name.
pub(crate) fn status_line(status: u16) -> String {
    match http::StatusCode::from_u16(status).ok().and_then(|code| code.canonical_reason()) {
        Some(reason) => format!("{status} {reason}"),
        None => status.to_string(),
    }
}

fn is_transient(status: u16) -> bool {
    matches!(status, 408 | 409 | 425 | 429 | 500..=599)
}

fn comma(code: &Option<String>) -> String {
    code.as_ref().map(|code| format!(", {code}")).unwrap_or_default()
}

fn near_names(near: &[String]) -> String {
    if near.is_empty() { String::new() } else { format!("; did you mean {}?", near.join(", ")) }
}
