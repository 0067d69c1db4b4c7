//! Websocket frames on their way through: bytes of one peer in, bytes for the other out, never a whole message.
//!
//! [`header`] reads and writes frame heads, [`mask`] lifts masks, [`reframe`] turns a buffer of masked client frames into
//! unmasked frames in the same buffer and sets control frames aside. Nothing here does I/O or looks into a payload.

pub mod header;
pub mod mask;
pub mod reframe;

use exedra_proto::close::CloseReason;

/// How a peer broke the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Violation {
    /// A client has to mask.
    #[error("a frame is not masked")]
    Unmasked,
    /// No extension was agreed on.
    #[error("a reserved bit is set")]
    Reserved,
    /// Not one of the six.
    #[error("an unknown opcode")]
    Opcode,
    /// In parts, or over 125 bytes.
    #[error("a control frame in parts or over 125 bytes")]
    Control,
    /// A continuation of nothing, or a new message inside another.
    #[error("a continuation of nothing, or a message begun inside another")]
    Continuation,
    /// The highest bit of a length is set.
    #[error("an impossible length")]
    Length,
    /// Over the limit of a message.
    #[error("a message over the limit")]
    TooBig,
}

impl Violation {
    /// What the peer is told.
    pub fn reason(self) -> CloseReason {
        match self {
            Self::TooBig => CloseReason::TooBig,
            _ => CloseReason::ProtocolError,
        }
    }
}
