//! The errors of this crate that a program gets to see, by what it can do about them.
//!
//! What the HTTP interface answers is not here: a request never fails the process. No error holds a token, a key, or a
//! byte of a file that keeps them.

use std::io;
use std::path::{Path, PathBuf};

use exedra_proto::ids::TokenId;

use crate::store::StoreError;

/// Why the registry or one of its operations failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// A setting is wrong.
    #[error("{0}")]
    Config(String),
    /// The data directory is no directory.
    #[error("{} is no directory", .path.display())]
    NotADirectory {
        /// The data directory.
        path: PathBuf,
    },
    /// The data directory belongs to somebody else, who could read or change what is in it.
    #[error("the data directory {} belongs to another user (uid {owner})", .path.display())]
    ForeignOwner {
        /// The data directory.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// Another server works on the data directory.
    #[error("the data directory {} is in use by {holder}", .path.display())]
    Locked {
        /// The data directory.
        path: PathBuf,
        /// Who holds it, as far as it said so: process, command, since when.
        holder: String,
    },
    /// The data directory cannot be written.
    #[error("{} cannot be written: the file system is read-only", .path.display())]
    ReadOnly {
        /// The file or directory.
        path: PathBuf,
    },
    /// No space is left.
    #[error("{} cannot be written: no space is left on the disk", .path.display())]
    Full {
        /// The file or directory.
        path: PathBuf,
    },
    /// Another failure of the file system.
    #[error("cannot use {}", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What it was.
        #[source]
        source: io::Error,
    },
    /// The file with the signing keys makes no sense.
    #[error("the signing keys in {} cannot be used: {reason}", .path.display())]
    Keys {
        /// The file.
        path: PathBuf,
        /// What is wrong with it; nothing of what is in it.
        reason: String,
    },
    /// The database cannot be used.
    #[error("cannot use {}", .path.display())]
    Store {
        /// The file.
        path: PathBuf,
        /// What it was.
        #[source]
        source: StoreError,
    },
    /// A backup cannot be taken or put in place.
    #[error("{}: {reason}", .path.display())]
    Backup {
        /// The backup, or the data directory.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The file with the rules for workloads cannot be used.
    #[error("the workload rules in {} cannot be used: {reason}", .path.display())]
    Workloads {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no such token.
    #[error("there is no token `{id}`")]
    UnknownToken {
        /// The id asked for.
        id: TokenId,
    },
    /// It was revoked, or its time is over.
    #[error("the token `{id}` has ended")]
    EndedToken {
        /// Which.
        id: TokenId,
    },
    /// The system has no randomness.
    #[error("the system gives no random numbers")]
    Randomness,
}

impl RegistryError {
    /// Whether the same call may succeed later without anybody changing a setting.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Locked { .. } | Self::Full { .. } | Self::Randomness => true,
            Self::Store { source, .. } => source.is_retryable(),
            _ => false,
        }
    }

    /// What a person can do, if anything.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotADirectory { .. } => Some("name a directory with --data-dir"),
            Self::ForeignOwner { .. } => Some(
                "run as that user, or use a --data-dir of your own; as root, commands beside the server become that user",
            ),
            Self::Locked { .. } => Some("stop it first, or use another --data-dir"),
            Self::ReadOnly { .. } => StoreError::ReadOnly.hint(),
            Self::Full { .. } => StoreError::Full.hint(),
            Self::Keys { .. } => Some(
                "put a backup of the file in its place, or move it away: then new keys are made, and executors and \
                 clients get new tickets by themselves",
            ),
            Self::Store { source, .. } => source.hint(),
            Self::Backup { .. } => Some(
                "`backup` needs records and a new name; `restore` needs a whole backup and an empty data directory",
            ),
            Self::Workloads { reason, .. } => {
                reason.contains("others may write").then_some("chmod go-w it, and what holds it")
            }
            Self::UnknownToken { .. } => Some("`exedra token list` shows the ids"),
            Self::EndedToken { .. } => Some("make another with `exedra token create`"),
            Self::Config(_) | Self::Io { .. } | Self::Randomness => None,
        }
    }

    /// A failure of the file system at `path`.
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { path },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path },
            io::ErrorKind::NotADirectory => Self::NotADirectory { path },
            _ => Self::Io { path, source },
        }
    }

    /// A failure of the store at `path`.
    pub(crate) fn store(path: &Path, source: StoreError) -> Self {
        let path = path.to_owned();
        match source {
            StoreError::ReadOnly => Self::ReadOnly { path },
            StoreError::Full => Self::Full { path },
            source => Self::Store { path, source },
        }
    }
}

impl From<getrandom::Error> for RegistryError {
    fn from(_: getrandom::Error) -> Self {
        Self::Randomness
    }
}
