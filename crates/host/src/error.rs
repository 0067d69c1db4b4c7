//! The one error of the crate, a sum of what its parts can say, by what the caller can do about it.
//!
//! In flow the errors of the parts, out flow the questions `is_retryable` and `hint`. The texts are those of the wire;
//! codes are made by the executor.

use crate::fetch::FetchError;
use crate::fs::FsError;
use crate::process::{StartError, UnknownProcess, WriteFailed};

/// Whatever can go wrong on a host.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// The thread that starts processes could not be made.
    #[error("cannot make the thread that starts processes: {0}")]
    Thread(#[source] std::io::Error),
    /// A process did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// There is no such process.
    #[error(transparent)]
    UnknownProcess(#[from] UnknownProcess),
    /// Stdin took nothing more.
    #[error(transparent)]
    Write(#[from] WriteFailed),
    /// A file operation failed.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// An HTTP request failed.
    #[error(transparent)]
    Fetch(#[from] FetchError),
}

impl HostError {
    /// Whether the same call may succeed later without anybody's doing.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Thread(_) => true,
            Self::Fetch(error) => error.is_retryable(),
            Self::Start(_) | Self::UnknownProcess(_) | Self::Write(_) | Self::Fs(_) => false,
        }
    }

    /// What the caller can do, if there is something.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Thread(_) => Some("look at the limit on threads and on memory of this user"),
            Self::Start(StartError::AlreadyExists(_)) => Some("choose another process id"),
            Self::Start(StartError::SandboxUnavailable)
            | Self::Fs(FsError { kind: crate::fs::FsErrorKind::Invalid, .. }) => None,
            _ => None,
        }
    }
}
