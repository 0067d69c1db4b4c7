//! Many connections on one socket: relay frames in and out, a stream for each connection (protocol 14). Pure.
//!
//! In flow messages of the socket, messages of the connections, and the time; out flow frames to send, messages to
//! deliver, and [`Event`]s: a stream was opened, something arrived, it ended. It knows no socket, task or clock.
//!
//! The wire has no credit, so whoever sends too fast can only be stopped by not reading the socket, for all streams. That
//! is done once a stream holds more than it may, and a stream that keeps it up for too long is reset with a reason.
//!
//! Frames are binary messages, and those alone can be a client's. A text message is the server's own word: an introduction,
//! where those were agreed on.

mod introductions;
mod receive;
mod stall;
mod stream;
mod turns;

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use exedra_proto::close::CloseReason;
use exedra_proto::frame::{Body, Frame, StreamId, reset};
use exedra_proto::introduction::Introduction;

use self::introductions::Introductions;
use self::stream::Stream;
use self::turns::Turns;
use crate::error::Disconnect;
use crate::message::Message;

/// Resets and resumes that wait to be sent, beside the messages of streams: 256. When it is full, further resets for
/// streams that are not there are not sent; whoever caused them has sent hundreds of frames that mean nothing.
const MAX_CONTROL: usize = 256;

/// Which end of a stream this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Streams appear as the other side opens them.
    Executor,
    /// Streams are opened here.
    Harness,
}

/// One stream of a mux, never used again for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key(u64);

/// Sizes, in bytes, and times.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Streams open at once, and as many more that have ended and hold something yet; one more is reset.
    pub(crate) streams: usize,
    /// What one stream may hold that nobody has taken yet. Above it the socket is not read; the message that passes it is
    /// kept.
    pub(crate) inbox: usize,
    /// The same for all streams together.
    pub(crate) inboxes: usize,
    /// How long one stream may keep the socket from being read: so long at once, or a tenth of the time.
    pub(crate) stall: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { streams: 128, inbox: 1024 * 1024, inboxes: 32 * 1024 * 1024, stall: Duration::from_secs(10) }
    }
}

/// What has happened to a stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The other side opened it.
    Opened { key: Key, id: StreamId, introduction: Option<Introduction> },
    /// It holds something to [`Mux::take`].
    Arrived { key: Key },
    /// It has ended, and everything that arrived was given away. The key means nothing any more.
    Ended { key: Key, reason: Disconnect },
}

/// A frame to send.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outgoing {
    /// The frame.
    pub(crate) frame: Frame,
    /// The stream that has room for more now.
    pub(crate) from: Option<Key>,
}

/// What was not as it should be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Messages that are no valid frame, or mean nothing.
    pub(crate) dropped: u64,
    /// Messages that came a second time.
    pub(crate) duplicates: u64,
    /// Streams that were reset since a message was missing.
    pub(crate) gaps: u64,
    /// Streams that were refused.
    pub(crate) refused: u64,
    /// Streams that were reset since nobody took their messages.
    pub(crate) stalled: u64,
}

/// The streams of one socket.
#[derive(Debug)]
pub(crate) struct Mux {
    role: Role,
    limits: Limits,
    names: HashMap<StreamId, Key>,
    streams: HashMap<Key, Stream>,
    last: u64,
    held: usize,
    turns: Turns,
    /// Where the server introduces clients: those of streams that have not begun yet.
    introductions: Option<Introductions>,
    control: VecDeque<Frame>,
    events: VecDeque<Event>,
    counts: Counts,
}

impl Mux {
    pub(crate) fn new(role: Role, limits: Limits) -> Self {
        Self {
            role,
            limits,
            names: HashMap::new(),
            streams: HashMap::new(),
            last: 0,
            held: 0,
            turns: Turns::default(),
            introductions: None,
            control: VecDeque::new(),
            events: VecDeque::new(),
            counts: Counts::default(),
        }
    }

    /// From now on the server introduces whoever opens a stream, if `told`; a stream without that is refused.
    pub(crate) fn told(mut self, told: bool) -> Self {
        self.introductions = told.then(|| Introductions::new(2 * self.limits.streams));
        self
    }

    /// Opens a stream of ours, as a stock harness does: a resume, and then messages from 0 on.
    pub(crate) fn open(&mut self, id: StreamId, now: Instant) -> Key {
        self.control.push_back(Frame { stream: id.clone(), body: Body::Resume { next_seq: 0 } });
        self.insert(id, now)
    }

    /// What happened since it was asked last.
    pub(crate) fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The next message of a stream; [`Self::given`] has to follow before the next one.
    pub(crate) fn take(&mut self, key: Key) -> Option<Message> {
        self.streams.get_mut(&key)?.take()
    }

    /// The message that was taken last is where it belongs.
    pub(crate) fn given(&mut self, key: Key, now: Instant) {
        let Some(stream) = self.streams.get_mut(&key) else { return };
        self.held -= stream.given();
        self.judge(now);
        self.settle(key);
    }

    /// Queues a message behind what the stream has queued already.
    pub(crate) fn send(&mut self, key: Key, message: Message) {
        let Some(stream) = self.streams.get_mut(&key).filter(|stream| stream.is_open()) else { return };
        if message.is_empty() {
            // No frame can carry it, and no peer has a meaning for it.
            self.counts.dropped += 1;
            return;
        }
        stream.queue(message.into_bytes());
        self.turns.add(key);
    }

    /// Whether the stream should be given more to send.
    pub(crate) fn has_room(&self, key: Key) -> bool {
        self.streams.get(&key).is_some_and(|stream| stream.is_open() && stream.unsent() < turns::QUANTUM)
    }

    /// Ends a stream after what it has queued, with a reset that tells `reason`.
    pub(crate) fn close(&mut self, key: Key, reason: CloseReason) {
        if let Some(stream) = self.streams.get_mut(&key).filter(|stream| stream.is_open()) {
            self.held -= stream.close(reason);
            self.turns.add(key);
        }
    }

    /// Forgets a stream whose connection is gone on this side.
    pub(crate) fn abandon(&mut self, key: Key, now: Instant) {
        let Some(stream) = self.remove(key) else { return };
        if !stream.has_ended() {
            self.reset(stream.id, reset::DROPPED);
        }
        self.judge(now);
    }

    /// The socket has ended. What has arrived can still be taken.
    pub(crate) fn lost(&mut self, reason: &Disconnect) {
        self.control.clear();
        let keys: Vec<Key> = self.streams.keys().copied().collect();
        for key in keys {
            self.end(key, reason.clone());
        }
    }

    /// The next frame to send: resets and resumes first, then the streams in turn, by bytes.
    pub(crate) fn next_frame(&mut self) -> Option<Outgoing> {
        if let Some(frame) = self.control.pop_front() {
            return Some(Outgoing { frame, from: None });
        }
        loop {
            let key = self.turns.next(|key| self.streams.get(&key).map_or(0, Stream::next_cost))?;
            let Some(stream) = self.streams.get_mut(&key) else {
                self.turns.remove(key);
                continue;
            };
            let id = stream.id.clone();
            let frame = |body| Some(Outgoing { frame: Frame { stream: id.clone(), body }, from: Some(key) });
            if let Some((seq, payload)) = stream.next_payload() {
                if !stream.has_output() {
                    self.turns.remove(key);
                }
                return frame(Body::Data { seq, payload });
            }
            self.turns.remove(key);
            if let Some(reason) = stream.closing() {
                self.remove(key);
                self.events.push_back(Event::Ended { key, reason: Disconnect::LocalClose(reason) });
                return frame(Body::Reset { reason: reason.text().to_owned() });
            }
        }
    }

    /// Whether the socket may be read.
    pub(crate) fn may_read(&self) -> bool {
        self.held <= self.limits.inboxes && !self.streams.values().any(|stream| stream.held() > self.limits.inbox)
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    fn insert(&mut self, id: StreamId, now: Instant) -> Key {
        self.last += 1;
        let key = Key(self.last);
        self.names.insert(id.clone(), key);
        self.streams.insert(key, Stream::new(id, now));
        key
    }

    fn remove(&mut self, key: Key) -> Option<Stream> {
        let stream = self.streams.remove(&key)?;
        self.held -= stream.held();
        self.unname(&stream.id, key);
        self.turns.remove(key);
        Some(stream)
    }

    fn unname(&mut self, id: &StreamId, key: Key) {
        if self.names.get(id) == Some(&key) {
            self.names.remove(id);
        }
    }

    /// The other side, or the socket, has ended a stream: nothing more is sent, what arrived can still be taken.
    fn end(&mut self, key: Key, reason: Disconnect) {
        let Some(stream) = self.streams.get_mut(&key) else { return };
        stream.end(reason);
        let id = stream.id.clone();
        self.unname(&id, key);
        self.turns.remove(key);
        self.settle(key);
    }

    /// Tells the end of a stream once everything was taken.
    fn settle(&mut self, key: Key) {
        let ended = self.streams.get_mut(&key).and_then(Stream::ended_and_empty);
        if let Some(reason) = ended {
            self.remove(key);
            self.events.push_back(Event::Ended { key, reason });
        }
    }

    fn reset(&mut self, stream: StreamId, reason: &str) {
        if self.control.len() < MAX_CONTROL {
            self.control.push_back(Frame { stream, body: Body::Reset { reason: reason.to_owned() } });
        }
    }
}

#[cfg(test)]
mod tests;
