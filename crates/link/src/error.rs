//! What can go wrong, by what the caller can do about it.
//!
//! [`LinkError`] is the crate's one error; the others are its parts, where a function can fail in one way only:
//! [`Disconnect`] says why a connection ended, [`RegisterError`] and [`ConnectError`] what a registry answered. No text
//! here holds a token, a ticket or the query of a URL.

mod disconnect;
mod registry;

use std::time::Duration;

use url::{Host, Url};

pub use disconnect::Disconnect;
pub use registry::{Cause, Class, ConnectError, Refusal, RegisterError};

/// Why there is no connection, or none any more.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The address is not one that can be dialled.
    #[error("cannot connect: {0}")]
    Address(String),
    /// Nothing answers there: name, route, port or socket file.
    #[error("cannot connect to {peer}: {source}")]
    Unreachable {
        /// Scheme, host and port, or the path of a socket file.
        peer: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The peer did not answer in time.
    #[error("cannot connect to {peer}: no answer within {} s", .after.as_secs_f32())]
    TimedOut {
        /// Scheme, host and port, or the path of a socket file.
        peer: String,
        /// How long we waited.
        after: Duration,
    },
    /// TLS failed, for example because of an unknown certificate.
    #[error("cannot connect to {peer}: TLS: {text}")]
    Tls {
        /// Scheme, host and port.
        peer: String,
        /// What the TLS library says.
        text: String,
    },
    /// The peer answered with HTTP, and refused the websocket.
    #[error("{peer} refused the websocket: {refusal}")]
    Refused {
        /// Scheme, host and port, or the path of a socket file.
        peer: String,
        /// Status, reason, when to come back.
        refusal: Refusal,
    },
    /// What the peer answered is no websocket handshake.
    #[error("{peer} does not speak websocket: {text}")]
    NotWebsocket {
        /// Scheme, host and port, or the path of a socket file.
        peer: String,
        /// What is wrong with the answer.
        text: String,
    },
    /// The connection ended.
    #[error(transparent)]
    Disconnected(#[from] Disconnect),
    /// A registration failed.
    #[error(transparent)]
    Register(#[from] RegisterError),
    /// The registry did not connect us with an executor.
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

impl LinkError {
    /// Whether the same attempt may succeed later without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Address(_) | Self::Tls { .. } | Self::NotWebsocket { .. } => false,
            Self::Unreachable { .. } | Self::TimedOut { .. } => true,
            Self::Refused { refusal, .. } => refusal.is_transient(),
            Self::Disconnected(disconnect) => disconnect.is_retryable(),
            Self::Register(error) => error.is_retryable(),
            Self::Connect(error) => error.is_retryable(),
        }
    }

    /// What the peer said about when to come back.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { refusal, .. } => refusal.retry_after,
            Self::Register(error) => error.retry_after(),
            Self::Connect(error) => error.retry_after(),
            _ => None,
        }
    }

    /// The answer of a peer that refused the websocket with a 4xx: the URL is no longer good, register anew.
    pub fn is_stale_ticket(&self) -> bool {
        matches!(self, Self::Refused { refusal, .. } if (400..500).contains(&refusal.status))
    }

    /// What a person can do, if anything.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Address(_) => Some("addresses are ws://HOST:PORT, wss://HOST or unix:///PATH"),
            Self::Unreachable { peer, .. } if is_this_machine(peer) => Some(
                "is the server running? If it is on another machine, it has to be told its URL: `exedra serve --public-url URL`",
            ),
            Self::Unreachable { .. } => Some("is the server running, and is the address right?"),
            Self::TimedOut { .. } => Some("a firewall may drop the packets, or the server is overloaded"),
            Self::Tls { .. } => {
                Some("the certificate must be valid for the host and signed by a CA that this machine trusts")
            }
            Self::Refused { refusal, .. } => refusal.hint(),
            Self::NotWebsocket { .. } => Some("something else listens there; check host and port"),
            Self::Disconnected(disconnect) => disconnect.hint(),
            Self::Register(error) => error.hint(),
            Self::Connect(error) => error.hint(),
        }
    }
}

/// Whether `scheme://host:port` leads to where it is dialled from.
fn is_this_machine(peer: &str) -> bool {
    match Url::parse(peer).ok().as_ref().and_then(Url::host) {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_led_to_his_own_machine_is_told_what_the_server_may_lack() {
        let hints = |peer: &str| {
            let source = std::io::ErrorKind::ConnectionRefused.into();
            LinkError::Unreachable { peer: peer.to_owned(), source }.hint().unwrap().contains("--public-url")
        };
        assert_eq!(["ws://127.0.0.1:8900", "ws://[::1]:1", "wss://localhost:443"].map(hints), [true; 3]);
        assert_eq!(["ws://192.0.2.1:8900", "wss://exedra.example.org:443", "unix:///run/e"].map(hints), [false; 3]);
    }
}
