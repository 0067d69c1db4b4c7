//! Why a connection ended.
//!
//! One value per connection: every waiting call and every later send gets a clone of it. Close frames are mapped to the
//! reasons of `proto::close` where they have one.

use std::io;

use exedra_proto::close::CloseReason;

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Disconnect {
    /// The peer said goodbye.
    #[error("{}", peer_closed(.code, .reason, .text))]
    PeerClosed {
        /// The code in its close frame; none if the frame was empty, or if the transport has no codes.
        code: Option<u16>,
        /// What the code stands for among our own ends.
        reason: Option<CloseReason>,
        /// The text in its close frame, for people, cleaned of control characters.
        text: String,
    },
    /// The peer vanished without a word.
    #[error("the connection was lost")]
    Lost,
    /// The peer gave no sign of life for too long.
    #[error("the peer gave no sign of life for too long")]
    Silent,
    /// The peer sent a message beyond the limit.
    #[error("the peer sent a message larger than {limit} bytes")]
    TooBig {
        /// The limit.
        limit: usize,
    },
    /// The peer sent text that is not UTF-8.
    #[error("the peer sent text that is not valid UTF-8")]
    InvalidUtf8,
    /// The peer broke the rules of the transport.
    #[error("the peer broke the protocol: {0}")]
    Protocol(String),
    /// The system reported an error.
    #[error("the connection failed: {text}")]
    Io {
        /// What kind of error.
        kind: io::ErrorKind,
        /// What the system says.
        text: String,
    },
    /// We closed it.
    #[error("closed from this side: {}", .0.text())]
    LocalClose(CloseReason),
    /// The connection was dropped on this side.
    #[error("the connection was dropped on this side")]
    Dropped,
}

impl Disconnect {
    /// The peer's own reason, if it gave one that we know.
    pub fn reason(&self) -> Option<CloseReason> {
        match self {
            Self::PeerClosed { reason, .. } => *reason,
            _ => None,
        }
    }

    /// Whether another connection may work.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::PeerClosed { reason, .. } => {
                !matches!(reason, Some(CloseReason::Revoked | CloseReason::TooBig | CloseReason::InvalidUtf8))
            }
            Self::Lost | Self::Silent | Self::Io { .. } => true,
            Self::TooBig { .. } | Self::InvalidUtf8 | Self::Protocol(_) | Self::LocalClose(_) | Self::Dropped => false,
        }
    }

    /// What a person can do, if anything.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::PeerClosed { reason: Some(CloseReason::Revoked), .. } => Some("get a new token"),
            Self::PeerClosed { reason: Some(CloseReason::Replaced), .. } => {
                Some("another executor with the same id has connected")
            }
            Self::Lost | Self::Silent | Self::Io { .. } => Some("check the network between the two machines"),
            _ => None,
        }
    }
}

impl From<io::Error> for Disconnect {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof => Self::Lost,
            kind => Self::Io { kind, text: error.to_string() },
        }
    }
}

fn peer_closed(code: &Option<u16>, reason: &Option<CloseReason>, text: &str) -> String {
    let said = match reason {
        _ if !text.is_empty() => format!(": {text}"),
        Some(reason) => format!(": {}", reason.text()),
        None => String::new(),
    };
    match code {
        Some(code) => format!("the peer closed the connection (code {code}){said}"),
        None => format!("the peer closed the connection{said}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_says_what_the_peer_said() {
        let closed = |code, text: &str| {
            let reason = CloseReason::from_code(code);
            Disconnect::PeerClosed { code: Some(code), reason, text: text.into() }.to_string()
        };
        assert_eq!(
            closed(4403, ""),
            "the peer closed the connection (code 4403): the token or registration is no longer valid"
        );
        assert_eq!(closed(1000, "bye"), "the peer closed the connection (code 1000): bye");
        assert_eq!(closed(4999, ""), "the peer closed the connection (code 4999)");
        let empty = Disconnect::PeerClosed { code: None, reason: None, text: String::new() };
        assert_eq!(empty.to_string(), "the peer closed the connection");
    }

    #[test]
    fn a_reset_is_a_loss() {
        assert_eq!(Disconnect::from(io::Error::from(io::ErrorKind::ConnectionReset)), Disconnect::Lost);
        assert!(matches!(Disconnect::from(io::Error::other("x")), Disconnect::Io { .. }));
    }
}
