//! Masked frames of a client become unmasked frames for its counterpart, in the buffer they were read into.
//!
//! Bytes are read into [`Reframer::room`]; [`Reframer::filled`] works through them and leaves, contiguous, the frames to
//! be written ([`Reframer::ready`]). A large frame goes out in pieces as it arrives, each a frame of its own; a small one
//! stays whole; several go out together. A head written is never longer than the one read, so nothing is copied but to
//! close the gaps. Control frames are taken out. It knows neither sockets nor what a payload says.

use std::ops::Range;

use exedra_proto::mark;

use super::Violation;
use super::header::{self, Header, MAX_CONTROL, Opcode};
use super::mask;
use crate::limits::{FIRST_BUFFER, MAX_MESSAGE, MAX_PIECE, SMALL_FRAME};

/// Space before what is read, for the head of a piece that continues a frame.
const HEADROOM: usize = 16;
const _: () = assert!(HEADROOM >= header::MAX_LEN && MAX_PIECE > SMALL_FRAME as usize + HEADROOM);

/// Payload of a control frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlPayload {
    bytes: [u8; MAX_CONTROL],
    len: usize,
}

impl ControlPayload {
    /// The first 125 bytes of `payload`.
    pub fn new(payload: &[u8]) -> Self {
        let len = payload.len().min(MAX_CONTROL);
        let mut bytes = [0; MAX_CONTROL];
        bytes[..len].copy_from_slice(&payload[..len]);
        Self { bytes, len }
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Why no more frames come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The peer's close frame.
    Close(ControlPayload),
    /// The peer broke the rules.
    Violation(Violation),
}

/// What a filling of the buffer brought, apart from frames to write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// The last mark among it.
    pub mark: Option<u64>,
    /// The last other ping among it, which wants an answer.
    pub ping: Option<ControlPayload>,
    /// The last pong among it.
    pub pong: Option<ControlPayload>,
    /// Payload of messages, in bytes.
    pub payload: u64,
    /// Nothing comes after this; what is ready came before it.
    pub end: Option<End>,
}

/// One direction of a connection.
#[derive(Debug)]
pub struct Reframer {
    buffer: Vec<u8>,
    unread: Range<usize>,
    ready: Range<usize>,
    frame: Option<Frame>,
    in_message: bool,
    message: u64,
    max_message: u64,
    grow: bool,
    /// How much came last.
    last: usize,
}

/// A data frame whose payload is passing.
#[derive(Debug)]
struct Frame {
    opcode: Opcode,
    fin: bool,
    mask: [u8; 4],
    remaining: u64,
}

impl Default for Reframer {
    fn default() -> Self {
        Self::new(MAX_MESSAGE)
    }
}

impl Reframer {
    /// Starts without a buffer; messages are limited to `max_message` bytes.
    pub fn new(max_message: u64) -> Self {
        Self {
            buffer: Vec::new(),
            unread: 0..0,
            ready: 0..0,
            frame: None,
            in_message: false,
            message: 0,
            max_message,
            grow: false,
            last: 0,
        }
    }

    /// Where to read to: never empty. What is ready must have been written.
    pub fn room(&mut self) -> &mut [u8] {
        debug_assert!(self.ready.is_empty());
        if self.buffer.is_empty() {
            self.buffer = vec![0; HEADROOM + FIRST_BUFFER];
            self.unread = HEADROOM..HEADROOM;
        } else if self.unread.start != HEADROOM {
            let len = self.unread.len();
            self.buffer.copy_within(self.unread.clone(), HEADROOM);
            self.unread = HEADROOM..HEADROOM + len;
        }
        let is_large = self.buffer.len() > HEADROOM + FIRST_BUFFER;
        if is_large && self.unread.is_empty() && self.last < FIRST_BUFFER {
            // What comes now is little, a pong at last: thousands that were busy once must not keep what they had.
            self.buffer = vec![0; HEADROOM + FIRST_BUFFER];
        } else if self.grow || self.unread.end == self.buffer.len() {
            self.buffer.resize(HEADROOM + MAX_PIECE, 0);
            self.grow = false;
        }
        &mut self.buffer[self.unread.end..]
    }

    /// Whether there is no buffer, so that [`Reframer::room`] would have to make one.
    pub fn is_bare(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Gives the buffer up, if nothing is in it.
    pub fn release(&mut self) {
        if self.unread.is_empty() && self.ready.is_empty() {
            self.buffer = Vec::new();
            self.unread = 0..0;
            self.grow = false;
        }
    }

    /// Works through what is unread after `read` more bytes came into the room.
    pub fn filled(&mut self, read: usize) -> Turn {
        self.unread.end += read;
        self.last = read;
        self.grow = self.unread.end == self.buffer.len();
        let mut turn = Turn::default();
        while turn.end.is_none() {
            match self.step(&mut turn) {
                Ok(true) => {}
                Ok(false) => break,
                Err(violation) => turn.end = Some(End::Violation(violation)),
            }
        }
        turn
    }

    /// Frames to be written.
    pub fn ready(&self) -> &[u8] {
        &self.buffer[self.ready.clone()]
    }

    /// The first `written` bytes of what is ready were written.
    pub fn written(&mut self, written: usize) {
        self.ready.start += written;
        if self.ready.is_empty() {
            self.ready = 0..0;
        }
    }

    /// Takes what is ready away.
    pub fn take_ready(&mut self) -> Vec<u8> {
        self.buffer[std::mem::take(&mut self.ready)].to_vec()
    }

    /// From now on messages may have any size: for one who only waits for the close frame behind them.
    pub fn lift_limit(&mut self) {
        self.max_message = u64::MAX;
    }

    /// One frame, or what is there of it; `false` if more has to be read first.
    fn step(&mut self, turn: &mut Turn) -> Result<bool, Violation> {
        if let Some(frame) = self.frame.take() {
            return Ok(self.pass(frame, turn));
        }
        let Some(head) = header::parse(&self.buffer[self.unread.clone()])? else { return Ok(false) };
        if head.opcode.is_control() {
            return Ok(self.control(&head, turn));
        }
        let message = self.check(&head)?;
        let arrived = (self.unread.len() - head.len) as u64;
        if head.payload <= SMALL_FRAME && arrived < head.payload {
            return Ok(false);
        }
        self.message = message;
        self.in_message = !head.fin;
        self.unread.start += head.len;
        let frame = Frame { opcode: head.opcode, fin: head.fin, mask: head.mask, remaining: head.payload };
        Ok(self.pass(frame, turn))
    }

    /// Whether a data frame may come now; gives the size of its message up to its end.
    fn check(&self, head: &Header) -> Result<u64, Violation> {
        let continues = head.opcode == Opcode::Continuation;
        if continues != self.in_message {
            return Err(Violation::Continuation);
        }
        let before = if continues { self.message } else { 0 };
        let message = before.saturating_add(head.payload);
        if message > self.max_message { Err(Violation::TooBig) } else { Ok(message) }
    }

    /// Makes a frame of what has arrived of `frame`'s payload. `false` if it is not complete.
    fn pass(&mut self, mut frame: Frame, turn: &mut Turn) -> bool {
        let arrived = self.unread.len();
        let len = usize::try_from(frame.remaining).map_or(arrived, |remaining| remaining.min(arrived));
        if len == 0 && frame.remaining > 0 {
            self.frame = Some(frame);
            return false;
        }
        frame.remaining -= len as u64;
        let complete = frame.remaining == 0;
        let (head, head_len) = header::encode(frame.fin && complete, frame.opcode, len);
        let payload = self.unread.start;
        if self.ready.is_empty() {
            self.ready = payload - head_len..payload - head_len;
        }
        let to = self.ready.end + head_len;
        self.buffer[self.ready.end..to].copy_from_slice(&head[..head_len]);
        if to != payload {
            self.buffer.copy_within(payload..payload + len, to);
        }
        mask::lift(&mut frame.mask, &mut self.buffer[to..to + len]);
        self.ready.end = to + len;
        self.unread.start += len;
        turn.payload += len as u64;
        if !complete {
            frame.opcode = Opcode::Continuation;
            self.frame = Some(frame);
        }
        complete
    }

    /// Takes a control frame out. `false` if it is not complete.
    fn control(&mut self, head: &Header, turn: &mut Turn) -> bool {
        let start = self.unread.start + head.len;
        let Some(end) = usize::try_from(head.payload).ok().map(|len| start + len) else { return false };
        if end > self.unread.end {
            return false;
        }
        let mut key = head.mask;
        mask::lift(&mut key, &mut self.buffer[start..end]);
        let payload = ControlPayload::new(&self.buffer[start..end]);
        self.unread.start = end;
        match head.opcode {
            Opcode::Ping => match mark::decode(payload.as_slice()) {
                Some(number) => turn.mark = Some(number),
                None => turn.ping = Some(payload),
            },
            Opcode::Close => turn.end = Some(End::Close(payload)),
            _ => turn.pong = Some(payload),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame as a client sends it.
    fn frame(first: u8, payload: &[u8], key: [u8; 4]) -> Vec<u8> {
        let mut bytes = vec![first];
        match payload.len() {
            len @ ..126 => bytes.push(0x80 | len as u8),
            len @ ..65_536 => {
                bytes.push(0xfe);
                bytes.extend((len as u16).to_be_bytes());
            }
            len => {
                bytes.push(0xff);
                bytes.extend((len as u64).to_be_bytes());
            }
        }
        bytes.extend(key);
        bytes.extend(payload.iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]));
        bytes
    }

    /// What a receiver makes of unmasked frames: messages with their opcodes, and the number of frames.
    fn messages(mut bytes: &[u8]) -> (Vec<(u8, Vec<u8>)>, usize) {
        let (mut done, mut open, mut frames) = (Vec::new(), None::<(u8, Vec<u8>)>, 0);
        while !bytes.is_empty() {
            assert_eq!(bytes[1] & 0x80, 0, "masked");
            let (len, head) = match bytes[1] {
                126 => (usize::from(u16::from_be_bytes([bytes[2], bytes[3]])), 4),
                127 => (u64::from_be_bytes(bytes[2..10].try_into().unwrap()) as usize, 10),
                len => (usize::from(len), 2),
            };
            assert!(len <= MAX_PIECE);
            let opcode = bytes[0] & 0x0f;
            let mut message = match (open.take(), opcode) {
                (Some(message), 0) => message,
                (None, 1 | 2) => (opcode, Vec::new()),
                (open, opcode) => panic!("opcode {opcode} within {open:?}"),
            };
            message.1.extend(&bytes[head..head + len]);
            if bytes[0] & 0x80 != 0 {
                done.push(message)
            } else {
                open = Some(message)
            }
            bytes = &bytes[head + len..];
            frames += 1;
        }
        assert_eq!(open, None, "a message without an end");
        (done, frames)
    }

    /// What came out of a feeding.
    #[derive(Default)]
    struct Fed {
        out: Vec<u8>,
        pings: Vec<ControlPayload>,
        payload: u64,
        end: Option<End>,
    }

    /// Feeds `input` in bits of `bit` bytes, up to the end if there is one.
    fn feed(reframer: &mut Reframer, mut input: &[u8], mut bit: impl FnMut() -> usize) -> Fed {
        let mut fed = Fed::default();
        while !input.is_empty() && fed.end.is_none() {
            let room = reframer.room();
            let len = bit().min(room.len()).min(input.len());
            assert!(len > 0, "no room");
            room[..len].copy_from_slice(&input[..len]);
            input = &input[len..];
            let turn = reframer.filled(len);
            fed.pings.extend(turn.ping);
            fed.payload += turn.payload;
            fed.end = turn.end;
            while !reframer.ready().is_empty() {
                let part = bit().min(reframer.ready().len());
                fed.out.extend(&reframer.ready()[..part]);
                reframer.written(part);
            }
        }
        fed
    }

    #[test]
    fn a_buffer_is_given_up_only_when_nothing_is_in_it_and_comes_back() {
        let mut reframer = Reframer::default();
        assert!(reframer.is_bare());
        assert_eq!(reframer.filled(0), Turn::default(), "nothing, of no buffer");
        let message = frame(0x82, b"hello", [1, 2, 3, 4]);
        for half in [&message[..3], &message[3..]] {
            reframer.room()[..half.len()].copy_from_slice(half);
            reframer.filled(half.len());
            reframer.release();
            assert!(!reframer.is_bare());
        }
        assert_eq!(reframer.ready(), b"\x82\x05hello");
        reframer.written(7);
        reframer.release();
        assert!(reframer.is_bare() && reframer.ready().is_empty());
        reframer.room()[..message.len()].copy_from_slice(&message);
        reframer.filled(message.len());
        assert_eq!(reframer.ready(), b"\x82\x05hello");
    }

    #[test]
    fn small_frames_stay_single_frames_however_they_arrive() {
        let mut input = Vec::new();
        for len in [0usize, 1, 125, 126, 4_000, 16_384] {
            input.extend(frame(0x82, &vec![7; len], [1, 2, 3, 4]));
        }
        for max in [1, 2, 3, 7, 100, 5_000, usize::MAX] {
            let (messages, frames) = messages(&feed(&mut Reframer::default(), &input, || max).out);
            assert_eq!((messages.len(), frames), (6, 6), "in bits of {max}");
        }
    }

    #[test]
    fn small_frames_read_together_are_written_together() {
        let mut reframer = Reframer::default();
        let input: Vec<u8> = (0..20).flat_map(|i| frame(0x81, &[b'a' + i; 30], [i, 2, 3, 4])).collect();
        reframer.room()[..input.len()].copy_from_slice(&input);
        reframer.filled(input.len());
        assert_eq!(messages(reframer.ready()).1, 20);
    }

    #[test]
    fn a_large_frame_leaves_in_pieces_before_its_end_arrives() {
        let mut reframer = Reframer::default();
        let payload: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
        let input = frame(0x81, &payload, [9, 8, 7, 6]);
        let Fed { mut out, payload: passed, .. } = feed(&mut reframer, &input[..input.len() - 1], || usize::MAX);
        assert_eq!(passed, 2_999_999);
        assert_eq!(out[0], 0x01);
        out.extend(feed(&mut reframer, &input[input.len() - 1..], || 1).out);
        let (messages, frames) = messages(&out);
        assert!(messages == [(1, payload)]);
        assert!(frames >= 46, "{frames}");
    }

    #[test]
    fn messages_survive_random_splits_with_control_frames_between() {
        for seed in 0..300 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let size = if seed % 40 == 0 { 150_000 } else { [10, 300, 6_000][rng.usize(..3)] };
            let (mut input, mut sent, mut pings, mut last) = (Vec::new(), Vec::new(), 0, None);
            for _ in 0..rng.usize(1..12) {
                let opcode = rng.u8(1..=2);
                let parts = rng.usize(1..5);
                let mut whole = Vec::new();
                for part in 0..parts {
                    if rng.bool() {
                        let payload = vec![rng.u8(..); rng.usize(..=125)];
                        input.extend(frame(if rng.bool() { 0x89 } else { 0x8a }, &payload, rng.u32(..).to_ne_bytes()));
                        if input[input.len() - payload.len() - 6] == 0x89 {
                            (pings, last) = (pings + 1, Some(ControlPayload::new(&payload)));
                        }
                    }
                    let len = rng.usize(..size);
                    let mut payload = vec![0; len];
                    rng.fill(&mut payload);
                    let first = if part == 0 { opcode } else { 0 } | if part + 1 == parts { 0x80 } else { 0 };
                    input.extend(frame(first, &payload, rng.u32(..).to_ne_bytes()));
                    whole.extend(payload);
                }
                sent.push((opcode, whole));
            }
            input.extend(frame(0x88, &[0x03, 0xe8, b'x'], [1, 1, 1, 1]));
            let most = [3, 100, 70_000, usize::MAX][rng.usize(..4)];
            let bit = || rng.usize(1..=most);
            let fed = feed(&mut Reframer::default(), &input, bit);
            assert!(messages(&fed.out).0 == sent, "seed {seed}");
            assert!(fed.pings.len() <= pings && fed.pings.last() == last.as_ref(), "seed {seed}");
            let end = End::Close(ControlPayload::new(&[0x03, 0xe8, b'x']));
            assert_eq!(fed.end, Some(end), "seed {seed}");
        }
    }

    #[test]
    fn noise_is_refused_and_never_panics() {
        for seed in 0..3_000 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut input: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(400).collect();
            if rng.bool() {
                let good = frame(0x82, &[5; 40], [1, 2, 3, 4]);
                input.splice(..0, good);
            }
            feed(&mut Reframer::default(), &input, || rng.usize(1..50));
        }
    }

    #[test]
    fn rules_between_frames_are_kept() {
        let end = |input: Vec<u8>| {
            let fed = feed(&mut Reframer::new(1_000), &input, || usize::MAX);
            (fed.out, fed.end)
        };
        let violation = |violation| Some(End::Violation(violation));
        let key = [1, 2, 3, 4];
        assert_eq!(end(frame(0x80, b"x", key)).1, violation(Violation::Continuation));
        let inside = [frame(0x01, b"x", key), frame(0x82, b"y", key)].concat();
        assert_eq!(end(inside).1, violation(Violation::Continuation));
        let inside = [frame(0x81, b"x", key), frame(0x80, b"y", key)].concat();
        let (out, stop) = end(inside);
        assert_eq!((out, stop), (vec![0x81, 1, b'x'], violation(Violation::Continuation)), "what came before passes");
        assert_eq!(end(frame(0x82, &[0; 1_001], key)).1, violation(Violation::TooBig));
        let parts = [frame(0x02, &[0; 600], key), frame(0x00, &[0; 400], key), frame(0x80, &[0], key)].concat();
        assert_eq!(end(parts).1, violation(Violation::TooBig));
        let parts = [frame(0x02, &[0; 600], key), frame(0x80, &[0; 400], key), frame(0x82, &[0; 1_000], key)].concat();
        assert_eq!(end(parts).1, None);
    }

    #[test]
    fn the_buffer_grows_when_filled_and_shrinks_when_little_comes() {
        let mut reframer = Reframer::default();
        feed(&mut reframer, &frame(0x81, &[1; 100], [1, 2, 3, 4]), || usize::MAX);
        assert_eq!(reframer.room().len(), FIRST_BUFFER);
        feed(&mut reframer, &frame(0x81, &[1; 500_000], [1, 2, 3, 4]), || usize::MAX);
        assert_eq!(reframer.room().len(), MAX_PIECE);
        feed(&mut reframer, &frame(0x8a, &[1; 8], [1, 2, 3, 4]), || usize::MAX);
        assert_eq!(reframer.room().len(), FIRST_BUFFER);
    }

    #[test]
    fn what_is_left_can_be_taken() {
        let mut reframer = Reframer::default();
        let input = frame(0x81, b"hello", [1, 2, 3, 4]);
        reframer.room()[..input.len()].copy_from_slice(&input);
        reframer.filled(input.len());
        reframer.written(3);
        assert_eq!(reframer.take_ready(), b"ello");
        assert!(reframer.ready().is_empty());
    }
}
