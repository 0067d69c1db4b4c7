//! Every error of the crate, and their sum by what the caller can do about it.
//!
//! In flow system errors and refusals, out flow texts as they stand on the wire. The parts of the crate depend on this
//! module and never the other way round; JSON-RPC codes are made by the executor.

use std::io;

use exedra_proto::ids::ProcessId;

/// Whatever can go wrong on a host.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// The thread that starts processes could not be made.
    #[error("cannot make the thread that starts processes: {0}")]
    Thread(#[source] io::Error),
    /// The directory for output that does not stay in memory cannot be used.
    #[error("cannot use the directory for output: {0}")]
    Spool(#[source] io::Error),
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

/// Why a process did not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// No program at all: wrong params.
    #[error("argv must not be empty")]
    EmptyArgv,
    /// Something was to be enforced that this build cannot enforce: wrong params.
    #[error("sandbox intent cannot be enforced on this executor")]
    SandboxUnavailable,
    /// The owner of the machine does not allow it: a wrong request.
    #[error("{0}")]
    Refused(String),
    /// A variable whose name cannot be one, and may have a value in it, so that it is not repeated: wrong params.
    #[error("the name of a variable is empty, or has `=` or NUL in it")]
    VariableName,
    /// A limit cannot be held here: wrong params.
    #[error("{0}")]
    LimitUnavailable(String),
    /// There is no program here that enters sandboxes: wrong params.
    #[error("sandbox runtime paths are not configured")]
    SandboxMissing,
    /// The sandbox depends on a working directory that it does not name: a wrong request.
    #[error("file system sandbox context with dynamic permissions requires cwd")]
    SandboxMissingCwd,
    /// The id is in use or retained: a wrong request.
    #[error("process {0} already exists")]
    AlreadyExists(ProcessId),
    /// Terminated before it ran: a wrong request.
    #[error("process {0} start was cancelled")]
    Cancelled(ProcessId),
    /// The program name is empty: a failure.
    #[error("missing program for {} spawn", if *.pty { "PTY" } else { "pipe" })]
    MissingProgram {
        /// Whether a PTY was asked for.
        pty: bool,
    },
    /// That many processes have ended whose results nobody has read: a failure.
    #[error("{0} processes have ended and their results were not read yet: read them with process/read first")]
    TooManyUnread(usize),
    /// The ids and arguments of the processes that are known take too much memory: a failure.
    #[error(
        "the ids and arguments of the processes that are known here take too much memory: use shorter ids, or end some"
    )]
    TooLongNames,
    /// That many processes run on this host already: a failure.
    #[error("{0} processes are running here, and that is as many as may: end some first")]
    TooManyProcesses(usize),
    /// The system refused: a failure. The text is its own, or that of stock for a PTY.
    #[error("{0}")]
    Spawn(String),
    /// The owner of the processes is shutting down: a failure.
    #[error("the executor is shutting down")]
    ShuttingDown,
}

/// There is no such process, or no longer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown process id {0}")]
pub struct UnknownProcess(pub ProcessId);

/// The child is gone, or has closed its stdin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to write to process stdin")]
pub struct WriteFailed;

/// What an [`FsError`] means to the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FsErrorKind {
    /// There is no such file.
    NotFound,
    /// The request cannot be served as it is; refused access is one of these.
    Invalid,
    /// Another connection is at it.
    Busy,
    /// Any other failure.
    Other,
}

/// Why a file operation failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct FsError {
    /// For the code.
    pub kind: FsErrorKind,
    /// For the message.
    pub text: String,
}

/// Why an HTTP request failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The request cannot be made: wrong params.
    #[error("{0}")]
    Invalid(String),
    /// The owner of the machine does not allow it: a wrong request.
    #[error("{0}")]
    Refused(String),
    /// It was made, or tried, and failed.
    #[error("{0}")]
    Failed(String),
}

impl HostError {
    /// Whether the same call may succeed later without anybody's doing.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Thread(_)
                | Self::Start(StartError::ShuttingDown | StartError::TooManyProcesses(_))
                | Self::Fetch(FetchError::Failed(_))
        )
    }

    /// What the caller can do, where there is something.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Spool(_) => Some("name another with --spool DIR, one that belongs to this user alone"),
            Self::Thread(_) => Some("look at this user's limits on threads and memory"),
            Self::Start(StartError::AlreadyExists(_)) => Some("choose another process id"),
            Self::Start(StartError::TooManyUnread(_)) => Some("read what ended, up to where the answer says closed"),
            Self::Start(StartError::ShuttingDown) => Some("connect again and start it there"),
            Self::Start(StartError::LimitUnavailable(_)) => {
                Some("delegate a control group to the executor, or ask for best effort")
            }
            Self::UnknownProcess(_) => Some("a process is forgotten a while after it has closed"),
            _ => None,
        }
    }
}

impl FsError {
    /// A request that cannot be served as it is.
    pub fn invalid(text: impl Into<String>) -> Self {
        Self { kind: FsErrorKind::Invalid, text: text.into() }
    }
}

impl From<io::Error> for FsError {
    fn from(error: io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::NotFound => FsErrorKind::NotFound,
            io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput => FsErrorKind::Invalid,
            _ => FsErrorKind::Other,
        };
        Self { kind, text: error.to_string() }
    }
}

impl From<rustix::io::Errno> for FsError {
    fn from(errno: rustix::io::Errno) -> Self {
        io::Error::from(errno).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_the_wire() {
        let id = ProcessId::new("p");
        assert_eq!(StartError::MissingProgram { pty: true }.to_string(), "missing program for PTY spawn");
        assert_eq!(StartError::MissingProgram { pty: false }.to_string(), "missing program for pipe spawn");
        assert_eq!(StartError::AlreadyExists(id.clone()).to_string(), "process p already exists");
        assert_eq!(UnknownProcess(id).to_string(), "unknown process id p");
    }

    #[test]
    fn system_errors_by_kind() {
        let kind = |raw| FsError::from(io::Error::from_raw_os_error(raw)).kind;
        assert_eq!(kind(libc::ENOENT), FsErrorKind::NotFound);
        for invalid in [libc::EACCES, libc::EPERM, libc::EINVAL] {
            assert_eq!(kind(invalid), FsErrorKind::Invalid);
        }
        for other in [libc::EISDIR, libc::ENOTDIR, libc::EEXIST, libc::ENOSPC, libc::EROFS] {
            assert_eq!(kind(other), FsErrorKind::Other);
        }
    }

    #[test]
    fn what_a_caller_can_do() {
        assert!(HostError::from(FetchError::Failed("x".into())).is_retryable());
        assert!(!HostError::from(FetchError::Invalid("x".into())).is_retryable());
        assert!(HostError::from(StartError::AlreadyExists(ProcessId::new("p"))).hint().is_some());
    }
}
