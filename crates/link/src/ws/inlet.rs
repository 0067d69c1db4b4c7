//! Websocket frames as they come, put together to messages. Pure: bytes in, arrivals or a broken rule out.
//!
//! A message is gathered in one buffer of its own, which belongs to whoever gets it; so a large one leaves nothing behind
//! here. Its bytes can be put there from outside ([`Inlet::room`]), without passing through another buffer.

use std::io::Cursor;

use bytes::buf::Limit;
use bytes::{BufMut as _, Bytes};
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

use super::frames::mask;
use crate::message::Message;

/// Longest header of a frame, in bytes.
const HEADER: usize = 14;
/// Longest payload of a control frame, in bytes (RFC 6455, 5.5).
const CONTROL: usize = 125;
/// From so many missing bytes on, a payload is worth to be read to its place.
const WORTH: usize = 16 * 1024;

/// What came, whole.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// A message.
    Message(Message),
    /// A ping, to be answered with this.
    Ping(Bytes),
    /// A pong.
    Pong(Bytes),
    /// A goodbye, with the code and the text that it carries, if any.
    Close(Option<(u16, String)>),
}

/// A rule that the peer broke.
#[derive(Debug)]
pub(super) enum Violation {
    /// A message is too large.
    TooBig,
    /// A text is none.
    Utf8,
    /// Anything else.
    Protocol(String),
}

/// What is under way.
#[derive(Debug)]
pub(super) struct Inlet {
    /// The peer has to mask.
    masked: bool,
    /// Largest message, in bytes.
    limit: usize,
    header: [u8; HEADER],
    /// How much of a header there is.
    known: usize,
    frame: Option<Frame>,
    message: Option<Partial>,
}

/// A frame whose payload is not complete.
#[derive(Debug)]
struct Frame {
    control: Option<(Control, Vec<u8>)>,
    is_final: bool,
    left: usize,
    key: Option<[u8; 4]>,
}

/// A message that is not complete.
#[derive(Debug)]
struct Partial {
    is_text: bool,
    bytes: Vec<u8>,
}

impl From<ProtocolError> for Violation {
    fn from(error: ProtocolError) -> Self {
        Self::Protocol(Error::from(error).to_string())
    }
}

impl Inlet {
    /// For what comes to us in this role.
    pub(super) fn new(ours: Role, limit: usize) -> Self {
        let masked = ours == Role::Server;
        Self { masked, limit, header: [0; HEADER], known: 0, frame: None, message: None }
    }

    /// Takes bytes off the front of `input`: all of them, or those up to the end of what has come whole.
    pub(super) fn feed(&mut self, input: &mut &[u8]) -> Result<Option<Arrival>, Violation> {
        while !input.is_empty() {
            let Some(frame) = &self.frame else {
                if self.header(input)?
                    && self.frame.as_ref().is_some_and(|frame| frame.left == 0)
                    && let Some(arrival) = self.filled(0)?
                {
                    return Ok(Some(arrival));
                }
                continue;
            };
            let (now, rest) = input.split_at(frame.left.min(input.len()));
            *input = rest;
            if let Some(payload) = self.payload() {
                payload.extend_from_slice(now);
            }
            if let Some(arrival) = self.filled(now.len())? {
                return Ok(Some(arrival));
            }
        }
        Ok(None)
    }

    /// Room for what a long frame lacks; whoever puts bytes there says so with [`Self::filled`].
    pub(super) fn room(&mut self) -> Option<Limit<&mut Vec<u8>>> {
        let left = self.frame.as_ref().map(|frame| frame.left).filter(|left| *left >= WORTH)?;
        self.payload().map(|payload| payload.limit(left))
    }

    /// So many bytes more are in their place.
    pub(super) fn filled(&mut self, count: usize) -> Result<Option<Arrival>, Violation> {
        let Some(frame) = &mut self.frame else { return Ok(None) };
        frame.left -= count;
        let (is_complete, key) = (frame.left == 0, frame.key);
        if let Some(key) = &mut frame.key {
            key.rotate_left(count % 4);
        }
        if let (Some(key), Some(payload)) = (key, self.payload()) {
            let start = payload.len() - count;
            mask(payload.get_mut(start..).unwrap_or_default(), key);
        }
        if is_complete { self.complete() } else { Ok(None) }
    }

    fn payload(&mut self) -> Option<&mut Vec<u8>> {
        match &mut self.frame {
            Some(Frame { control: Some((_, payload)), .. }) => Some(payload),
            _ => self.message.as_mut().map(|message| &mut message.bytes),
        }
    }

    /// Takes bytes of a header; whether that is complete now.
    fn header(&mut self, input: &mut &[u8]) -> Result<bool, Violation> {
        while let Some((byte, rest)) = input.split_first() {
            let Some(place) = self.header.get_mut(self.known) else { break };
            *place = *byte;
            self.known += 1;
            *input = rest;
            if self.known < 2 {
                continue;
            }
            let known = self.header.get(..self.known).unwrap_or_default();
            match FrameHeader::parse(&mut Cursor::new(known)) {
                Ok(None) => {}
                Ok(Some((header, length))) => {
                    self.known = 0;
                    self.begin(&header, length)?;
                    return Ok(true);
                }
                Err(error) => return Err(Violation::Protocol(error.to_string())),
            }
        }
        Ok(false)
    }

    fn begin(&mut self, header: &FrameHeader, length: u64) -> Result<(), Violation> {
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(ProtocolError::NonZeroReservedBits.into());
        }
        match (self.masked, header.mask) {
            (true, None) => return Err(ProtocolError::UnmaskedFrameFromClient.into()),
            (false, Some(_)) => return Err(ProtocolError::MaskedFrameFromServer.into()),
            _ => {}
        }
        let left = usize::try_from(length).map_err(|_| Violation::TooBig)?;
        let control = match (header.opcode, &mut self.message) {
            (OpCode::Control(_), _) if !header.is_final => return Err(ProtocolError::FragmentedControlFrame.into()),
            (OpCode::Control(_), _) if left > CONTROL => return Err(ProtocolError::ControlFrameTooBig.into()),
            (OpCode::Control(control), _) => Some((control, Vec::with_capacity(left))),
            (OpCode::Data(Data::Continue), None) => return Err(ProtocolError::UnexpectedContinueFrame.into()),
            (OpCode::Data(Data::Continue), Some(message)) => {
                if left > self.limit - message.bytes.len() {
                    return Err(Violation::TooBig);
                }
                message.bytes.reserve(left);
                None
            }
            (OpCode::Data(data), Some(_)) => return Err(ProtocolError::ExpectedFragment(data).into()),
            (OpCode::Data(_), None) if left > self.limit => return Err(Violation::TooBig),
            (OpCode::Data(data), message) => {
                *message = Some(Partial { is_text: data == Data::Text, bytes: Vec::with_capacity(left) });
                None
            }
        };
        self.frame = Some(Frame { control, is_final: header.is_final, left, key: header.mask });
        Ok(())
    }

    /// The frame is complete.
    fn complete(&mut self) -> Result<Option<Arrival>, Violation> {
        let Some(Frame { control, is_final, .. }) = self.frame.take() else { return Ok(None) };
        match control {
            Some((Control::Ping, payload)) => Ok(Some(Arrival::Ping(payload.into()))),
            Some((Control::Pong, payload)) => Ok(Some(Arrival::Pong(payload.into()))),
            Some((_, payload)) => Ok(Some(Arrival::Close(goodbye(&payload)?))),
            None if !is_final => Ok(None),
            None => match self.message.take() {
                Some(Partial { is_text: true, bytes }) => {
                    let text = String::from_utf8(bytes).map_err(|_| Violation::Utf8)?;
                    Ok(Some(Arrival::Message(Message::text(text))))
                }
                Some(Partial { is_text: false, bytes }) => Ok(Some(Arrival::Message(Message::Binary(bytes.into())))),
                None => Ok(None),
            },
        }
    }
}

/// What a close frame says.
fn goodbye(payload: &[u8]) -> Result<Option<(u16, String)>, Violation> {
    match payload {
        [] => Ok(None),
        [_] => Err(ProtocolError::InvalidCloseSequence.into()),
        [a, b, text @ ..] => {
            let text = std::str::from_utf8(text).map_err(|_| Violation::Utf8)?;
            let code = u16::from_be_bytes([*a, *b]);
            Ok(Some(match CloseCode::from(code).is_allowed() {
                true => (code, text.to_owned()),
                // A code that says nothing, or must not be sent.
                false => (CloseCode::Protocol.into(), String::new()),
            }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::frames::Pieces;
    use super::*;

    const KEY: [u8; 4] = [1, 2, 3, 4];

    fn wire(message: Message, fragment: usize, key: Option<[u8; 4]>) -> Vec<u8> {
        let mut buffer = Vec::new();
        let mut pieces = Pieces::of(message, fragment);
        while let Some(mut payload) = pieces.next(&mut buffer, key) {
            while payload.fill(&mut buffer, 1 << 20) {}
        }
        buffer
    }

    /// Feeds `wire` in steps of `step` bytes, with longer ones put into the room where there is any.
    fn arrivals(inlet: &mut Inlet, mut wire: &[u8], step: usize) -> Result<Vec<Arrival>, Violation> {
        let mut arrivals = Vec::new();
        while !wire.is_empty() {
            let (mut now, rest) = wire.split_at(step.min(wire.len()));
            if let Some(mut room) = inlet.room() {
                let count = room.remaining_mut().min(now.len());
                room.put_slice(&now[..count]);
                arrivals.extend(inlet.filled(count)?);
                now = &now[count..];
            }
            while !now.is_empty() {
                arrivals.extend(inlet.feed(&mut now)?);
            }
            wire = rest;
        }
        Ok(arrivals)
    }

    #[test]
    fn messages_are_whole_however_they_come() {
        let long: String = (0..100_000).map(|at| char::from(b'a' + (at % 26) as u8)).collect();
        let messages = ["", "ä", "hello", &long].map(Message::from);
        let raw = Message::Binary(long.clone().into_bytes().into());
        for key in [None, Some(KEY)] {
            for fragment in [3, 125, 126, 65_536, 1 << 20] {
                let expected: Vec<_> = messages.iter().chain([&raw]).cloned().collect();
                let wire: Vec<u8> = expected.iter().flat_map(|message| wire(message.clone(), fragment, key)).collect();
                for step in [1, 7, 20_000, wire.len()] {
                    let role = if key.is_some() { Role::Server } else { Role::Client };
                    let mut inlet = Inlet::new(role, 1 << 20);
                    let arrived = arrivals(&mut inlet, &wire, step).unwrap();
                    let expected: Vec<_> = expected.iter().cloned().map(Arrival::Message).collect();
                    assert!(arrived == expected, "fragments of {fragment}, steps of {step}");
                    assert!(inlet.frame.is_none() && inlet.message.is_none() && inlet.room().is_none());
                }
            }
        }
    }

    #[test]
    fn a_control_frame_may_come_inside_a_message() {
        let mut inlet = Inlet::new(Role::Client, 100);
        let wire = b"\x01\x01\xc3\x89\x01x\x8a\x00\x80\x01\xa4\x88\x05\x03\xe8bye\x88\x00";
        let expected = [
            Arrival::Ping(Bytes::from_static(b"x")),
            Arrival::Pong(Bytes::new()),
            Arrival::Message("ä".into()),
            Arrival::Close(Some((1000, "bye".to_owned()))),
            Arrival::Close(None),
        ];
        assert_eq!(arrivals(&mut inlet, wire, 1).unwrap(), expected);
    }

    #[test]
    fn broken_rules_are_told() {
        let told = |role, wire: &[u8]| match arrivals(&mut Inlet::new(role, 10), wire, 1) {
            Ok(arrivals) => format!("{arrivals:?}"),
            Err(Violation::TooBig) => "too big".to_owned(),
            Err(Violation::Utf8) => "no text".to_owned(),
            Err(Violation::Protocol(text)) => text,
        };
        let protocol = |error: ProtocolError| Error::from(error).to_string();
        for (wire, expected) in [
            (&b"\xc1\x00"[..], protocol(ProtocolError::NonZeroReservedBits)),
            (b"\x83\x00", protocol(ProtocolError::InvalidOpcode(3))),
            (b"\x8b\x00", protocol(ProtocolError::InvalidOpcode(11))),
            (b"\x81\x80\0\0\0\0", protocol(ProtocolError::MaskedFrameFromServer)),
            (b"\x80\x00", protocol(ProtocolError::UnexpectedContinueFrame)),
            (b"\x01\x00\x81\x00", protocol(ProtocolError::ExpectedFragment(Data::Text))),
            (b"\x09\x00", protocol(ProtocolError::FragmentedControlFrame)),
            (b"\x89\x7e\x00\x7e", protocol(ProtocolError::ControlFrameTooBig)),
            (b"\x88\x01x", protocol(ProtocolError::InvalidCloseSequence)),
            (b"\x88\x03\x03\xe8\xff", "no text".to_owned()),
            (b"\x81\x01\xff", "no text".to_owned()),
            (b"\x81\x02\xc3\x28", "no text".to_owned()),
            (b"\x81\x0b", "too big".to_owned()),
            (b"\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff", "too big".to_owned()),
            (b"\x01\x09123456789\x80\x02", "too big".to_owned()),
        ] {
            assert_eq!(told(Role::Client, wire), expected, "{wire:?}");
        }
        assert_eq!(told(Role::Server, b"\x81\x00"), protocol(ProtocolError::UnmaskedFrameFromClient));
    }

    #[test]
    fn no_bytes_make_it_panic_or_hold_more_than_the_limit() {
        let cases = std::env::var("EXEDRA_CASES").ok().and_then(|n| n.parse::<u64>().ok()).map_or(2_000, |n| n * 100);
        for seed in 0..cases {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut inlet = Inlet::new(Role::Client, 1000);
            let length = random.usize(0..200);
            let bytes: Vec<u8> = std::iter::repeat_with(|| match random.u8(0..4) {
                0 => *random.choice(&[0x81, 0x82, 0x01, 0x80, 0x00, 0x89, 0x8a, 0x88]).unwrap(),
                1 => random.u8(0..8),
                _ => random.u8(..),
            })
            .take(length)
            .collect();
            if let Ok(arrivals) = arrivals(&mut inlet, &bytes, random.usize(1..9)) {
                assert!(arrivals.len() <= bytes.len());
            }
            let held = inlet.message.as_ref().map_or(0, |message| message.bytes.capacity());
            assert!(held <= 2_000, "seed {seed}: {held} bytes");
        }
    }
}
