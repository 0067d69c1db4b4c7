//! What a message of the socket does to the streams, and what becomes of streams that block the socket.
//!
//! In flow messages and the time; streams are opened, fed, ended and reset. Each message that means nothing is counted
//! and logged, without its content.

use std::time::Instant;

use bytes::Bytes;
use exedra_proto::close::{CloseReason, TABLE};
use exedra_proto::frame::{Body, Frame, StreamId, reset};
use exedra_proto::introduction::Introduction;

use super::stream::Place;
use super::{Event, Key, Mux, Role};
use crate::error::Disconnect;
use crate::message::{Message, Text};

/// Messages that begin with this byte are binary; JSON never does.
const BINARY: u8 = 0x01;
/// Longest reason of a reset that is passed on, in characters.
const MAX_REASON: usize = 123;

impl Mux {
    /// Takes in a message of the socket.
    pub(crate) fn receive(&mut self, message: Message, now: Instant) {
        let bytes = match message {
            Message::Binary(bytes) => bytes,
            Message::Text(text) => return self.introduce(&text),
        };
        match Frame::decode(bytes) {
            Ok(Frame { stream, body }) => self.frame(stream, body, now),
            Err(invalid) => self.drop_message(&invalid),
        }
    }

    /// The server says who opens a stream next. Whatever had that name before is somebody else's, and over.
    fn introduce(&mut self, text: &str) {
        let Some(introductions) = &mut self.introductions else { return self.drop_message(&"it is text") };
        match Introduction::decode_stream(text) {
            Ok((id, introduction)) => {
                introductions.put(id.clone(), introduction);
                if let Some(key) = self.names.get(&id).copied() {
                    self.end(key, Disconnect::Lost);
                }
            }
            Err(error) => self.drop_message(&error),
        }
    }

    fn frame(&mut self, id: StreamId, body: Body, now: Instant) {
        let known = self.names.get(&id).copied();
        match (body, known) {
            (Body::Data { seq, payload }, Some(key)) => self.data(key, seq, payload, now),
            (Body::Data { seq: 0, payload }, None) if self.role == Role::Executor => self.begin(id, payload, now),
            // Late messages of a stream that has ended; a new one would begin in the middle.
            (Body::Data { .. }, None) if self.role == Role::Executor => self.refuse(id, reset::UNKNOWN_STREAM),
            (Body::Data { .. }, None) => self.drop_message(&"its stream is not known"),
            (Body::Reset { reason }, Some(key)) => self.end(key, told(&reason)),
            (Body::Reset { .. }, None) => {
                self.introductions.as_mut().and_then(|introductions| introductions.take(&id));
                self.drop_message(&"it resets a stream that is not known");
            }
            (Body::Handshake(_), _) if self.role == Role::Executor => self.refuse(id, reset::HANDSHAKE_UNSUPPORTED),
            (Body::Handshake(_), _) => self.drop_message(&"it is a handshake"),
            (Body::Resume { .. } | Body::Ack | Body::Heartbeat, _) => {}
        }
    }

    fn begin(&mut self, id: StreamId, payload: Bytes, now: Instant) {
        let introduction = match &mut self.introductions {
            None => None,
            Some(introductions) => match introductions.take(&id) {
                None => return self.refuse(id, reset::NOT_INTRODUCED),
                introduced => introduced,
            },
        };
        // One that has ended and holds something yet stands in nobody's way, up to as many again.
        if self.names.len() >= self.limits.streams || self.streams.len() >= 2 * self.limits.streams {
            return self.refuse(id, reset::TOO_MANY_STREAMS);
        }
        let key = self.insert(id.clone(), now);
        self.events.push_back(Event::Opened { key, id, introduction });
        self.data(key, 0, payload, now);
    }

    fn data(&mut self, key: Key, seq: u32, payload: Bytes, now: Instant) {
        let Some(stream) = self.streams.get_mut(&key) else { return };
        match stream.place(seq) {
            // What arrives while it is being closed is for nobody.
            Place::Due if stream.is_open() => {
                self.held += stream.hold(message(payload));
                self.events.push_back(Event::Arrived { key });
                self.judge(now);
            }
            Place::Due => {}
            Place::Repeated => {
                self.counts.duplicates += 1;
                tracing::debug!(stream = %stream.id, seq, due = stream.due(), "a message came twice, dropped");
            }
            Place::TooEarly => {
                self.counts.gaps += 1;
                tracing::warn!(stream = %stream.id, seq, due = stream.due(), "a message is missing, stream reset");
                let id = stream.id.clone();
                self.reset(id, reset::SEQUENCE_GAP);
                self.end(key, Disconnect::Lost);
            }
        }
    }

    fn refuse(&mut self, id: StreamId, reason: &str) {
        self.counts.refused += 1;
        tracing::debug!(stream = %id, reason, refused = self.counts.refused, "stream refused");
        self.reset(id, reason);
    }

    fn drop_message(&mut self, why: &dyn std::fmt::Display) {
        self.counts.dropped += 1;
        tracing::debug!(%why, dropped = self.counts.dropped, "message dropped");
    }

    /// Notes which streams keep the socket from being read: those that hold too much, or else the one that holds most.
    pub(super) fn judge(&mut self, now: Instant) {
        let too_much = self.limits.inbox;
        let fullest = (self.held > self.limits.inboxes)
            .then(|| self.streams.iter().max_by_key(|(key, stream)| (stream.held(), **key)).map(|(key, _)| *key))
            .flatten();
        for (key, stream) in &mut self.streams {
            stream.stall.set(stream.held() > too_much || Some(*key) == fullest, now);
        }
    }

    /// When to [`Self::tick`], if nothing happens before.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.streams.values().filter_map(|stream| stream.stall.deadline(self.limits.stall)).min()
    }

    /// Resets the streams that have kept the socket from being read for too long.
    pub(crate) fn tick(&mut self, now: Instant) {
        let late = |at: Instant| at <= now;
        let limit = self.limits.stall;
        let mut stalled: Vec<Key> = self
            .streams
            .iter()
            .filter(|(_, stream)| stream.stall.deadline(limit).is_some_and(late))
            .map(|(key, _)| *key)
            .collect();
        stalled.sort_unstable();
        for key in stalled {
            let Some(stream) = self.remove(key) else { continue };
            self.counts.stalled += 1;
            tracing::warn!(stream = %stream.id, held = stream.held(), "messages are not taken, stream reset");
            if !stream.has_ended() {
                self.reset(stream.id, reset::RECEIVER_STALLED);
            }
            let reason = Disconnect::Protocol("messages came faster than they were taken, for too long".to_owned());
            self.events.push_back(Event::Ended { key, reason });
        }
        self.judge(now);
    }
}

/// A payload as the message that it was.
fn message(payload: Bytes) -> Message {
    if payload.first() == Some(&BINARY) {
        return Message::Binary(payload);
    }
    match Text::try_from(payload.clone()) {
        Ok(text) => Message::Text(text),
        Err(_) => Message::Binary(payload),
    }
}

/// What the other side says about its reset; our own ends say it in the words of the close codes. Of a stream it is the
/// other end that goes away, and not whoever is between.
fn told(reason: &str) -> Disconnect {
    let known = TABLE.iter().copied().find(|known| known.text() == reason).map(|known| match known {
        CloseReason::GoingAway => CloseReason::PeerLeaving,
        other => other,
    });
    let text = reason.chars().filter(|c| !c.is_control()).take(MAX_REASON).collect();
    Disconnect::PeerClosed { code: None, reason: known, text }
}
