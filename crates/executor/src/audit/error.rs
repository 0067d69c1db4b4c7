//! Why there is no audit, or none any more.

use std::io;
use std::path::PathBuf;

use crate::identity::IdentityError;

/// Why an audit cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// A file or directory cannot be used.
    #[error("cannot use the audit {}: {source}", .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Others may write into the directory.
    #[error("the audit directory {} can be written by others (mode {mode:04o})", .dir.display())]
    Exposed {
        /// Which.
        dir: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Another executor writes there.
    #[error("the audit directory {} is held by another executor", .0.display())]
    Held(PathBuf),
    /// What is there is not a sound log.
    #[error("the audit {} is damaged: {fault}", .path.display())]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// What is wrong.
        fault: String,
    },
    /// The log there was signed with another key.
    #[error("the audit in {} is signed by another identity ({key})", .dir.display())]
    Foreign {
        /// The directory.
        dir: PathBuf,
        /// That identity's public key.
        key: String,
    },
    /// The executor's key cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A pattern of what to mask is no regular expression.
    #[error("the pattern `{0}` cannot be used for masking: {1}")]
    Pattern(String, String),
    /// The writer cannot be started.
    #[error("cannot start the writer of the audit: {0}")]
    Thread(#[source] io::Error),
}

impl AuditError {
    /// What the caller can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Exposed { .. } => Some("give it to this user alone: chmod 0700"),
            Self::Held(_) => Some("give each executor a directory of its own"),
            Self::Damaged { .. } => Some("keep it as evidence, and name an empty directory to go on in"),
            Self::Foreign { .. } => Some("name an empty directory, or the identity that it was written with"),
            Self::Identity(error) => error.hint(),
            _ => None,
        }
    }
}
