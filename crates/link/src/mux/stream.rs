//! One stream of a mux: its numbers, what it holds for each side, and whether it is about to end.
//!
//! In flow payloads of either direction, out flow the same in order. Which frame concerns it, and what the others do, is
//! not known here.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;
use exedra_proto::close::CloseReason;
use exedra_proto::frame::{OVERHEAD, StreamId};

use super::stall::Stall;
use crate::error::Disconnect;
use crate::message::Message;

/// What a message counts at least, so that sizes bound the number, too.
const MIN_COST: usize = 256;

/// One stream.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) id: StreamId,
    pub(super) stall: Stall,
    next_in: u32,
    next_out: u32,
    inbox: VecDeque<Message>,
    in_hand: Option<usize>,
    held: usize,
    outbox: VecDeque<Bytes>,
    unsent: usize,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    Open,
    /// We end it after what is unsent.
    Closing(CloseReason),
    /// It has ended, for this reason; what it holds has to be taken first.
    Ended(Disconnect),
}

/// What the number of a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Due,
    Repeated,
    TooEarly,
}

fn cost(length: usize) -> usize {
    length.max(MIN_COST)
}

impl Stream {
    pub(super) fn new(id: StreamId, now: Instant) -> Self {
        Self {
            id,
            stall: Stall::new(now),
            next_in: 0,
            next_out: 0,
            inbox: VecDeque::new(),
            in_hand: None,
            held: 0,
            outbox: VecDeque::new(),
            unsent: 0,
            phase: Phase::Open,
        }
    }

    /// Judges the number of a message; one that is due is counted.
    pub(super) fn place(&mut self, seq: u32) -> Place {
        // Numbers wrap; what lies in the half behind is old.
        match seq.wrapping_sub(self.next_in) {
            0 => {
                self.next_in = self.next_in.wrapping_add(1);
                Place::Due
            }
            ahead if ahead < 1 << 31 => Place::TooEarly,
            _ => Place::Repeated,
        }
    }

    /// The number that is due.
    pub(super) fn due(&self) -> u32 {
        self.next_in
    }

    /// Keeps a message until it is taken; tells what it adds to [`Self::held`].
    pub(super) fn hold(&mut self, message: Message) -> usize {
        let cost = cost(message.len());
        self.held += cost;
        self.inbox.push_back(message);
        cost
    }

    pub(super) fn held(&self) -> usize {
        self.held
    }

    pub(super) fn take(&mut self) -> Option<Message> {
        if self.in_hand.is_some() {
            return None;
        }
        let message = self.inbox.pop_front()?;
        self.in_hand = Some(cost(message.len()));
        Some(message)
    }

    /// Tells what is given back of [`Self::held`].
    pub(super) fn given(&mut self) -> usize {
        let cost = self.in_hand.take().unwrap_or_default();
        self.held -= cost;
        cost
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open)
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended(_))
    }

    pub(super) fn closing(&self) -> Option<CloseReason> {
        match self.phase {
            Phase::Closing(reason) => Some(reason),
            _ => None,
        }
    }

    /// Ends it after what is unsent; what it holds is thrown away, and told.
    pub(super) fn close(&mut self, reason: CloseReason) -> usize {
        self.phase = Phase::Closing(reason);
        let thrown: usize = self.inbox.drain(..).map(|message| cost(message.len())).sum();
        self.held -= thrown;
        thrown
    }

    /// It has ended. What was closed before ends as that.
    pub(super) fn end(&mut self, reason: Disconnect) {
        self.outbox.clear();
        self.unsent = 0;
        self.phase = match self.phase {
            Phase::Open => Phase::Ended(reason),
            Phase::Closing(ours) => Phase::Ended(Disconnect::LocalClose(ours)),
            Phase::Ended(ref first) => Phase::Ended(first.clone()),
        };
    }

    /// Why it has ended, if nothing is left in it.
    pub(super) fn ended_and_empty(&mut self) -> Option<Disconnect> {
        match &self.phase {
            Phase::Ended(reason) if self.inbox.is_empty() && self.in_hand.is_none() => Some(reason.clone()),
            _ => None,
        }
    }

    pub(super) fn queue(&mut self, payload: Bytes) {
        self.unsent += cost(payload.len());
        self.outbox.push_back(payload);
    }

    pub(super) fn unsent(&self) -> usize {
        self.unsent
    }

    /// Whether there is something to send, a reset too.
    pub(super) fn has_output(&self) -> bool {
        !self.outbox.is_empty() || matches!(self.phase, Phase::Closing(_))
    }

    /// What the next frame takes of the socket, in bytes.
    pub(super) fn next_cost(&self) -> usize {
        self.outbox.front().map_or(0, |payload| payload.len() + OVERHEAD)
    }

    pub(super) fn next_payload(&mut self) -> Option<(u32, Bytes)> {
        let payload = self.outbox.pop_front()?;
        self.unsent -= cost(payload.len());
        let seq = self.next_out;
        self.next_out = seq.wrapping_add(1);
        Some((seq, payload))
    }
}
