//! Websocket frames as bytes, for the writer: headers from the library, payloads masked here, piece by piece, so that a
//! large message is never copied as a whole. Pure: messages in, bytes out.

use bytes::Bytes;
use exedra_proto::close::CloseReason;
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use crate::message::Message;

/// One frame still to be written: header in the buffer, payload to follow.
#[derive(Debug)]
pub(super) struct Payload {
    bytes: Bytes,
    mask: Option<[u8; 4]>,
}

/// What the writer has to send for one message: one frame, or several if it passes the fragment size.
#[derive(Debug)]
pub(super) struct Pieces {
    rest: Bytes,
    opcode: Data,
    fragment: usize,
    done: bool,
}

impl Pieces {
    pub(super) fn of(message: Message, fragment: usize) -> Self {
        let opcode = if matches!(message, Message::Text(_)) { Data::Text } else { Data::Binary };
        Self { rest: message.into_bytes(), opcode, fragment: fragment.max(1), done: false }
    }

    /// Puts the header of the next frame into `buffer`, and gives its payload.
    pub(super) fn next(&mut self, buffer: &mut Vec<u8>, mask: Option<[u8; 4]>) -> Option<Payload> {
        if self.done {
            return None;
        }
        let bytes = self.rest.split_to(self.rest.len().min(self.fragment));
        self.done = self.rest.is_empty();
        header(buffer, OpCode::Data(self.opcode), self.done, bytes.len(), mask);
        self.opcode = Data::Continue;
        Some(Payload { bytes, mask })
    }
}

impl Payload {
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Puts up to `max` further bytes into `buffer`; `max` is a multiple of 4. Tells whether any are left.
    pub(super) fn fill(&mut self, buffer: &mut Vec<u8>, max: usize) -> bool {
        let piece = self.bytes.split_to(self.bytes.len().min(max));
        append(buffer, &piece, self.mask);
        !self.bytes.is_empty()
    }

    /// The payload itself, if it goes out as it is.
    pub(super) fn plain(&self) -> Option<Bytes> {
        self.mask.is_none().then(|| self.bytes.clone())
    }
}

/// A ping with this payload.
pub(super) fn ping(buffer: &mut Vec<u8>, payload: &[u8], mask: Option<[u8; 4]>) {
    header(buffer, OpCode::Control(Control::Ping), true, payload.len(), mask);
    append(buffer, payload, mask);
}

/// The answer to a ping with this payload.
pub(super) fn pong(buffer: &mut Vec<u8>, payload: &[u8], mask: Option<[u8; 4]>) {
    header(buffer, OpCode::Control(Control::Pong), true, payload.len(), mask);
    append(buffer, payload, mask);
}

/// What a close frame says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Goodbye {
    /// Our own reason.
    Ours(CloseReason),
    /// The peer's code given back; none for an empty frame.
    Echo(Option<u16>),
}

/// A close frame.
pub(super) fn close(buffer: &mut Vec<u8>, goodbye: &Goodbye, mask: Option<[u8; 4]>) {
    let mut payload = Vec::new();
    match goodbye {
        Goodbye::Ours(reason) => {
            payload.extend(reason.code().to_be_bytes());
            payload.extend(reason.text().bytes().take(123));
        }
        Goodbye::Echo(Some(code)) => payload.extend(code.to_be_bytes()),
        Goodbye::Echo(None) => {}
    }
    header(buffer, OpCode::Control(Control::Close), true, payload.len(), mask);
    append(buffer, &payload, mask);
}

fn header(buffer: &mut Vec<u8>, opcode: OpCode, is_final: bool, len: usize, mask: Option<[u8; 4]>) {
    let header = FrameHeader { is_final, rsv1: false, rsv2: false, rsv3: false, opcode, mask };
    // Writing into a vector cannot fail.
    let _ = header.format(len as u64, buffer);
}

fn append(buffer: &mut Vec<u8>, bytes: &[u8], mask: Option<[u8; 4]>) {
    let start = buffer.len();
    buffer.extend_from_slice(bytes);
    if let (Some(key), Some(added)) = (mask, buffer.get_mut(start..)) {
        self::mask(added, key);
    }
}

/// Masks bytes, or takes the mask off.
pub(super) fn mask(bytes: &mut [u8], key: [u8; 4]) {
    let [a, b, c, d] = key;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(message: &str, fragment: usize, mask: Option<[u8; 4]>, max: usize) -> Vec<u8> {
        let mut buffer = Vec::new();
        let mut pieces = Pieces::of(message.into(), fragment);
        while let Some(mut payload) = pieces.next(&mut buffer, mask) {
            while payload.fill(&mut buffer, max) {}
        }
        buffer
    }

    #[test]
    fn a_message_is_one_frame_or_fragments() {
        assert_eq!(encode("Hello", 8, None, 64), b"\x81\x05Hello");
        assert_eq!(encode("Hello", 5, None, 64), b"\x81\x05Hello");
        assert_eq!(encode("Hello", 2, None, 64), b"\x01\x02He\x00\x02ll\x80\x01o");
        assert_eq!(encode("", 8, None, 64), b"\x81\x00");
    }

    #[test]
    fn masking_in_pieces_is_masking() {
        let mask = Some([0x37, 0xfa, 0x21, 0x3d]);
        // The example of RFC 6455, 5.7.
        assert_eq!(encode("Hello", 8, mask, 64), b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");
        let long = "0123456789".repeat(20);
        assert_eq!(encode(&long, 1000, mask, 12), encode(&long, 1000, mask, 4096));
    }

    #[test]
    fn a_goodbye_says_code_and_reason() {
        let mut buffer = Vec::new();
        close(&mut buffer, &Goodbye::Ours(CloseReason::TooBig), None);
        assert_eq!(&buffer[..4], [0x88, 33, 0x03, 0xf1]);
        assert_eq!(&buffer[4..], b"a message is larger than 64 MiB");
        buffer.clear();
        close(&mut buffer, &Goodbye::Echo(None), None);
        assert_eq!(buffer, [0x88, 0]);
    }
}
