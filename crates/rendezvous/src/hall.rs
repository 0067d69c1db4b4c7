//! The task of one executor with many clients: relay frames of all of them to its one socket, and its frames back.
//!
//! In come [`Link`]s (clients' through the executor's mailbox), out go their messages, routed by stream id. The
//! [`switch`] decides where a frame goes, [`turns`] whose turn it is, [`stall`] who has been in the way for too long; an
//! [`inbox`] reads a message only as far as to know whose it is, an [`outbox`] holds what waits for one peer. A client
//! that ends costs the others nothing: the executor is told by resets, and a message that it had begun is spoiled. An
//! executor that asked for it is told in a text message who a client is, right before the first frame of each of its streams.
//! Only those who have something to do are looked at: who was woken ([`bells`]), who was given something, who had all taken.

mod bells;
mod inbox;
mod members;
mod outbox;
mod pass;
mod stall;
mod switch;
mod turns;

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use exedra_proto::frame::scan::Kind;
use exedra_proto::frame::{Body, Frame as Relay, StreamId};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::time::{Instant, Sleep};

use crate::budget::Share;
use crate::config::Times;
use crate::farewell::farewell;
use crate::frames::header::Opcode;
use crate::hub::{Command, Link};
use crate::leave::Leave;
use crate::router::ConnectionId;
use crate::socket::SocketEnd;
use bells::Bells;
use inbox::{Frame, Inbox, Part};
use outbox::Outbox;
use stall::Stall;
use switch::{Route, Switch};
use turns::Turns;

/// Rounds in all directions before other tasks of this thread get their turn.
const ROUNDS: usize = 4;
/// Bytes of resets that wait for one peer at most; further ones are not sent. Who causes so many reads none of them.
const RESETS: usize = 16 * 1024;

/// One peer, and what is on its way from and to it.
struct Member {
    link: Box<Link>,
    inbox: Inbox,
    out: Outbox,
    /// It cannot be written to; what it sent before is still read.
    deaf: bool,
    /// There may be more to read from it at once.
    more: bool,
    /// What came last from its socket, once nothing more does.
    end: Option<SocketEnd>,
    /// What wakes it.
    bell: Waker,
}

/// The message of a client that has been passed on in part: until it ends nobody else may send.
struct Passing {
    client: ConnectionId,
    stream: StreamId,
    stall: Stall,
}

/// Messages that went nowhere, for the log.
#[derive(Debug, Default)]
struct Dropped {
    faulty: u64,
    unrouted: u64,
}

/// An executor and its clients.
struct Hall {
    executor: Member,
    members: BTreeMap<ConnectionId, Member>,
    bells: Bells,
    /// Members that are to be looked at, and those that have sent what is not passed on yet.
    busy: BTreeSet<ConnectionId>,
    asking: BTreeSet<ConnectionId>,
    switch: Switch,
    turns: Turns,
    passing: Option<Passing>,
    /// Whom the message of the executor is for that has been passed on in part.
    answering: Option<(ConnectionId, StreamId)>,
    collected: usize,
    share: Share,
    dropped: Dropped,
    timer: Option<Pin<Box<Sleep>>>,
    farewells: FuturesUnordered<Pin<Box<dyn Future<Output = ()> + Send>>>,
    times: Times,
}

/// Serves an executor that has just opened, and its clients, until it has ended.
pub async fn run(link: Box<Link>, times: Times) {
    // Boxed, like the end, so that an idle executor's task holds no room for what comes once.
    let mut hall = Box::new(Hall::new(link, times));
    let leave = poll_fn(|cx| hall.poll(cx)).await;
    Box::pin(hall.end(&leave)).await;
}

impl Member {
    /// `all`: where payload is counted that somebody else's counter has to show, too.
    fn new(mut link: Box<Link>, all: Option<Arc<AtomicU64>>, bell: Waker) -> Self {
        link.socket.count_into(Arc::clone(&link.seat.bytes), all);
        Self { link, inbox: Inbox::default(), out: Outbox::default(), deaf: false, more: false, end: None, bell }
    }

    /// Reads once, if all that was read before has been taken.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> bool {
        let socket = &mut self.link.socket;
        if self.end.is_some() {
            return false;
        }
        if !socket.ready().is_empty() {
            socket.pause();
            return false;
        }
        match socket.poll_fill(cx) {
            Poll::Ready(Ok(())) => true,
            Poll::Ready(Err(end)) => {
                self.end = Some(end);
                true
            }
            Poll::Pending => false,
        }
    }

    /// The end of its socket, once all that came before it is taken.
    fn take_end(&mut self) -> Option<SocketEnd> {
        if self.link.socket.ready().is_empty() { self.end.take() } else { None }
    }

    /// Writes what its peer takes: how many bytes.
    fn write(&mut self, cx: &mut Context<'_>) -> usize {
        let mut all = 0;
        while self.out.len() > 0 && !self.deaf {
            match self.out.poll_write(cx, &mut self.link.socket) {
                Poll::Ready(Ok(written)) => all += written,
                Poll::Ready(Err(error)) => {
                    tracing::debug!(connection = %self.link.seat.id, %error, "deaf");
                    self.deaf = true;
                }
                Poll::Pending => break,
            }
        }
        if self.deaf {
            all += self.out.len();
            self.out = Outbox::default();
        }
        all
    }

    /// Pings, pongs and silence.
    fn poll_control(&mut self, cx: &mut Context<'_>) -> Option<Leave> {
        if self.link.socket.poll_gone(cx).is_ready() {
            return Some(Leave::Ended(SocketEnd::Silent));
        }
        if !self.deaf && matches!(self.link.socket.poll_flush(cx), Poll::Ready(Err(_))) {
            self.deaf = true;
        }
        None
    }
}

impl Hall {
    fn new(link: Box<Link>, times: Times) -> Self {
        let (switch, share) = (Switch::new(link.seat.id, times.stall), Share::new(link.seat.budget()));
        Self {
            // It is looked at whenever the task runs.
            executor: Member::new(link, None, Waker::noop().clone()),
            members: BTreeMap::new(),
            bells: Bells::default(),
            busy: BTreeSet::new(),
            asking: BTreeSet::new(),
            switch,
            turns: Turns::default(),
            passing: None,
            answering: None,
            collected: 0,
            share,
            dropped: Dropped::default(),
            timer: None,
            farewells: FuturesUnordered::new(),
            times,
        }
    }

    /// Carries messages until the executor is over.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Leave> {
        while let Poll::Ready(command) = self.executor.link.mailbox.poll(cx) {
            match command {
                Command::Join(client) => self.join(client),
                Command::Close(reason) => return Poll::Ready(Leave::Ordered(reason)),
                Command::Challenge => self.executor.link.socket.challenge(),
            }
        }
        self.busy.extend(self.bells.heard(cx));
        self.hear_orders();
        self.switch.press(self.share.is_pressed());
        let mut rounds = 0;
        while rounds < ROUNDS && self.round(cx) {
            rounds += 1;
        }
        if rounds == ROUNDS {
            cx.waker().wake_by_ref();
        }
        if let Some(end) = self.executor.take_end() {
            return Poll::Ready(Leave::Ended(end));
        }
        if let Some(leave) = self.executor.poll_control(cx) {
            return Poll::Ready(leave);
        }
        if self.control_members() | self.send_away_stalled(cx) {
            // The executor is told of those who left.
            cx.waker().wake_by_ref();
        }
        // All others wake the task when there is something.
        let answering = self.answering.as_ref().map(|(to, _)| *to);
        self.busy.retain(|id| answering == Some(*id) || self.members.get(id).is_some_and(|member| member.more));
        while let Poll::Ready(Some(())) = self.farewells.poll_next_unpin(cx) {}
        self.share.set(self.switch.waiting() + self.executor.out.len() + self.collected, self.switch.open());
        Poll::Pending
    }

    /// Moves what can be moved once; whether that was anything.
    fn round(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = self.fill_members();
        moved |= self.pass_on(Instant::now());
        moved |= self.executor.write(cx) > 0;
        let heard = self.hear_executor(cx);
        moved | heard | self.write_members(heard)
    }

    /// Reads the executor, unless somebody keeps it from being read, and hands out what came.
    fn hear_executor(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = self.switch.may_read_executor() && self.executor.poll_fill(cx);
        loop {
            let batch = self.executor.link.socket.ready();
            let Some(frame) = Frame::first(batch) else { break };
            if !self.switch.may_read_executor() {
                self.executor.link.socket.pause();
                break;
            }
            let len = frame.bytes.len();
            let part = self.executor.inbox.frame(&frame, 0);
            hand_out(
                part,
                &mut self.switch,
                (&mut self.members, &mut self.busy),
                &mut self.executor.out,
                &mut self.answering,
                &mut self.dropped,
            );
            if self.answering.is_none() {
                self.executor.inbox.refuse();
            }
            self.executor.link.socket.taken(len);
            moved = true;
        }
        moved
    }

    /// Ends everything: each client is told what the router says, and gets what came for it.
    async fn end(mut self, leave: &Leave) {
        leave.log(&self.executor.link);
        let Dropped { faulty, unrouted } = self.dropped;
        if faulty + unrouted > 0 {
            tracing::info!(executor = %self.executor.link.seat.id, faulty, unrouted, "messages that went nowhere");
        }
        self.executor.link.seat.ended(leave.end());
        for (_, mut member) in std::mem::take(&mut self.members) {
            let leave = Leave::told(&mut member.link.mailbox).await;
            self.part_from(member, &leave);
        }
        let Member { link, out, deaf, .. } = self.executor;
        let tail = if deaf { Vec::new() } else { out.into_bytes() };
        let last = farewell(link, tail, leave.parting(), self.times.close_deadline);
        tokio::join!(last, self.farewells.collect::<()>());
    }

    /// Parts from a client without waiting for it.
    fn part_from(&mut self, member: Member, leave: &Leave) {
        let Member { link, out, .. } = member;
        leave.log(&link);
        link.seat.ended(leave.end());
        self.farewells.push(Box::pin(farewell(link, out.into_bytes(), leave.parting(), self.times.close_deadline)));
    }
}

/// Hands a part of a message of the executor to whom it is for.
fn hand_out(
    part: Part<'_>,
    switch: &mut Switch,
    (members, busy): (&mut BTreeMap<ConnectionId, Member>, &mut BTreeSet<ConnectionId>),
    executor: &mut Outbox,
    answering: &mut Option<(ConnectionId, StreamId)>,
    dropped: &mut Dropped,
) {
    let mut give = |to: ConnectionId, bytes: std::borrow::Cow<'_, [u8]>, switch: &mut Switch| {
        if let Some(member) = members.get_mut(&to).filter(|member| !member.deaf) {
            member.link.seat.bytes.fetch_add(payload(&bytes), Ordering::Relaxed);
            switch.queued(to, member.out.push(bytes));
            busy.insert(to);
        }
    };
    let (stream, kind, bytes, whole) = match part {
        Part::Wait => return,
        Part::Dropped(fault) => {
            dropped.faulty += u64::from(fault.is_some());
            return;
        }
        Part::More(bytes) => {
            if let Some((to, _)) = answering {
                give(*to, bytes, switch);
            }
            return;
        }
        Part::End(bytes, outcome) => {
            if let Some((to, stream)) = answering.take() {
                give(to, bytes, switch);
                if outcome == Ok(Kind::Reset) {
                    switch.of_executor(&stream, Kind::Reset);
                }
            }
            dropped.faulty += u64::from(outcome.is_err());
            return;
        }
        Part::Whole(stream, kind, bytes) => (stream, kind, bytes, true),
        Part::Begin(stream, bytes) => (stream, Kind::Other, bytes, false),
    };
    match switch.of_executor(&stream, kind) {
        Route::To(to) | Route::New(to, _) => {
            give(to, bytes, switch);
            if !whole {
                *answering = Some((to, stream));
            }
        }
        Route::Drop => dropped.unrouted += 1,
        Route::Refuse(reason) => {
            dropped.unrouted += 1;
            if executor.waiting() < RESETS {
                executor.say(Opcode::Binary, &resetting(stream, reason));
            }
        }
    }
}

/// How much payload is in whole frames.
fn payload(mut frames: &[u8]) -> u64 {
    let mut sum = 0;
    while let Some(frame) = Frame::first(frames) {
        sum += frame.payload.len() as u64;
        frames = frames.get(frame.bytes.len()..).unwrap_or_default();
    }
    sum
}

/// The relay frame that ends a stream.
fn resetting(stream: StreamId, reason: &str) -> bytes::Bytes {
    Relay { stream, body: Body::Reset { reason: reason.to_owned() } }.encode()
}

#[cfg(test)]
mod tests;
