//! Where the task of a connection gets its commands, each when it is due.
//!
//! In go letters, put in by the hub under its lock; out come commands, one at a time. A box that nobody has is closed,
//! and what was in it is dropped. It knows neither router nor socket. Thousands of these lie idle, so one is no more than
//! a lock, a waker and a list that is empty (a channel keeps room for 32 letters).

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use exedra_proto::close::CloseReason;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::limits::MAILBOX;

/// What a connection's task is told, with what a newcomer brings along.
pub enum Command<L> {
    /// This client is yours.
    Join(L),
    /// Close, and tell the peer this.
    Close(CloseReason),
    /// Somebody else waits: ask the peer for a sign of life.
    Challenge,
}

/// A command on its way.
pub enum Letter<L> {
    /// See [`Command::Join`].
    Join(L),
    /// See [`Command::Close`]; not before that time.
    Close(CloseReason, Instant),
}

/// The slot of a mailbox: letters go in here.
pub struct Slot<L>(Arc<Mutex<Letters<L>>>);

/// A mailbox.
pub struct Mailbox<L> {
    letters: Arc<Mutex<Letters<L>>>,
    later: Option<(CloseReason, Pin<Box<Sleep>>)>,
}

/// What is found in a mailbox.
enum Next<L> {
    Letter(Letter<L>),
    Challenge,
}

struct Letters<L> {
    queue: VecDeque<Letter<L>>,
    reader: Option<Waker>,
    closed: bool,
    /// See [`Command::Challenge`]; as often as it may come, it takes no room.
    challenge: bool,
}

/// A mailbox, and its slot.
pub fn mailbox<L>() -> (Slot<L>, Mailbox<L>) {
    let letters =
        Arc::new(Mutex::new(Letters { queue: VecDeque::new(), reader: None, closed: false, challenge: false }));
    (Slot(Arc::clone(&letters)), Mailbox { letters, later: None })
}

impl<L> Slot<L> {
    /// Puts a letter in; it comes back if nobody will read it. There is room for all that there can be ([`MAILBOX`]).
    pub fn put(&self, letter: Letter<L>) -> Result<(), Letter<L>> {
        let mut letters = lock(&self.0);
        if letters.closed || letters.queue.len() >= MAILBOX {
            return Err(letter);
        }
        letters.queue.push_back(letter);
        let reader = letters.reader.take();
        drop(letters);
        if let Some(reader) = reader {
            reader.wake();
        }
        Ok(())
    }

    /// A letter that says [`Command::Challenge`].
    pub fn challenge(&self) {
        let mut letters = lock(&self.0);
        letters.challenge = true;
        let reader = letters.reader.take();
        drop(letters);
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

impl<L> Mailbox<L> {
    /// The next command. Pending for ever when none can come any more.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Command<L>> {
        loop {
            match self.next_in(cx) {
                Some(Next::Letter(Letter::Join(client))) => return Poll::Ready(Command::Join(client)),
                Some(Next::Letter(Letter::Close(reason, at))) if at <= Instant::now() => {
                    return Poll::Ready(Command::Close(reason));
                }
                Some(Next::Letter(Letter::Close(reason, at))) => self.later = Some((reason, Box::pin(sleep_until(at)))),
                Some(Next::Challenge) => return Poll::Ready(Command::Challenge),
                None => break,
            }
        }
        if let Some((reason, timer)) = &mut self.later {
            ready!(timer.as_mut().poll(cx));
            let reason = *reason;
            self.later = None;
            return Poll::Ready(Command::Close(reason));
        }
        Poll::Pending
    }

    /// The next command.
    pub async fn next(&mut self) -> Command<L> {
        poll_fn(|cx| self.poll(cx)).await
    }

    /// What is next in it; without anything the task will be woken.
    fn next_in(&self, cx: &Context<'_>) -> Option<Next<L>> {
        let mut letters = lock(&self.letters);
        if let Some(letter) = letters.queue.pop_front() {
            return Some(Next::Letter(letter));
        }
        letters.queue = VecDeque::new();
        if !letters.reader.as_ref().is_some_and(|reader| reader.will_wake(cx.waker())) {
            letters.reader = Some(cx.waker().clone());
        }
        std::mem::take(&mut letters.challenge).then_some(Next::Challenge)
    }
}

impl<L> Drop for Mailbox<L> {
    fn drop(&mut self) {
        let mut letters = lock(&self.letters);
        letters.closed = true;
        let (queue, reader) = (std::mem::take(&mut letters.queue), letters.reader.take());
        // What a letter brings may have to do with this very slot when it is dropped.
        drop(letters);
        drop((queue, reader));
    }
}

fn lock<L>(letters: &Mutex<Letters<L>>) -> MutexGuard<'_, Letters<L>> {
    letters.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn letters_come_in_their_order_and_when_they_are_due() {
        let (slot, mut mailbox) = mailbox();
        let later = Instant::now() + Duration::from_secs(5);
        assert!(slot.put(Letter::Close(CloseReason::GoingAway, later)).is_ok());
        assert!(slot.put(Letter::Join("first")).is_ok());
        assert!(slot.put(Letter::Join("second")).is_ok());
        assert!(matches!(mailbox.next().await, Command::Join("first")));
        assert!(matches!(mailbox.next().await, Command::Join("second")));
        assert!(matches!(mailbox.next().await, Command::Close(CloseReason::GoingAway)));
        assert!(Instant::now() >= later);
    }

    #[tokio::test]
    async fn a_reader_that_waits_is_woken() {
        let (slot, mut mailbox) = mailbox();
        let (command, put) = tokio::join!(biased; mailbox.next(), async { slot.put(Letter::Join(7)) });
        assert!(matches!(command, Command::Join(7)) && put.is_ok());
    }

    #[test]
    fn a_closed_box_gives_letters_back_and_drops_what_was_in_it() {
        let (slot, mailbox) = mailbox();
        let letter = Arc::new(());
        assert!(slot.put(Letter::Join(Arc::clone(&letter))).is_ok());
        drop(mailbox);
        assert_eq!(Arc::strong_count(&letter), 1);
        assert!(matches!(slot.put(Letter::Join(letter)), Err(Letter::Join(_))));
    }
}
