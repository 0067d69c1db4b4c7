//! What can go wrong between a client and an executor, by what the caller can do about it.
//!
//! In flow the errors of the link and of the peer, out flow texts that never claim more than is known: a command whose
//! start was sent may have run, and a connection that is lost does not end it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use exedra_link::error::{ConnectError, Disconnect, LinkError};
use exedra_link::peer::CallError;
use exedra_proto::envelope::{NOT_FOUND, RpcError, SESSION_ATTACHED};

use crate::reorder::Gap;

/// Why something was not done, or is not known to be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no connection. Nothing was done.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The server has not answered yet: the executor is away, or held by another client. Never returned; only told to those
    /// who watch a wait.
    #[error("no answer yet: the executor is away, or another client holds it")]
    NoAnswerYet,
    /// The connection ended before the executor had opened a session. Nothing was done.
    #[error("the connection ended before the executor opened a session")]
    LostBeforeSession(#[source] Disconnect),
    /// The executor did not open a session in time. Nothing was done.
    #[error("the executor did not open a session within {} s", .0.as_secs())]
    NoSession(Duration),
    /// The executor did not open a session. Nothing was done.
    #[error("the executor refused to open a session")]
    SessionRefused(#[source] RpcError),
    /// The connection had ended before the call was sent. Nothing was done.
    #[error("the connection ended before {method} was sent")]
    NotSent {
        /// Which method.
        method: &'static str,
        /// Why the connection ended.
        source: Disconnect,
    },
    /// The connection ended before the answer came. Whether it was done is unknown.
    #[error("the connection was lost before the executor answered {method}; whether it was done is not known")]
    Unanswered {
        /// Which method.
        method: &'static str,
        /// Why the connection ended.
        source: Disconnect,
    },
    /// The connection ended while a process was running.
    #[error("the connection was lost while the command was running; it may still be running there")]
    LostWhileRunning(#[source] Loss),
    /// The connection was lost, the session was resumed on another, and not all that happened meanwhile was there any more.
    #[error("part of the output was lost with the connection: {0}")]
    NotRecovered(String),
    /// The connection ended while a body was under way.
    #[error("the connection was lost while a response was under way")]
    LostWhileFetching(#[source] Loss),
    /// The executor answered with an error. It was not done, or not wholly.
    #[error("the executor refused {method}")]
    Refused {
        /// Which method.
        method: &'static str,
        /// Its answer.
        source: RpcError,
    },
    /// Part of the output, or of a body, never came.
    #[error("the connection dropped data")]
    Gap(#[from] Gap),
    /// A response body ended early.
    #[error("the response body ended early: {0}")]
    BodyCut(String),
    /// The process reads no stdin any more, or never did.
    #[error("the command no longer reads its stdin")]
    StdinClosed,
    /// The executor cannot be told that stdin has ended: it does not speak `exedra/1`.
    #[error("this executor cannot be told that stdin has ended")]
    StdinCannotBeClosed,
    /// What was to be uploaded cannot be read. The file over there is as it was.
    #[error("what is to be uploaded cannot be read")]
    Source(#[source] std::io::Error),
    /// What is downloaded cannot be written here.
    #[error("what is downloaded cannot be written here")]
    Sink(#[source] std::io::Error),
    /// The executor has no such method: it does not speak that part of `exedra/1`.
    #[error("this executor has no {0}")]
    Lacking(&'static str),
    /// The peer sent what the protocol does not allow.
    #[error("the executor broke the protocol: {0}")]
    Protocol(String),
}

/// Why there is no connection any more.
#[derive(Clone, Debug)]
pub struct Loss {
    lost: Disconnect,
    /// Why there was no other.
    cause: Option<Arc<Error>>,
}

impl Loss {
    /// The connection ended so, and no other was sought.
    pub(crate) fn of(lost: Disconnect) -> Self {
        Self { lost, cause: None }
    }

    /// The connection ended so, and no other was had.
    pub(crate) fn for_good(lost: Disconnect, cause: Error) -> Self {
        Self { lost, cause: Some(Arc::new(cause)) }
    }

    /// How the connection ended.
    pub fn lost(&self) -> &Disconnect {
        &self.lost
    }

    /// A call of `method` that was never sent.
    pub(crate) fn not_sent(self, method: &'static str) -> Error {
        Error::NotSent { method, source: self.lost }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lost.fmt(f)?;
        match &self.cause {
            None => Ok(()),
            Some(_) => f.write_str(", and the session could not be resumed"),
        }
    }
}

impl std::error::Error for Loss {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_ref().map(|cause| cause.as_ref() as _)
    }
}

impl Error {
    /// Whether a call has no answer since the connection ended.
    pub(crate) fn is_loss(&self) -> bool {
        matches!(self, Self::NotSent { .. } | Self::Unanswered { .. })
    }

    /// Whether the same attempt may succeed later without anybody's doing, and without doing anything twice.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Link(error) => error.is_retryable(),
            Self::LostBeforeSession(reason) | Self::NotSent { source: reason, .. } => reason.is_retryable(),
            Self::NoSession(_) => true,
            Self::SessionRefused(error) => error.code == SESSION_ATTACHED,
            _ => false,
        }
    }

    /// The code of the problem that the server answered with.
    pub fn problem(&self) -> Option<&str> {
        match self {
            Self::Link(LinkError::Connect(ConnectError::Status { code, .. } | ConnectError::Auth { code, .. })) => {
                code.as_deref()
            }
            _ => None,
        }
    }

    /// What the peer said about when to come back.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Link(error) => error.retry_after(),
            _ => None,
        }
    }

    /// What a person can do, if anything.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Link(error) => error.hint(),
            Self::LostBeforeSession(reason) => reason.hint(),
            Self::NotSent { .. } => Some("nothing was done; try again"),
            Self::NoSession(_) => Some("the executor may be overloaded, or something else listens there"),
            Self::Unanswered { .. } => Some("look there before doing it again"),
            Self::NotRecovered(_) => Some("the command is still running there, or has ended there"),
            Self::LostWhileRunning(_) => Some("look there before running it again"),
            Self::StdinCannotBeClosed => Some("a stock executor has no end of input; let the command end by itself"),
            _ => None,
        }
    }

    /// Whether a file or directory is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { source, .. } if source.code == NOT_FOUND)
    }

    /// What became of a call of `method`.
    pub(crate) fn of_call(method: &'static str, error: CallError) -> Self {
        match error {
            CallError::Rpc(source) => Self::Refused { method, source },
            CallError::Disconnected { reason: source, was_sent: false } => Self::NotSent { method, source },
            CallError::Disconnected { reason: source, was_sent: true } => Self::Unanswered { method, source },
            other => Self::Protocol(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(was_sent: bool) -> Error {
        Error::of_call("process/start", CallError::Disconnected { reason: Disconnect::Lost, was_sent })
    }

    #[test]
    fn only_what_was_not_done_may_be_tried_again() {
        assert!(lost(false).is_retryable());
        assert!(!lost(true).is_retryable());
        assert!(!Error::LostWhileRunning(Loss::of(Disconnect::Lost)).is_retryable());
        assert!(Error::LostBeforeSession(Disconnect::Lost).is_retryable());
    }

    #[test]
    fn a_lost_connection_is_never_told_as_a_command_that_did_not_run() {
        assert!(lost(true).to_string().contains("not known"));
        assert!(Error::LostWhileRunning(Loss::of(Disconnect::Lost)).to_string().contains("may still be running"));
    }
}
