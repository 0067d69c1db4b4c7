//! The protobuf messages behind frames, package `codex.exec_server.relay.v1`, and nothing but their shape.
//!
//! In flow bytes and the parts of a frame, out flow the other. Which of them are valid is not known here, but for what
//! only the shape can tell.

use bytes::Bytes;
use prost::{Message, Oneof};

use super::{Body, Invalid, VERSION};

#[derive(Clone, PartialEq, Message)]
struct RelayMessageFrame {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(string, tag = "2")]
    stream_id: String,
    #[prost(uint32, tag = "3")]
    ack: u32,
    #[prost(uint32, tag = "4")]
    ack_bits: u32,
    #[prost(oneof = "RelayBody", tags = "5, 6, 7, 8, 9, 10")]
    body: Option<RelayBody>,
}

/// The body as it is on the wire.
#[derive(Clone, PartialEq, Oneof)]
pub(super) enum RelayBody {
    #[prost(message, tag = "5")]
    Data(RelayData),
    #[prost(message, tag = "6")]
    AckFrame(RelayAck),
    #[prost(message, tag = "7")]
    Resume(RelayResume),
    #[prost(message, tag = "8")]
    Reset(RelayReset),
    #[prost(message, tag = "9")]
    Heartbeat(RelayHeartbeat),
    #[prost(message, tag = "10")]
    Handshake(RelayHandshake),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RelayData {
    #[prost(uint32, tag = "1")]
    seq: u32,
    #[prost(uint32, tag = "2")]
    segment_index: u32,
    #[prost(uint32, tag = "3")]
    segment_count: u32,
    #[prost(bytes = "bytes", tag = "4")]
    payload: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RelayAck {}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RelayResume {
    #[prost(uint32, tag = "1")]
    next_seq: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RelayReset {
    #[prost(string, tag = "1")]
    reason: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RelayHeartbeat {}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RelayHandshake {
    #[prost(bytes = "bytes", tag = "1")]
    payload: Bytes,
}

/// Version, stream id and body of `message`.
pub(super) fn read(message: Bytes) -> Result<(u32, String, Option<RelayBody>), Invalid> {
    let frame = RelayMessageFrame::decode(message).map_err(|_| Invalid::Undecodable)?;
    Ok((frame.version, frame.stream_id, frame.body))
}

/// The bytes of a frame of ours.
pub(super) fn write(stream: &str, body: &Body) -> Bytes {
    let frame = RelayMessageFrame {
        version: VERSION,
        stream_id: stream.to_owned(),
        ack: 0,
        ack_bits: 0,
        body: Some(RelayBody::from(body)),
    };
    frame.encode_to_vec().into()
}

impl RelayBody {
    /// The body, if it keeps the rules for its kind.
    pub(super) fn checked(self) -> Result<Body, Invalid> {
        match self {
            Self::Data(data) if data.segment_index != 0 || data.segment_count != 1 => Err(Invalid::Segment),
            Self::Data(data) if data.payload.is_empty() => Err(Invalid::NoPayload),
            Self::Data(RelayData { seq, payload, .. }) => Ok(Body::Data { seq, payload }),
            Self::AckFrame(RelayAck {}) => Ok(Body::Ack),
            Self::Resume(RelayResume { next_seq }) => Ok(Body::Resume { next_seq }),
            Self::Reset(RelayReset { reason }) if reason.is_empty() => Err(Invalid::NoReason),
            Self::Reset(RelayReset { reason }) => Ok(Body::Reset { reason }),
            Self::Heartbeat(RelayHeartbeat {}) => Ok(Body::Heartbeat),
            Self::Handshake(RelayHandshake { payload }) => Ok(Body::Handshake(payload)),
        }
    }
}

impl From<&Body> for RelayBody {
    fn from(body: &Body) -> Self {
        match body {
            Body::Data { seq, payload } => {
                Self::Data(RelayData { seq: *seq, segment_index: 0, segment_count: 1, payload: payload.clone() })
            }
            Body::Ack => Self::AckFrame(RelayAck {}),
            Body::Resume { next_seq } => Self::Resume(RelayResume { next_seq: *next_seq }),
            Body::Reset { reason } => Self::Reset(RelayReset { reason: reason.clone() }),
            Body::Heartbeat => Self::Heartbeat(RelayHeartbeat {}),
            Body::Handshake(payload) => Self::Handshake(RelayHandshake { payload: payload.clone() }),
        }
    }
}
