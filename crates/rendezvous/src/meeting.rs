//! The task of one executor's connection: it waits for a client, carries messages between the two, and parts from both.
//!
//! In come two [`Link`]s (the client's through the mailbox), out go their messages to each other, in one task and without
//! a lock, so that a frame costs one read, one write and no switch. An executor that asked for it first gets one message
//! from here, which says who the client is. How an end is told to the other side is the router's decision, which comes
//! back as an order. It reads no message.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use exedra_proto::close::CloseReason;
use exedra_proto::ticket::{Role, Shape};

use tracing::field::display;

use crate::config::Times;
use crate::farewell::farewell;
use crate::frames::header::{self, Opcode};
use crate::hall;
use crate::hub::{Command, Hub, Link};
use crate::leave::Leave;
use crate::linger::{Linger, look};
use crate::pump::{Flow, pump};
use crate::socket::{Socket, SocketEnd};

/// Rounds of both directions before other tasks of this thread get their turn.
const ROUNDS: usize = 4;

/// Serves a connection that has just opened, until it has ended. A client's is passed on to its executor's task.
pub async fn run(link: Box<Link>, hub: &Hub, times: Times) {
    let close_deadline = times.close_deadline;
    let (seat, client) = (&link.seat, link.seat.origin.as_ref().map(|origin| display(origin.address)));
    tracing::info!(connection = %seat.id, registration = ?seat.registration, role = ?seat.role, client, "opened");
    let Some(mut link) = hub.opened(link) else { return };
    if link.seat.role == Role::Executor && link.seat.shape == Shape::Streams {
        return Box::pin(hall::run(link, times)).await;
    }
    let client = match link.seat.role {
        Role::Executor => match poll_fn(|cx| poll_alone(cx, &mut link)).await {
            Ok(client) => client,
            Err(leave) => return Box::pin(leave_alone(link, leave, close_deadline)).await,
        },
        Role::Harness => {
            // It came too late: what it is told lies in its mailbox, or comes as soon as its executor has ended.
            let leave = poll_fn(|cx| poll_alone(cx, &mut link)).await.err();
            let leave = leave.unwrap_or(Leave::Ordered(CloseReason::InternalError));
            return Box::pin(leave_alone(link, leave, close_deadline)).await;
        }
    };
    Box::pin(together(link, client, close_deadline)).await;
}

/// What happens to a connection that is not joined: a client, or an end. What its peer sends is kept, up to a buffer.
fn poll_alone(cx: &mut Context<'_>, link: &mut Link) -> Poll<Result<Box<Link>, Leave>> {
    while let Poll::Ready(command) = link.mailbox.poll(cx) {
        match command {
            Command::Join(client) => return Poll::Ready(Ok(client)),
            Command::Close(reason) => return Poll::Ready(Err(Leave::Ordered(reason))),
            Command::Challenge => link.socket.challenge(),
        }
    }
    let socket = &mut link.socket;
    for round in 0.. {
        if !socket.ready().is_empty() {
            socket.pause();
            break;
        }
        match socket.poll_fill(cx) {
            Poll::Ready(Ok(())) if round < ROUNDS => {}
            Poll::Ready(Ok(())) => {
                cx.waker().wake_by_ref();
                break;
            }
            Poll::Ready(Err(end)) => return Poll::Ready(Err(Leave::Ended(end))),
            Poll::Pending => break,
        }
    }
    if socket.poll_gone(cx).is_ready() {
        return Poll::Ready(Err(Leave::Ended(SocketEnd::Silent)));
    }
    match socket.poll_flush(cx) {
        Poll::Ready(Err(error)) => Poll::Ready(Err(Leave::Ended(SocketEnd::Lost(Some(error))))),
        _ => Poll::Pending,
    }
}

async fn leave_alone(link: Box<Link>, leave: Leave, close_deadline: Duration) {
    leave.log(&link);
    link.seat.ended(leave.end());
    farewell(link, Vec::new(), leave.parting(), close_deadline).await;
}

/// Two sides that are joined.
struct Joined {
    executor: Box<Link>,
    client: Box<Link>,
    /// What of the client's introduction the executor has not got yet; before it nothing of the client's is passed on.
    introduction: Vec<u8>,
    /// A side that could not be written to; what it sent before is still read.
    deaf: [bool; 2],
    linger: Linger,
}

async fn together(mut executor: Box<Link>, mut client: Box<Link>, close_deadline: Duration) {
    let (bytes, seat) = (Arc::clone(&executor.seat.bytes), &executor.seat);
    tracing::info!(executor = %seat.id, client = %client.seat.id, registration = ?seat.registration, "joined");
    executor.socket.join();
    client.socket.join();
    executor.socket.count_into(Arc::clone(&bytes), None);
    client.socket.count_into(Arc::clone(&bytes), None);
    client.seat.bytes = bytes;
    let introduction = introduction(&executor, &client);
    let mut joined = Joined { executor, client, introduction, deaf: [false; 2], linger: Linger::default() };
    let (role, leave) = poll_fn(|cx| joined.poll(cx)).await;
    let Joined { mut executor, mut client, introduction: mut for_executor, .. } = joined;
    for_executor.extend(client.socket.take_ready());
    let for_client = executor.socket.take_ready();
    let ((first, for_first), (mut second, for_second)) = match role {
        Role::Executor => ((executor, for_executor), (client, for_client)),
        Role::Harness => ((client, for_client), (executor, for_executor)),
    };
    leave.log(&first);
    first.seat.ended(leave.end());
    let second_leave = Leave::told(&mut second.mailbox).await;
    second_leave.log(&second);
    tokio::join!(
        farewell(first, for_first, leave.parting(), close_deadline),
        farewell(second, for_second, second_leave.parting(), close_deadline),
    );
}

/// The frame with which the client is introduced, where the executor asked for that.
fn introduction(executor: &Link, client: &Link) -> Vec<u8> {
    let who = client.seat.introduction.as_ref().filter(|_| executor.seat.told);
    who.map_or_else(Vec::new, |who| header::frame(true, Opcode::Text, who.encode(None).as_bytes()))
}

impl Joined {
    /// Carries messages both ways until one side is over.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(Role, Leave)> {
        for (role, link) in [(Role::Executor, &mut self.executor), (Role::Harness, &mut self.client)] {
            while let Poll::Ready(command) = link.mailbox.poll(cx) {
                match command {
                    Command::Close(reason) => return Poll::Ready((role, Leave::Ordered(reason))),
                    Command::Challenge => link.socket.challenge(),
                    // Nobody joins twice: the router keeps one place.
                    Command::Join(_) => {}
                }
            }
        }
        for _ in 0..ROUNDS {
            let served = direction(cx, &mut self.executor.socket, &mut self.client.socket, &mut self.deaf[1]);
            let asked = if self.introduce(cx) {
                direction(cx, &mut self.client.socket, &mut self.executor.socket, &mut self.deaf[0])
            } else {
                self.client.socket.pause();
                Ok(false)
            };
            match (served, asked) {
                (Err(end), _) => return Poll::Ready((Role::Executor, Leave::Ended(end))),
                (_, Err(end)) => return Poll::Ready((Role::Harness, Leave::Ended(end))),
                (Ok(false), Ok(false)) => {
                    let over = self.poll_control(cx);
                    if over.is_pending() {
                        self.linger();
                    }
                    return over;
                }
                _ => {}
            }
        }
        cx.waker().wake_by_ref();
        self.poll_control(cx)
    }

    /// Looks for the answer to what was passed on, if that may come at once. What comes wakes the task.
    fn linger(&mut self) {
        let Self { executor, client, linger, .. } = self;
        let sent = executor.socket.sent() + client.socket.sent();
        if linger.is_due(sent, || executor.seat.passes_on_alone(), std::time::Instant::now)
            && let (Some(executor), Some(client)) = (executor.socket.as_fd(), client.socket.as_fd())
        {
            look([executor, client]);
        }
    }

    /// Whether the executor knows who the client is, or hears nothing any more.
    fn introduce(&mut self, cx: &mut Context<'_>) -> bool {
        while !self.introduction.is_empty() && !self.deaf[0] {
            match self.executor.socket.poll_write_frames(cx, &self.introduction) {
                Poll::Ready(Ok(written)) => self.introduction = self.introduction.split_off(written),
                Poll::Ready(Err(error)) => {
                    tracing::debug!(%error, "deaf");
                    self.deaf[0] = true;
                }
                Poll::Pending => return false,
            }
        }
        true
    }

    /// Pings, pongs and silence of both sides.
    fn poll_control(&mut self, cx: &mut Context<'_>) -> Poll<(Role, Leave)> {
        let sides = [(Role::Executor, &mut self.executor), (Role::Harness, &mut self.client)];
        for ((role, link), deaf) in sides.into_iter().zip(&mut self.deaf) {
            if link.socket.poll_gone(cx).is_ready() {
                return Poll::Ready((role, Leave::Ended(SocketEnd::Silent)));
            }
            if !*deaf && matches!(link.socket.poll_flush(cx), Poll::Ready(Err(_))) {
                *deaf = true;
            }
        }
        match self.deaf {
            // What either of them still has to say is for nobody.
            [true, true] => Poll::Ready((Role::Executor, Leave::Ended(SocketEnd::Lost(None)))),
            _ => Poll::Pending,
        }
    }
}

/// Moves what it can; whether there may be more at once.
///
/// When the sink cannot be written it is deaf from then on, and what it said last is still read: its own end follows.
fn direction(cx: &mut Context<'_>, source: &mut Socket, sink: &mut Socket, deaf: &mut bool) -> Result<bool, SocketEnd> {
    if *deaf {
        source.pause();
        return Ok(false);
    }
    match pump(cx, source, sink) {
        Flow::Waits => Ok(false),
        Flow::More => Ok(true),
        Flow::SourceEnded(end) => Err(end),
        Flow::SinkLost(error) => {
            tracing::debug!(%error, "deaf");
            *deaf = true;
            Ok(false)
        }
    }
}

#[cfg(test)]
mod tests;
