//! One peer's message on its way into a hall: read far enough to know whose it is, then passed on.
//!
//! In flow the frames of a [`Socket`](crate::socket::Socket) as they are ready, out flow [`Part`]s: frames to pass on and
//! the stream that they are for. A message that arrived whole passes whole; of others up to a limit is collected first.
//! What is no frame of a relay is dropped; if a part of it was passed on already, the rest is spoiled. It knows no route.

use std::borrow::Cow;

use exedra_proto::frame::StreamId;
use exedra_proto::frame::scan::{Fault, Kind, MAX_BEFORE_HEAD, Scanner};

use crate::frames::header::{self, Opcode};

/// Room at the front of what is collected, for the frame's head.
const HEADROOM: usize = header::MAX_LEN;

/// What a piece of a message comes to.
#[derive(Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// A whole message.
    Whole(StreamId, Kind, Cow<'a, [u8]>),
    /// The first frames of one that goes on.
    Begin(StreamId, Cow<'a, [u8]>),
    /// More of it.
    More(Cow<'a, [u8]>),
    /// The last of it; its kind, if it ended well.
    End(Cow<'a, [u8]>, Result<Kind, Fault>),
    /// Nothing yet.
    Wait,
    /// A message that is not passed on ended.
    Dropped(Option<Fault>),
}

/// The message that is coming in.
#[derive(Debug, Default)]
pub struct Inbox {
    scanner: Scanner,
    state: State,
    /// What is collected, behind the headroom.
    held: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Between two messages.
    #[default]
    Idle,
    /// Its parts are collected.
    Holding,
    /// Its parts are passed on.
    Passing,
    /// Its parts are dropped.
    Dropping(Option<Fault>),
}

impl Inbox {
    /// Bytes that are collected.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Whether a message was passed on in part.
    #[cfg(test)]
    pub fn is_passing(&self) -> bool {
        self.state == State::Passing
    }

    /// A frame of the peer, unmasked and complete with its head. Up to `collect` bytes are collected before a part is
    /// passed on.
    pub fn frame<'a>(&mut self, frame: &Frame<'a>, collect: usize) -> Part<'a> {
        if self.state == State::Idle && frame.opcode == Opcode::Text {
            self.state = State::Dropping(None);
        }
        if let State::Dropping(fault) = self.state {
            return self.dropped(fault, frame.fin);
        }
        if self.state == State::Passing {
            return self.pass_on(frame);
        }
        self.scanner.push(frame.payload);
        if let Some(fault) = self.scanner.fault() {
            return self.dropped(Some(fault), frame.fin);
        }
        if frame.fin && self.state == State::Idle {
            return self.whole(frame.bytes.into());
        }
        if self.held.is_empty() {
            self.held.resize(HEADROOM, 0);
        }
        self.held.extend(frame.payload);
        self.state = State::Holding;
        if frame.fin {
            let held = self.take_held(true);
            return self.whole(held.into());
        }
        if self.held.len() - HEADROOM < collect.max(MAX_BEFORE_HEAD) {
            return Part::Wait;
        }
        let Some(stream) = self.scanner.head().cloned() else { return Part::Wait };
        self.state = State::Passing;
        Part::Begin(stream, self.take_held(false).into())
    }

    /// Drops the rest of the message that is coming in.
    pub fn refuse(&mut self) {
        if self.state == State::Passing {
            self.state = State::Dropping(None);
        }
    }

    /// The peer is gone: what ends the message that was passed on in part, so that nobody takes it for whole.
    pub fn break_off(&mut self) -> Option<Vec<u8>> {
        if self.state != State::Passing {
            return None;
        }
        let poison = self.scanner.poison();
        *self = Self { state: State::Dropping(None), ..Self::default() };
        Some(header::frame(true, Opcode::Continuation, poison))
    }

    fn whole<'a>(&mut self, frame: Cow<'a, [u8]>) -> Part<'a> {
        let scanner = std::mem::take(&mut self.scanner);
        self.state = State::Idle;
        match scanner.finish() {
            Ok(kind) => match scanner.head() {
                Some(stream) => Part::Whole(stream.clone(), kind, frame),
                None => Part::Dropped(Some(Fault::BlankStream)),
            },
            Err(fault) => Part::Dropped(Some(fault)),
        }
    }

    fn pass_on<'a>(&mut self, frame: &Frame<'a>) -> Part<'a> {
        // What has been passed on ends before this frame.
        let poison = self.scanner.poison();
        self.scanner.push(frame.payload);
        if let Some(fault) = self.scanner.fault() {
            self.dropped(Some(fault), frame.fin);
            return Part::End(header::frame(true, Opcode::Continuation, poison).into(), Err(fault));
        }
        if !frame.fin {
            return Part::More(frame.bytes.into());
        }
        let outcome = std::mem::take(&mut self.scanner).finish();
        self.state = State::Idle;
        Part::End(frame.bytes.into(), outcome)
    }

    fn dropped(&mut self, fault: Option<Fault>, fin: bool) -> Part<'static> {
        self.held = Vec::new();
        if !fin {
            self.state = State::Dropping(fault);
            return Part::Wait;
        }
        *self = Self::default();
        Part::Dropped(fault)
    }

    /// What is collected, as one frame that begins a message.
    fn take_held(&mut self, fin: bool) -> Vec<u8> {
        let mut held = std::mem::take(&mut self.held);
        let (head, len) = header::encode(fin, Opcode::Binary, held.len() - HEADROOM);
        held[HEADROOM - len..HEADROOM].copy_from_slice(&head[..len]);
        held.drain(..HEADROOM - len);
        held
    }
}

/// An unmasked frame.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Whether the message ends with it.
    pub fin: bool,
    /// What it is.
    pub opcode: Opcode,
    /// What it carries.
    pub payload: &'a [u8],
    /// All of it.
    pub bytes: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The first of the frames in `batch`; none, if it is empty.
    pub fn first(batch: &'a [u8]) -> Option<Self> {
        let (fin, opcode, head, len) = header::parse_unmasked(batch)?;
        let bytes = batch.get(..head + len)?;
        Some(Self { fin, opcode, payload: &bytes[head..], bytes })
    }
}

#[cfg(test)]
mod tests;
