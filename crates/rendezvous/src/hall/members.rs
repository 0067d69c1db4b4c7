//! The clients' side of a hall: who comes and goes, whose message is passed on next, who has been in the way for too long.

use std::future::Future as _;
use std::task::{Context, Poll};

use exedra_proto::close::CloseReason;
use exedra_proto::frame::StreamId;
use exedra_proto::frame::reset;
use exedra_proto::ids::TokenId;
use tokio::time::{Instant, sleep_until};

use super::inbox::Frame;
use super::pass::{Outcome, pass_part};
use super::switch::Yielded;
use super::{Hall, Member, RESETS, resetting};
use crate::frames::header::Opcode;
use crate::hub::{Command, Link};
use crate::leave::Leave;
use crate::limits::{ASKED_QUEUE, COLLECTED, COLLECTED_IN_ALL};
use crate::router::ConnectionId;

/// Less than this may wait for the rest of its message, in bytes. The rest of what is larger comes soon enough: to wait for
/// it would keep its client from taking the one part while the other is read.
const LITTLE: usize = 32 * 1024;

impl Hall {
    pub(super) fn join(&mut self, client: Box<Link>) {
        let seat = &self.executor.link.seat;
        let id = client.seat.id;
        tracing::info!(executor = %seat.id, client = %id, registration = ?seat.registration, "joined");
        let all = Some(std::sync::Arc::clone(&seat.bytes));
        for member in self.members.values_mut() {
            member.link.socket.challenge();
        }
        let token = token_of(&client);
        let standing = seat.standing(&token);
        self.switch.join(id, token, standing, Instant::now().into_std());
        self.turns.join(id);
        self.members.insert(id, Member::new(client, all, self.bells.bell(id)));
        self.busy.extend(self.members.keys());
    }

    /// Sends away whoever was told to go.
    pub(super) fn hear_orders(&mut self) {
        let mut told = Vec::new();
        for id in &self.busy {
            let Some(member) = self.members.get_mut(id) else { continue };
            // Nobody joins a client.
            if let Poll::Ready(Command::Close(reason)) =
                member.link.mailbox.poll(&mut Context::from_waker(&member.bell))
            {
                told.push((*id, reason));
            }
        }
        for (id, reason) in told {
            self.leave(id, &Leave::Ordered(reason), reset::HARNESS_GONE);
        }
    }

    /// Reads from those who had all taken from them.
    pub(super) fn fill_members(&mut self) -> bool {
        let mut moved = false;
        let mut ended = Vec::new();
        for id in &self.busy {
            let Some(member) = self.members.get_mut(id) else { continue };
            let bell = member.bell.clone();
            member.more = member.poll_fill(&mut Context::from_waker(&bell));
            moved |= member.more;
            if !member.link.socket.ready().is_empty() {
                self.asking.insert(*id);
            }
            if let Some(end) = member.take_end() {
                ended.push((*id, end));
            }
        }
        for (id, end) in ended {
            self.leave(id, &Leave::Ended(end), reset::HARNESS_GONE);
        }
        moved
    }

    /// Passes messages on to the executor, as long as there is room.
    pub(super) fn pass_on(&mut self, now: Instant) -> bool {
        let mut taken = 0;
        // What is collected or dropped costs as much as what is passed on, and fills no queue.
        while self.executor.out.len() < ASKED_QUEUE && taken < ASKED_QUEUE {
            let Some(id) = self.whose_turn() else { break };
            let used = self.pass_one(id, now);
            self.turns.charge(id, used);
            taken += used;
            self.refill(id);
        }
        taken > 0
    }

    /// Whoever has had all taken from it, and has more in its socket, keeps its turn.
    fn refill(&mut self, id: ConnectionId) {
        let Some(member) = self.members.get_mut(&id) else { return };
        if member.link.socket.ready().is_empty() {
            let bell = member.bell.clone();
            member.poll_fill(&mut Context::from_waker(&bell));
            if member.link.socket.ready().is_empty() {
                self.asking.remove(&id);
            }
        }
    }

    fn whose_turn(&mut self) -> Option<ConnectionId> {
        if self.asking.is_empty() {
            return None;
        }
        let has = |id| self.asking.contains(&id);
        match &self.passing {
            Some(passing) => Some(passing.client).filter(|id| has(*id)),
            None => self.turns.next(has),
        }
    }

    /// Takes one frame of a client: how many bytes of its turn that used, whatever became of it.
    fn pass_one(&mut self, id: ConnectionId, now: Instant) -> usize {
        let Some(member) = self.members.get_mut(&id) else { return 0 };
        let Some(frame) = Frame::first(member.link.socket.ready()) else { return 0 };
        let len = frame.bytes.len();
        let held = member.inbox.held();
        let room = if self.share.is_pressed() { 0 } else { COLLECTED_IN_ALL.saturating_sub(self.collected - held) };
        let part = member.inbox.frame(&frame, COLLECTED.min(room));
        let who = member.link.seat.introduction.as_deref().filter(|_| self.executor.link.seat.told);
        let (introduced, outcome) = pass_part(
            part,
            (id, who),
            (&mut self.switch, &mut self.executor.out),
            (&mut self.passing, &mut self.dropped),
            now,
        );
        if matches!(outcome, Outcome::Nowhere(..)) {
            member.inbox.refuse();
        }
        self.collected = self.collected - held + member.inbox.held();
        member.link.socket.taken(len);
        if let Some(passing) = &mut self.passing {
            passing.stall.moved(len);
        }
        let says_too_much = member.out.waiting() >= RESETS;
        // It can be read again, or is given a refusal.
        member.more = true;
        self.busy.insert(id);
        match outcome {
            Outcome::Passed => {}
            Outcome::Nowhere(stream, Some(reason)) if !says_too_much => self.reset_at(id, stream, reason),
            Outcome::Nowhere(..) => {}
            Outcome::Instead(Yielded { owner, stream }) => {
                tracing::info!(client = %owner, %stream, to = %id, "a stream gave way to another client's");
                self.reset_at(owner, stream, reset::GAVE_WAY);
            }
        }
        len + introduced
    }

    /// Tells a client that its stream is over.
    fn reset_at(&mut self, client: ConnectionId, stream: StreamId, reason: &str) {
        if let Some(member) = self.members.get_mut(&client).filter(|member| !member.deaf) {
            let queued = member.out.say(Opcode::Binary, &resetting(stream, reason));
            self.switch.queued(client, queued);
            self.busy.insert(client);
        }
    }

    /// Writes what was given to members. `more` comes at once: then whose message goes on waits for it, if it has [a little
    /// only](LITTLE), since a message that is read in two would else cost two writes, and two wakings of its client.
    pub(super) fn write_members(&mut self, more: bool) -> bool {
        let mut moved = false;
        let answering = self.answering.as_ref().filter(|_| more).map(|(to, _)| *to);
        for id in &self.busy {
            let Some(member) = self.members.get_mut(id) else { continue };
            if answering == Some(*id) && member.out.len() < LITTLE {
                continue;
            }
            let bell = member.bell.clone();
            let written = member.write(&mut Context::from_waker(&bell));
            if written > 0 {
                self.switch.drained(*id, written);
                moved = true;
            }
        }
        moved
    }

    /// Pings, pongs and silence; whether somebody left.
    pub(super) fn control_members(&mut self) -> bool {
        let mut gone = Vec::new();
        for id in &self.busy {
            let Some(member) = self.members.get_mut(id) else { continue };
            let (bell, was_deaf) = (member.bell.clone(), member.deaf);
            gone.extend(member.poll_control(&mut Context::from_waker(&bell)).map(|leave| (*id, leave)));
            if member.deaf && !was_deaf {
                // What waits for it is of no use any more, and counts until it is thrown away.
                bell.wake();
            }
        }
        let any = !gone.is_empty();
        for (id, leave) in gone {
            self.leave(id, &leave, reset::HARNESS_GONE);
        }
        any
    }

    /// Sends away whoever has kept the others waiting for too long, and sets the timer for the next; whether somebody left.
    pub(super) fn send_away_stalled(&mut self, cx: &mut Context<'_>) -> bool {
        let before = self.members.len();
        loop {
            let now = Instant::now();
            let (mut next, reader) = self.switch.poll_stalls(now.into_std());
            if let Some(id) = reader {
                self.send_away(id, reset::RECEIVER_STALLED, now);
                continue;
            }
            if let Some(passing) = &mut self.passing
                && let patience = self.switch.patience(passing.client, now.into_std())
                // While the executor takes nothing, it is not the sender who is slow.
                && let blocks = self.executor.out.len() < ASKED_QUEUE && self.asking.iter().any(|id| *id != passing.client)
                && let Some(due) = passing.stall.poll(blocks, patience, now.into_std())
            {
                if due <= now.into_std() {
                    let id = passing.client;
                    self.send_away(id, reset::SENDER_STALLED, now);
                    continue;
                }
                next = Some(next.map_or(due, |next| next.min(due)));
            }
            let Some(next) = next else {
                self.timer = None;
                return self.members.len() < before;
            };
            let next = Instant::from_std(next);
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(next)));
            if timer.deadline() != next {
                timer.as_mut().reset(next);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return self.members.len() < before;
            }
        }
    }

    /// A client has been waited for in vain: its token pays for that.
    fn send_away(&mut self, id: ConnectionId, why: &str, now: Instant) {
        let Some(token) = self.members.get(&id).map(|member| token_of(&member.link)) else { return };
        let waited = self.switch.patience(id, now.into_std());
        let seat = &self.executor.link.seat;
        let registration = &seat.registration;
        tracing::warn!(client = %id, %token, ?registration, ?waited, why, "kept the others of its executor waiting");
        self.switch.stands(&token, seat.stalled(&token, waited));
        self.leave(id, &Leave::Ordered(CloseReason::Stalled), why);
    }

    /// A client leaves; the executor is told for each stream that it leaves open.
    fn leave(&mut self, id: ConnectionId, leave: &Leave, why: &str) {
        let Some(mut member) = self.members.remove(&id) else { return };
        self.collected -= member.inbox.held();
        if let Some(rest) = member.inbox.break_off() {
            self.executor.out.push(rest.into());
        }
        self.passing.take_if(|passing| passing.client == id);
        self.answering.take_if(|(to, _)| *to == id);
        self.turns.leave(id);
        self.asking.remove(&id);
        for stream in self.switch.leave(id) {
            self.executor.out.say(Opcode::Binary, &resetting(stream, why));
        }
        if member.deaf {
            member.out = Default::default();
        }
        self.part_from(member, leave);
    }
}

/// The token of a client.
fn token_of(client: &Link) -> TokenId {
    client.seat.introduction.as_ref().map_or_else(|| TokenId::new(""), |introduction| introduction.token.clone())
}
