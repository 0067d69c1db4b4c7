//! What a router reads of a frame: its tags, its version and its stream id, and never a payload.
//!
//! In flow the bytes of one message in pieces of any size, out flows the stream id as soon as it is known, and at the end
//! whether the message is one frame and one only. What could be read in two ways is a fault: a version or stream id that
//! comes twice, two bodies, a length that passes the end. Whoever has begun to pass a message on that turns out to be
//! faulty spoils the rest with [`Scanner::poison`], which no decoder accepts.

use super::{MAX_STREAM_ID, StreamId, VERSION};

/// Most bytes of a message before its head must be known: the version and the stream id come first in what every known
/// peer sends, and only numbers of some bytes may come before them.
pub const MAX_BEFORE_HEAD: usize = 1024;

/// What kind of body a frame has, as far as it matters to a router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The stream has ended.
    Reset,
    /// Anything else that is known.
    Other,
}

/// Why a message is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Fault {
    /// No protobuf message, or one with a wrong type at a place that is known.
    #[error("it cannot be decoded")]
    Undecodable,
    /// A version or a stream id that comes twice, or two bodies.
    #[error("a field comes twice")]
    Duplicate,
    /// Another version, or none.
    #[error("its version is not 1")]
    Version,
    /// No stream id, or a blank one.
    #[error("it has no stream id")]
    BlankStream,
    /// A stream id beyond [`MAX_STREAM_ID`].
    #[error("its stream id is too long")]
    LongStream,
    /// The version or the stream id stands too far behind.
    #[error("its stream id comes too late")]
    Late,
    /// No body.
    #[error("it has no body")]
    NoBody,
}

/// Reads one message.
#[derive(Clone, Debug, Default)]
pub struct Scanner {
    state: State,
    varint: u64,
    varint_len: u32,
    read: usize,
    version: Option<u64>,
    id: Vec<u8>,
    stream: Option<StreamId>,
    body: Option<Kind>,
    fault: Option<Fault>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Before a tag, or within one.
    #[default]
    Tag,
    /// Within the value of a number field.
    Number(u32),
    /// Within the length of a field.
    Length(u32),
    /// Within the stream id; so many bytes are left.
    Id(u64),
    /// Within something that is not looked at; so many bytes are left.
    Skip(u64),
}

const VERSION_FIELD: u32 = 1;
const STREAM_FIELD: u32 = 2;
const RESET_FIELD: u32 = 8;
const BODIES: std::ops::RangeInclusive<u32> = 5..=10;
const POISON: [u8; 17] = [0x07; 17];

impl Scanner {
    /// Reads on.
    pub fn push(&mut self, mut bytes: &[u8]) {
        while self.fault.is_none() && !bytes.is_empty() {
            let used = match self.state {
                State::Skip(left) => {
                    let used = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
                    self.advance(left - used as u64, State::Skip);
                    used
                }
                State::Id(left) => {
                    let used = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
                    self.id.extend(&bytes[..used]);
                    self.advance(left - used as u64, State::Id);
                    if self.state == State::Tag {
                        self.take_id();
                    }
                    used
                }
                State::Tag | State::Number(_) | State::Length(_) => {
                    self.varint_byte(bytes[0]);
                    1
                }
            };
            self.read = self.read.saturating_add(used);
            bytes = &bytes[used..];
            if self.fault.is_none() && self.read > MAX_BEFORE_HEAD && self.head().is_none() {
                self.fault = Some(Fault::Late);
            }
        }
    }

    /// Whose frame it is, once that is known; the rest of the message may still be at fault.
    pub fn head(&self) -> Option<&StreamId> {
        self.version.and(self.stream.as_ref())
    }

    /// What is wrong with it so far.
    pub fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// The message is complete.
    ///
    /// # Errors
    /// It is no frame that is passed on.
    pub fn finish(&self) -> Result<Kind, Fault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        if self.state != State::Tag || self.varint_len > 0 {
            return Err(Fault::Undecodable);
        }
        match (self.version, &self.stream) {
            (None, _) => Err(Fault::Version),
            (_, None) => Err(Fault::BlankStream),
            _ => self.body.ok_or(Fault::NoBody),
        }
    }

    /// Bytes that make any message undecodable that is broken off here and ended with them.
    pub fn poison(&self) -> &'static [u8] {
        // Were they exactly what the field still wants, the message would end well.
        let exact = matches!(self.state, State::Skip(16) | State::Id(16));
        if exact { &POISON } else { &POISON[..16] }
    }

    fn advance(&mut self, left: u64, state: fn(u64) -> State) {
        self.state = if left == 0 { State::Tag } else { state(left) };
    }

    fn varint_byte(&mut self, byte: u8) {
        // Ten bytes carry 64 bits; of the tenth only the lowest bit counts.
        if self.varint_len == 9 && byte > 1 {
            self.fault = Some(Fault::Undecodable);
            return;
        }
        self.varint |= u64::from(byte & 0x7f) << (7 * self.varint_len);
        self.varint_len += 1;
        if byte & 0x80 != 0 {
            return;
        }
        let value = std::mem::take(&mut self.varint);
        self.varint_len = 0;
        if let Err(fault) = self.number(value) {
            self.fault = Some(fault);
        }
    }

    fn number(&mut self, value: u64) -> Result<(), Fault> {
        self.state = match self.state {
            State::Number(field) => {
                if field == VERSION_FIELD {
                    if self.version.replace(value).is_some() {
                        return Err(Fault::Duplicate);
                    }
                    if value != u64::from(VERSION) {
                        return Err(Fault::Version);
                    }
                }
                State::Tag
            }
            State::Length(STREAM_FIELD) => match value {
                0 => return Err(Fault::BlankStream),
                value if value > MAX_STREAM_ID as u64 => return Err(Fault::LongStream),
                value => State::Id(value),
            },
            State::Length(_) if value == 0 => State::Tag,
            State::Length(_) => State::Skip(value),
            _ => return self.tag(value),
        };
        Ok(())
    }

    fn tag(&mut self, tag: u64) -> Result<(), Fault> {
        let tag = u32::try_from(tag).map_err(|_| Fault::Undecodable)?;
        let (field, wire) = (tag >> 3, tag & 7);
        let is_number = matches!(field, 1 | 3 | 4);
        let is_known = (VERSION_FIELD..=*BODIES.end()).contains(&field);
        self.state = match wire {
            0 if !is_known || is_number => State::Number(field),
            2 if !is_known || !is_number => State::Length(field),
            1 if !is_known => State::Skip(8),
            5 if !is_known => State::Skip(4),
            _ => return Err(Fault::Undecodable),
        };
        if field == 0 {
            return Err(Fault::Undecodable);
        }
        if field == STREAM_FIELD && (self.stream.is_some() || !self.id.is_empty()) {
            return Err(Fault::Duplicate);
        }
        if BODIES.contains(&field) {
            let kind = if field == RESET_FIELD { Kind::Reset } else { Kind::Other };
            if self.body.replace(kind).is_some() {
                return Err(Fault::Duplicate);
            }
        }
        Ok(())
    }

    fn take_id(&mut self) {
        match std::str::from_utf8(&self.id).map(StreamId::new) {
            Ok(Ok(stream)) => self.stream = Some(stream),
            Ok(Err(_)) => self.fault = Some(Fault::BlankStream),
            Err(_) => self.fault = Some(Fault::Undecodable),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::super::{Body, Frame};
    use super::*;

    fn scan(message: &[u8]) -> Result<(StreamId, Kind), Fault> {
        let mut scanner = Scanner::default();
        scanner.push(message);
        let kind = scanner.finish()?;
        Ok((scanner.head().unwrap().clone(), kind))
    }

    fn frame(id: &str, body: Body) -> Vec<u8> {
        Frame { stream: StreamId::new(id).unwrap(), body }.encode().to_vec()
    }

    fn data(payload: &[u8]) -> Body {
        Body::Data { seq: 3, payload: Bytes::copy_from_slice(payload) }
    }

    #[test]
    fn whose_it_is_and_whether_it_ends_the_stream() {
        let id = StreamId::new("a").unwrap();
        assert_eq!(scan(&frame("a", data(b"{}"))), Ok((id.clone(), Kind::Other)));
        assert_eq!(scan(&frame("a", Body::Resume { next_seq: 0 })), Ok((id.clone(), Kind::Other)));
        assert_eq!(scan(&frame("a", Body::Reset { reason: "x".into() })), Ok((id, Kind::Reset)));
    }

    #[test]
    fn what_two_parsers_could_read_in_two_ways_is_a_fault() {
        let good = frame("a", data(b"{}"));
        let with = |more: &[u8]| scan(&[&good[..], more].concat());
        assert!(with(&[0x18, 5]).is_ok(), "a field that nobody uses");
        assert!(with(&[0x7a, 1, 0]).is_ok(), "an unknown field");
        assert_eq!(with(&[0x12, 1, b'b']), Err(Fault::Duplicate));
        assert_eq!(with(&[0x08, 1]), Err(Fault::Duplicate));
        assert_eq!(with(&[0x32, 0]), Err(Fault::Duplicate), "a second body");
        assert_eq!(with(&[0x10, 1]), Err(Fault::Undecodable), "a stream id that is a number");
        assert_eq!(with(&[0x0b]), Err(Fault::Undecodable), "a group");
        assert_eq!(with(&[0x32, 5]), Err(Fault::Duplicate));
        assert_eq!(with(&[0x7a, 5]), Err(Fault::Undecodable), "a length beyond the end");
        assert_eq!(scan(&good[2..]), Err(Fault::Version));
        assert_eq!(scan(&[0x08, 1]), Err(Fault::BlankStream));
        assert_eq!(scan(&[0x08, 1, 0x12, 1, b' ', 0x32, 0]), Err(Fault::BlankStream));
        assert_eq!(scan(&[0x08, 1, 0x12, 1, b'a']), Err(Fault::NoBody));
        assert_eq!(scan(&[0x08, 2]), Err(Fault::Version));
        assert_eq!(scan(&[&[0x08, 1, 0x12, 0x81, 2], &[b'a'; 257][..]].concat()), Err(Fault::LongStream));
        let late = [&[0x2a, 0x80, 0x20], &[0; 4096][..], &good[..]].concat();
        assert_eq!(scan(&late), Err(Fault::Late));
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(payload: Vec<u8>, cuts in proptest::collection::vec(1usize..9, 1..40), more: Vec<u8>) {
            let message = [frame("stream", data(&[&payload[..], b"."].concat())), more].concat();
            let mut scanner = Scanner::default();
            let (mut rest, mut turn) = (&message[..], 0);
            while !rest.is_empty() {
                let (piece, left) = rest.split_at(cuts[turn % cuts.len()].min(rest.len()));
                scanner.push(piece);
                (rest, turn) = (left, turn + 1);
            }
            let whole = scan(&message);
            prop_assert_eq!(scanner.finish(), whole.map(|(_, kind)| kind));
        }

        /// What passes here is what the decoder of the ends reads, with the same stream.
        #[test]
        fn what_passes_and_is_decoded_is_of_the_same_stream(flips in proptest::collection::vec((0usize..60, any::<u8>()), 0..4)) {
            let mut message = frame("stream-1", data(b"{\"id\":1}"));
            for (at, byte) in flips {
                let len = message.len();
                message[at % len] ^= byte;
            }
            if let (Ok((stream, kind)), Ok(frame)) = (scan(&message), Frame::decode(message.into())) {
                prop_assert_eq!(stream, frame.stream);
                prop_assert_eq!(kind == Kind::Reset, matches!(frame.body, Body::Reset { .. }));
            }
        }

        #[test]
        fn a_message_that_is_broken_off_and_poisoned_is_no_frame(len in 0usize..40, cut in 0usize..80, more: Vec<u8>) {
            let whole = [frame("s", data(&vec![b'x'; len + 1])), more].concat();
            let begun = &whole[..cut.min(whole.len())];
            let mut scanner = Scanner::default();
            scanner.push(begun);
            let message = [begun, scanner.poison()].concat();
            prop_assert!(Frame::decode(message.into()).is_err());
        }
    }
}
