//! The one table of websocket close codes: why one of our own ends closed a connection.

use serde::{Deserialize, Serialize};

/// Why a connection was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CloseReason {
    /// The other side of the pair is done; an executor may come back at once.
    PeerDone,
    /// The process ends.
    GoingAway,
    /// A message broke the rules of websockets.
    ProtocolError,
    /// A text message is not UTF-8.
    InvalidUtf8,
    /// A message passes the limit.
    TooBig,
    /// Something failed on our side.
    InternalError,
    /// The other side of the pair vanished without a close.
    PeerLost,
    /// A newer connection of the same executor took the place.
    Replaced,
    /// The token or the registration behind the connection is no longer good.
    Revoked,
    /// The key that signed the ticket was revoked, or the token got another secret since; another ticket opens another
    /// connection.
    KeyRevoked,
    /// No sign of life for too long.
    Silent,
    /// It kept others waiting for too long.
    Stalled,
    /// The other side of the pair ends.
    PeerLeaving,
    /// It gives way to a client of a token that has less than its share of the executor.
    GaveWay,
}

/// All reasons, for those who walk the table.
pub const TABLE: &[CloseReason] = &[
    CloseReason::PeerDone,
    CloseReason::GoingAway,
    CloseReason::ProtocolError,
    CloseReason::InvalidUtf8,
    CloseReason::TooBig,
    CloseReason::InternalError,
    CloseReason::PeerLost,
    CloseReason::Replaced,
    CloseReason::Revoked,
    CloseReason::KeyRevoked,
    CloseReason::Silent,
    CloseReason::Stalled,
    CloseReason::PeerLeaving,
    CloseReason::GaveWay,
];

impl CloseReason {
    /// The code on the wire: RFC 6455 where it has one, ours from 4400 on.
    pub fn code(self) -> u16 {
        match self {
            Self::PeerDone => 1000,
            Self::GoingAway => 1001,
            Self::ProtocolError => 1002,
            Self::InvalidUtf8 => 1007,
            Self::TooBig => 1009,
            Self::InternalError => 1011,
            Self::PeerLost => 4400,
            Self::Replaced => 4401,
            Self::Revoked => 4403,
            Self::KeyRevoked => 4404,
            Self::Silent => 4408,
            Self::Stalled => 4409,
            Self::PeerLeaving => 4402,
            Self::GaveWay => 4410,
        }
    }

    /// The text on the wire, at most 123 bytes.
    pub fn text(self) -> &'static str {
        match self {
            Self::PeerDone => "the other side is done",
            Self::GoingAway => "this side is shutting down",
            Self::ProtocolError => "a frame broke the websocket protocol",
            Self::InvalidUtf8 => "a text message is not valid UTF-8",
            Self::TooBig => "a message is larger than 64 MiB",
            Self::InternalError => "internal error",
            Self::PeerLost => "the other side's connection was lost",
            Self::Replaced => "a newer connection of this executor took over",
            Self::Revoked => "the token or registration is no longer valid",
            Self::KeyRevoked => {
                "the key of the ticket was revoked, or its token has another secret; ask for another ticket"
            }
            Self::Silent => "no sign of life for 45 s",
            Self::Stalled => "it kept others waiting for too long",
            Self::PeerLeaving => "the other side is shutting down",
            Self::GaveWay => "its token has more clients of this executor than its share, and others need them",
        }
    }

    /// The reason that `code` stands for.
    pub fn from_code(code: u16) -> Option<Self> {
        TABLE.iter().copied().find(|reason| reason.code() == code)
    }

    /// Whether an executor that is closed for this reason was served to the end of its client, so that the next
    /// connection may follow at once.
    pub fn is_good_order(self) -> bool {
        matches!(self, Self::PeerDone | Self::PeerLost | Self::PeerLeaving)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn codes_are_unique_and_texts_fit_a_close_frame() {
        let codes: BTreeSet<_> = TABLE.iter().map(|reason| reason.code()).collect();
        assert_eq!(codes.len(), TABLE.len());
        for reason in TABLE {
            assert!(reason.text().len() <= 123);
            assert_eq!(CloseReason::from_code(reason.code()), Some(*reason));
        }
    }
}
