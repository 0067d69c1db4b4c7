//! The log of one process: what it wrote and how it ended, numbered, kept until delivered and a while longer.
//!
//! In flow pieces of output, the exit and the close, and word of what has been delivered; out flow events in order of
//! their number, answers to `process/read`, and whether the pipes may be read further. Pure: no tokio, no clock.
//!
//! Delivered is what was handed to an attached peer, what that is known to have read, or what it acknowledged, as it attached; and what a reader confirms
//! by asking for what comes after it: an answer may be lost on its way, so what it holds is not delivered by being in it.
//!
//! Invariants: numbers have no gaps; output that is not delivered is never dropped unless that is wanted, and then it is
//! counted; an event still to be notified
//! is never evicted; the memory held is bounded by the constants below plus one piece per stream.

mod body;
mod chunk;
mod reading;
mod spill;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Included, Unbounded};

use bytes::Bytes;
use exedra_proto::limits::Limit;
use exedra_proto::process::OutputStream;

use self::chunk::Chunk;
#[cfg(test)]
use self::chunk::{CHUNK_OVERHEAD, JSON_OVERHEAD};
use self::spill::Spill;
use super::event::{Delivery, EventKind};
use crate::policy::WhenFull;

pub use self::body::Body;
pub use self::reading::Reading;

/// Delivered output that stays readable, in bytes: the newest. When full, the oldest goes.
pub const RETAINED_BYTES: usize = 1024 * 1024;
/// Delivered pieces that stay readable, so that a million tiny ones cost no more than a few big ones.
pub const RETAINED_CHUNKS: usize = 16 * 1024;
/// The same once somebody came back who does not confirm, in bytes: what was lost on its way is read while more is on its
/// way already, and possibly more than once.
pub const RETAINED_AFTER_BREAK: usize = 4 * RETAINED_BYTES;
/// Undelivered output of a time when nobody is attached, in bytes as JSON (about 32 MiB raw). When full, the pipes are
/// not read and the command waits.
pub const BACKLOG_JSON: usize = 44 * 1024 * 1024;
/// Output on its way to an attached peer, in bytes with [`CHUNK_OVERHEAD`] per piece. When full, the pipes are not read
/// and the command waits until the peer has taken some. Also what may be handed out without being acknowledged, where
/// that counts: then nothing more is handed out of this log, while others go on.
pub const WINDOW: usize = 1024 * 1024;
/// The same where output stays on its way until the peer has read it: what the sockets in between may hold, so that a
/// peer that reads without pause is never waited for.
pub const WINDOW_READ: usize = 4 * WINDOW;
/// What one read answers at most, in bytes as JSON, so that the answer is one message. The reader goes on from there.
pub const READ_JSON: usize = 48 * 1024 * 1024;

/// See the module.
#[derive(Debug)]
pub struct Log {
    next_seq: u64,
    chunks: BTreeMap<u64, Chunk>,
    /// Delivered and not in flight, hence free to go.
    evictable: BTreeSet<u64>,
    retained: usize,
    backlog: usize,
    /// What of the backlog is in memory.
    held: usize,
    in_flight: usize,
    attached: Option<Delivery>,
    /// Somebody came back who does not confirm.
    resumed: bool,
    /// The next event to hand out.
    cursor: u64,
    /// What of `in_flight` was handed out and is to be acknowledged.
    handed: usize,
    /// Up to here everything has been confirmed, by a reader or by acknowledgement.
    confirmed: u64,
    exited: Option<Exit>,
    denied: bool,
    closed: Option<u64>,
    /// Pieces that were neither delivered nor in an answer.
    unseen: usize,
    /// Whether somebody was given the exit, and the end.
    exit_seen: bool,
    end_seen: bool,
    when_full: WhenFull,
    dropped: u64,
    spill: Option<Box<Spill>>,
}

#[derive(Clone, Copy, Debug)]
struct Exit {
    seq: u64,
    code: i32,
    limit: Option<Limit>,
}

/// Whether more output is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// Yes.
    More,
    /// Not until this log has room again.
    Full,
    /// Not until others have made room.
    Short,
}

/// How far a process has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The number of its latest event; 0 before the first.
    pub last_seq: u64,
    /// The exit code, once there is one.
    pub exit_code: Option<i32>,
    /// Nothing more will come.
    pub closed: bool,
}

impl Log {
    /// An empty log.
    pub fn new(attached: Option<Delivery>, when_full: WhenFull) -> Self {
        Self {
            next_seq: 1,
            chunks: BTreeMap::new(),
            evictable: BTreeSet::new(),
            retained: 0,
            backlog: 0,
            held: 0,
            in_flight: 0,
            attached,
            resumed: false,
            cursor: 1,
            handed: 0,
            confirmed: 0,
            exited: None,
            denied: false,
            closed: None,
            unseen: 0,
            exit_seen: false,
            end_seen: false,
            when_full,
            dropped: 0,
            spill: None,
        }
    }

    /// Appends output.
    pub fn output(&mut self, stream: OutputStream, bytes: Bytes) {
        let (bytes, in_flight) = (Body::Memory(bytes), self.attached.is_some());
        let chunk = Chunk { stream, bytes, delivered: false, in_flight, returned: false };
        let json = chunk.json_len();
        self.unseen += 1;
        self.backlog += json;
        self.held += json;
        if in_flight {
            self.in_flight += chunk.memory();
        }
        let seq = self.number();
        self.chunks.insert(seq, chunk);
        self.note_for_disk(seq, json);
        while self.backlog > BACKLOG_JSON && self.drop_oldest() {}
    }

    /// Drops the oldest piece where that is wanted, nobody is attached and it is not the only one; whether it did.
    pub fn drop_oldest(&mut self) -> bool {
        if self.when_full == WhenFull::Wait || self.attached.is_some() || self.chunks.len() < 2 {
            return false;
        }
        let Some((seq, chunk)) = self.chunks.pop_first() else { return false };
        if chunk.delivered {
            self.evictable.remove(&seq);
            self.retained -= chunk.bytes.len();
        } else {
            self.backlog -= chunk.json_len();
            self.held -= chunk.held();
            self.unseen -= usize::from(!chunk.returned);
            self.dropped += chunk.bytes.len() as u64;
        }
        true
    }

    /// Bytes that were dropped before anybody was given them.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The failure that comes next looks like the doing of its sandbox.
    pub fn denied(&mut self) {
        self.denied = true;
    }

    /// Appends the exit.
    pub fn exited(&mut self, code: i32, limit: Option<Limit>) {
        let seq = self.number();
        self.exited = Some(Exit { seq, code, limit });
    }

    /// Appends the end.
    pub fn closed(&mut self) {
        self.closed = Some(self.number());
    }

    /// Whether the exit is in the log.
    pub fn has_exited(&self) -> bool {
        self.exited.is_some()
    }

    /// Whether the end is in the log.
    pub fn is_closed(&self) -> bool {
        self.closed.is_some()
    }

    /// How far it has come.
    pub fn progress(&self) -> Progress {
        let exit_code = self.exited.map(|exit| exit.code);
        Progress { last_seq: self.next_seq - 1, exit_code, closed: self.closed.is_some() }
    }

    /// Whether it is closed, and all of it, the exit and the end included, has been delivered or was in an answer.
    pub fn is_settled(&self) -> bool {
        self.closed.is_some() && self.unseen == 0 && self.exit_seen && self.end_seen
    }

    /// How the pipes may be read further; `room` says whether all logs together may hold more.
    pub fn demand(&self, room: bool) -> Demand {
        let attached = self.attached.is_some();
        if !attached && self.when_full == WhenFull::DropOldest {
            return Demand::More;
        }
        let full = match self.attached {
            Some(Delivery::Read) => self.in_flight >= WINDOW_READ,
            Some(Delivery::Sent | Delivery::Acknowledged) => self.in_flight >= WINDOW,
            None => self.backlog >= BACKLOG_JSON,
        };
        // Somebody else may make room on the disk.
        let short = !attached && (self.memory_is_full() || !(room || self.held == 0));
        match (full, short) {
            (true, _) => Demand::Full,
            (false, true) => Demand::Short,
            (false, false) => Demand::More,
        }
    }

    /// From now on events are to be notified: those to come, and where delivery is acknowledged all that were not.
    pub fn attach(&mut self, how: Delivery) {
        self.detach();
        self.spill.iter_mut().for_each(|spill| spill.clear());
        self.attached = Some(how);
        self.resumed |= how != Delivery::Acknowledged;
        self.cursor = match how {
            Delivery::Sent | Delivery::Read => self.next_seq,
            Delivery::Acknowledged => self.confirmed + 1,
        };
        for chunk in self.chunks.range_mut(self.cursor..).map(|(_, chunk)| chunk).filter(|chunk| !chunk.delivered) {
            chunk.in_flight = true;
            self.in_flight += chunk.memory();
        }
    }

    /// From now on events are only kept; those on their way are taken for undelivered until word comes.
    pub fn detach(&mut self) {
        let flying: Vec<u64> = self.chunks.iter().filter(|(_, chunk)| chunk.in_flight).map(|(seq, _)| *seq).collect();
        for seq in flying {
            self.land(seq);
        }
        self.attached = None;
        self.evict();
        self.plan_for_disk();
    }

    /// Whether there is an event to notify.
    pub fn has_pending(&self) -> bool {
        match self.attached {
            None => false,
            Some(Delivery::Sent | Delivery::Read) => self.cursor < self.next_seq,
            Some(Delivery::Acknowledged) => self.cursor < self.next_seq && self.handed < WINDOW,
        }
    }

    /// Takes events to notify: at least one if there is one, and no more once they hold `max_bytes` of output. None comes
    /// out while the next one is on disk: see [`Self::to_recall`].
    pub fn take(&mut self, max_bytes: usize, max_events: usize) -> Vec<(u64, EventKind)> {
        let mut events = Vec::new();
        let mut total = 0;
        while self.has_pending() && events.len() < max_events && (events.is_empty() || total < max_bytes) {
            // What was sent to an earlier peer may be gone.
            self.cursor = self.next_kept(self.cursor).unwrap_or(self.next_seq);
            if self.waits_for_disk(self.cursor) {
                break;
            }
            if let Some(kind) = self.event(self.cursor) {
                total += kind.output_len();
                events.push((self.cursor, kind));
                self.hand_out(self.cursor);
                self.cursor += 1;
            }
        }
        events
    }

    /// Event `seq` has been handed to a peer, which says nothing where delivery is acknowledged.
    pub fn delivered(&mut self, seq: u64) {
        if self.attached == Some(Delivery::Acknowledged) {
            return;
        }
        self.exit_seen |= self.exited.is_some_and(|exit| exit.seq == seq);
        self.end_seen |= self.closed == Some(seq);
        self.mark_delivered(seq);
        self.land(seq);
        self.evict();
    }

    /// The peer has every event up to `seq`.
    pub fn acknowledge(&mut self, seq: u64) {
        self.exit_seen |= self.exited.is_some_and(|exit| exit.seq <= seq);
        self.end_seen |= self.closed.is_some_and(|closed| closed <= seq);
        self.confirm(seq);
    }

    /// Answers a read of what comes after `after`, which confirms everything up to there. What it returns is confirmed
    /// by a later one, so that an answer that was lost can be asked for again.
    pub fn read(&mut self, after: u64, max_bytes: Option<usize>) -> Reading {
        self.confirm(after);
        let chunks = self.select(after, max_bytes);
        for (seq, ..) in &chunks {
            self.mark_returned(*seq);
        }
        self.exit_seen |= self.exited.is_some();
        self.end_seen |= self.closed.is_some();
        let next_seq = chunks.last().map_or(self.next_seq, |(seq, ..)| seq + 1);
        let is_all = self.chunks.range((Included(next_seq), Unbounded)).next().is_none();
        let exit_is_news = self.exited.is_some_and(|exit| exit.seq > after);
        Reading {
            is_news: !chunks.is_empty() || self.closed.is_some() || exit_is_news,
            chunks,
            next_seq,
            next_event: if is_all { self.next_seq } else { next_seq },
            exit_code: self.exited.map(|exit| exit.code),
            limit: self.exited.and_then(|exit| exit.limit),
            denied: self.denied,
            closed: self.closed.is_some(),
            dropped: self.dropped,
        }
    }

    /// Bytes of delivered output that are still readable.
    pub fn retained(&self) -> usize {
        self.retained
    }

    /// Drops delivered output before its time; exit and flags stay.
    pub fn trim(&mut self) {
        while self.evict_oldest() {}
    }

    fn number(&mut self) -> u64 {
        let seq = self.next_seq;
        self.next_seq += 1;
        seq
    }

    /// The first event from `seq` on that is still there.
    fn next_kept(&self, seq: u64) -> Option<u64> {
        let chunk = self.chunks.range(seq..).next().map(|(seq, _)| *seq);
        let exit = self.exited.map(|exit| exit.seq);
        [chunk, exit, self.closed].into_iter().flatten().filter(|kept| *kept >= seq).min()
    }

    fn hand_out(&mut self, seq: u64) {
        let flying = self.chunks.get(&seq).filter(|chunk| chunk.in_flight);
        if let (Some(chunk), Some(Delivery::Acknowledged)) = (flying, self.attached) {
            self.handed += chunk.memory();
        }
    }

    fn event(&self, seq: u64) -> Option<EventKind> {
        if let Some(chunk) = self.chunks.get(&seq) {
            let Body::Memory(bytes) = &chunk.bytes else { return None };
            return Some(EventKind::Output { stream: chunk.stream, bytes: bytes.clone() });
        }
        match self.exited {
            Some(exit) if exit.seq == seq => {
                Some(EventKind::Exited { code: exit.code, limit: exit.limit, denied: self.denied })
            }
            _ => (self.closed == Some(seq)).then_some(EventKind::Closed),
        }
    }

    fn select(&self, after: u64, max_bytes: Option<usize>) -> Vec<(u64, OutputStream, Body)> {
        let limit = max_bytes.unwrap_or(usize::MAX);
        let (mut total, mut json) = (0, 0);
        let mut chunks = Vec::new();
        for (seq, chunk) in self.chunks.range((Excluded(after), Unbounded)) {
            let passes = total + chunk.bytes.len() > limit || json + chunk.json_len() > READ_JSON;
            if passes && !chunks.is_empty() {
                break;
            }
            total += chunk.bytes.len();
            json += chunk.json_len();
            chunks.push((*seq, chunk.stream, chunk.bytes.clone()));
            if total >= limit {
                break;
            }
        }
        chunks
    }

    fn confirm(&mut self, after: u64) {
        let last = after.min(self.next_seq - 1);
        if last <= self.confirmed {
            return;
        }
        let range = (Excluded(self.confirmed), Included(last));
        let confirmed: Vec<u64> = self.chunks.range(range).map(|(seq, _)| *seq).collect();
        for seq in confirmed {
            self.mark_delivered(seq);
            if self.attached == Some(Delivery::Acknowledged) {
                self.land(seq);
            }
        }
        self.confirmed = last;
        if self.attached == Some(Delivery::Acknowledged) {
            self.cursor = self.cursor.max(last + 1);
        }
        self.evict();
    }

    fn mark_delivered(&mut self, seq: u64) {
        let Some(chunk) = self.chunks.get_mut(&seq) else { return };
        let held = chunk.held();
        if !std::mem::replace(&mut chunk.delivered, true) {
            self.backlog -= chunk.json_len();
            self.held -= held;
            self.unseen -= usize::from(!chunk.returned);
            if !chunk.in_flight {
                self.retained += chunk.bytes.len();
                self.evictable.insert(seq);
            }
        }
    }

    fn mark_returned(&mut self, seq: u64) {
        let Some(chunk) = self.chunks.get_mut(&seq) else { return };
        if !std::mem::replace(&mut chunk.returned, true) {
            self.unseen -= usize::from(!chunk.delivered);
        }
    }

    /// It is on its way no longer, whatever became of it.
    fn land(&mut self, seq: u64) {
        let Some(chunk) = self.chunks.get_mut(&seq) else { return };
        if std::mem::replace(&mut chunk.in_flight, false) {
            self.in_flight -= chunk.memory();
            if self.attached == Some(Delivery::Acknowledged) && seq < self.cursor {
                self.handed -= chunk.memory();
            }
            if chunk.delivered {
                self.retained += chunk.bytes.len();
                self.evictable.insert(seq);
            }
        }
    }

    fn evict(&mut self) {
        while self.retained > self.most() || self.evictable.len() > RETAINED_CHUNKS {
            if !self.evict_oldest() {
                break;
            }
        }
    }

    /// What may be retained, by what would go next: what was asked to come after is of no use to anybody.
    fn most(&self) -> usize {
        let is_unconfirmed = self.evictable.first().is_some_and(|seq| *seq > self.confirmed);
        if self.resumed && is_unconfirmed { RETAINED_AFTER_BREAK } else { RETAINED_BYTES }
    }

    fn evict_oldest(&mut self) -> bool {
        let Some(seq) = self.evictable.pop_first() else { return false };
        if let Some(chunk) = self.chunks.remove(&seq) {
            self.retained -= chunk.bytes.len();
        }
        true
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
