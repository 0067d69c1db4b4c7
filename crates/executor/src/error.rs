//! The one error of the crate, by what the caller can do about it.
//!
//! In flow the failures of starting, listening and configuring, out flow texts for people and the questions
//! `is_retryable` and `hint`. What a client of the protocol gets is made in `dispatch::errors`.

use std::io;
use std::path::PathBuf;

use exedra_host::HostError;
use exedra_link::error::RegisterError;

/// Why an executor, a listener or a daemon did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecutorError {
    /// The machine refused what every executor needs.
    #[error(transparent)]
    Host(#[from] HostError),
    /// A daemon's token, executor id or base URL cannot be used.
    #[error(transparent)]
    Registration(#[from] RegisterError),
    /// `ws://` and then no IP address and port.
    #[error("invalid websocket --listen URL `{0}`; expected `ws://IP:PORT`")]
    WebsocketUrl(String),
    /// `unix://` and then no path.
    #[error("invalid socket file --listen URL `{0}`; expected `unix://PATH`")]
    SocketUrl(String),
    /// A URL of another kind.
    #[error("unsupported --listen URL `{0}`; expected `ws://IP:PORT`, `unix://PATH` or `stdio`")]
    UnsupportedUrl(String),
    /// What `--ws-auth` was given cannot be used.
    #[error("cannot check who connects: {0}")]
    WsAuth(String),
    /// Certificate or key cannot be used.
    #[error("cannot use the certificate: {0}")]
    Tls(String),
    /// Other machines could reach it, and anybody there could run commands or read along.
    #[error("refusing to listen on {0}: other machines can reach it, and {1}")]
    Exposed(String, &'static str),
    /// A socket file or a pipe does not take what was asked for.
    #[error("{0} has no {1}: only `ws://IP:PORT` does")]
    NotOnTcp(String, &'static str),
    /// Somebody listens there already.
    #[error("cannot listen on {0}: address in use")]
    AddressInUse(String),
    /// The path of a socket file holds something else, which stays.
    #[error("cannot listen on {}: it exists and is not a socket", .0.display())]
    NotASocket(PathBuf),
    /// The system refused the address.
    #[error("cannot listen on {url}: {source}")]
    Bind {
        /// The address asked for.
        url: String,
        /// What the system says.
        source: io::Error,
    },
}

impl ExecutorError {
    /// Whether the same call may succeed later without anybody's doing.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Host(error) => error.is_retryable(),
            Self::Registration(error) => error.is_retryable(),
            Self::AddressInUse(_) => true,
            _ => false,
        }
    }

    /// What the caller can do, if there is something.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Host(error) => error.hint(),
            Self::Registration(error) => error.hint(),
            Self::WebsocketUrl(_) => Some("a host name cannot be used; write the IP address"),
            Self::Exposed(..) => Some(
                "add --ws-auth and --tls-cert/--tls-key, or listen on 127.0.0.1 and forward the port; --insecure does it anyway",
            ),
            Self::AddressInUse(_) => Some("choose another port or path, or stop the program that listens there"),
            Self::NotASocket(_) => Some("choose another path, or remove what is there"),
            Self::Bind { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("ports below 1024 and other people's directories need more rights")
            }
            Self::Bind { source, .. } if source.kind() == io::ErrorKind::AddrNotAvailable => {
                Some("the IP address must be one of this machine's")
            }
            Self::Tls(_) => Some(
                "name PEM files: the certificate and those that lead to its authority, and the key that belongs to it",
            ),
            _ => None,
        }
    }
}
