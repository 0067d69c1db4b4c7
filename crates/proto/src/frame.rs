//! Relay frames, version 1: what the websocket to a rendezvous carries when it carries streams (protocol 14).
//!
//! In flow the bytes of a binary message, out flows a [`Frame`], or the one rule that it breaks; and back. Payloads are
//! opaque here, those of handshakes too. All rules about a single frame stand here; what frames mean together is for
//! whoever keeps the streams.

pub mod scan;
mod wire;

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

/// The one version there is.
pub const VERSION: u32 = 1;
/// Longest stream id, in bytes. A stock harness uses a UUID of 36.
pub const MAX_STREAM_ID: usize = 256;
/// What a frame may need beside its payload, in bytes.
pub const OVERHEAD: usize = MAX_STREAM_ID + 64;

/// The name of a stream, chosen by the harness; cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(Arc<str>);

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Whose it is.
    pub stream: StreamId,
    /// What it says.
    pub body: Body,
}

/// What a frame says.
#[derive(Clone, PartialEq, Eq)]
pub enum Body {
    /// One message of the connection in the stream.
    Data {
        /// Counts the messages of one direction, from 0.
        seq: u32,
        /// Never empty.
        payload: Bytes,
    },
    /// Does nothing.
    Ack,
    /// Opens a stream, where it means anything.
    Resume {
        /// The next message's number.
        next_seq: u32,
    },
    /// The stream has ended.
    Reset {
        /// Never empty.
        reason: String,
    },
    /// Does nothing.
    Heartbeat,
    /// A message of the Noise handshake.
    Handshake(Bytes),
}

/// Why bytes are no frame that counts. Stock peers drop such a message without a word.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// They are no frame at all.
    #[error("it cannot be decoded")]
    Undecodable,
    /// Another version.
    #[error("its version is {0}")]
    Version(u32),
    /// A stream id that is empty, or white space alone.
    #[error("it has no stream id")]
    BlankStream,
    /// A stream id beyond [`MAX_STREAM_ID`].
    #[error("its stream id is too long")]
    LongStream,
    /// No body, or one that is not known.
    #[error("it has no body")]
    NoBody,
    /// A part of a message: reserved, and never used.
    #[error("it is a segment")]
    Segment,
    /// Data with nothing in it.
    #[error("its payload is empty")]
    NoPayload,
    /// A reset without a reason.
    #[error("it has no reason")]
    NoReason,
}

impl StreamId {
    /// Wraps `text`, unless no frame could carry it.
    ///
    /// # Errors
    /// It is blank or too long.
    pub fn new(text: impl Into<Arc<str>>) -> Result<Self, Invalid> {
        let text = text.into();
        match text.len() {
            _ if text.trim().is_empty() => Err(Invalid::BlankStream),
            length if length > MAX_STREAM_ID => Err(Invalid::LongStream),
            _ => Ok(Self(text)),
        }
    }

    /// A fresh one, as a stock harness makes them.
    pub fn fresh() -> Self {
        Self(uuid::Uuid::new_v4().to_string().into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for StreamId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// Whoever chose the name does not write into our logs with it.
impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_debug())
    }
}

impl Frame {
    /// Reads a message; its payload shares the message's buffer.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn decode(message: Bytes) -> Result<Self, Invalid> {
        let (version, stream, body) = wire::read(message)?;
        if version != VERSION {
            return Err(Invalid::Version(version));
        }
        Ok(Self { stream: StreamId::new(stream)?, body: body.ok_or(Invalid::NoBody)?.checked()? })
    }

    /// The bytes of the message.
    pub fn encode(&self) -> Bytes {
        wire::write(self.stream.as_str(), &self.body)
    }
}

/// Says kinds and lengths; payloads belong into no log.
impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Data { seq, payload } => write!(f, "Data({seq}, {} bytes)", payload.len()),
            Self::Ack => f.write_str("Ack"),
            Self::Resume { next_seq } => write!(f, "Resume({next_seq})"),
            Self::Reset { reason } => write!(f, "Reset({reason:?})"),
            Self::Heartbeat => f.write_str("Heartbeat"),
            Self::Handshake(payload) => write!(f, "Handshake({} bytes)", payload.len()),
        }
    }
}

/// Why streams are reset, as we write it; stock peers only end the stream.
pub mod reset {
    /// A message is missing: one came whose number was not due yet.
    pub const SEQUENCE_GAP: &str = "sequence_gap";
    /// There is no such stream, and this message does not begin one.
    pub const UNKNOWN_STREAM: &str = "unknown_stream";
    /// There are as many streams as there may be.
    pub const TOO_MANY_STREAMS: &str = "too_many_streams";
    /// Noise was offered, and is not spoken here.
    pub const HANDSHAKE_UNSUPPORTED: &str = "handshake_unsupported";
    /// Its messages were not taken for so long that other streams had to wait.
    pub const RECEIVER_STALLED: &str = "receiver_stalled";
    /// The connection in it was dropped.
    pub const DROPPED: &str = "dropped";
    /// The harness whose stream it was is gone; said by the rendezvous.
    pub const HARNESS_GONE: &str = "harness_gone";
    /// The stream id belongs to another socket; said by the rendezvous.
    pub const STREAM_TAKEN: &str = "stream_taken";
    /// All streams are taken, and it gives way to one of somebody who has less than a fair share of them; said by the rendezvous.
    pub const GAVE_WAY: &str = "gave_way";
    /// Too many streams were begun in too short a time; said by the rendezvous.
    pub const TOO_FAST: &str = "too_fast";
    /// Who opened it was not introduced, and the executor serves nobody of whom it does not know who that is.
    pub const NOT_INTRODUCED: &str = "not_introduced";
    /// Its messages came so slowly that other streams had to wait; said by the rendezvous.
    pub const SENDER_STALLED: &str = "sender_stalled";
}

#[cfg(test)]
mod tests;
