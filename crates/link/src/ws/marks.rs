//! Marks on their way and back: what the peer of a websocket has answered, and what to do if it never does.
//!
//! In flow marks as the writer sends them and pongs as the reader sees them, out flows the highest number that counts as
//! answered. A peer that speaks and leaves a mark unanswered for the limit of silence, though its kernel has had it as
//! long, answers none: then it gets no more, and all counts as answered, as if it had no marks. While our own side does
//! not read, answers cannot come; what was written then counts after a minute, or both ends could wait for each other.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use exedra_proto::mark;
use tokio::sync::{Notify, watch};

use super::replies::Replies;
use super::socket::TcpView;
use super::watch::{Pulse, may_answer};

/// Between two looks at a mark without an answer.
const LOOK: Duration = Duration::from_secs(1);
/// Looks in a row that find our side not reading, after which what was written counts as answered.
const UNREAD: u32 = 60;

/// The marks of one connection.
#[derive(Debug)]
pub(super) struct Marks {
    state: Mutex<State>,
    sent: Notify,
    answered: watch::Sender<u64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// The latest number sent.
    sent: u64,
    answered: u64,
    /// Since when there is one without an answer, and none was answered.
    since: Option<Instant>,
}

impl State {
    fn send(&mut self, number: u64, now: Instant) {
        self.sent = number;
        self.since = self.since.or((number > self.answered).then_some(now));
    }

    /// An answer to what was not sent says nothing.
    fn answer(&mut self, number: u64, now: Instant) {
        if number > self.answered && number <= self.sent {
            self.answered = number;
            self.since = (self.sent > number).then_some(now);
        }
    }

    fn give_up(&mut self) {
        (self.answered, self.since) = (u64::MAX, None);
    }
}

impl Marks {
    /// None yet; `answered` is told what counts as answered.
    pub(super) fn new(answered: watch::Sender<u64>) -> Self {
        Self { state: Mutex::default(), sent: Notify::new(), answered }
    }

    /// The payload of the ping for mark `number`; none if the peer does not answer any.
    pub(super) fn send(&self, number: u64) -> Option<[u8; 16]> {
        let mut state = self.state();
        if state.answered == u64::MAX {
            return None;
        }
        state.send(number, Instant::now());
        drop(state);
        self.sent.notify_one();
        Some(mark::encode(number))
    }

    /// The payload of the latest one, while it is unanswered: a ping that follows it may be the only one answered.
    pub(super) fn open(&self) -> Option<[u8; 16]> {
        let state = self.state();
        state.since.map(|_| mark::encode(state.sent))
    }

    /// A pong came.
    pub(super) fn pong(&self, payload: &[u8]) {
        if let Some(number) = mark::decode(payload) {
            self.change(|state| state.answer(number, Instant::now()));
        }
    }

    /// Watches marks without an answer, for ever.
    pub(super) async fn watch(&self, pulse: Arc<Pulse>, replies: Arc<Replies>, tcp: Option<TcpView>, limit: Duration) {
        let mut unread = 0;
        loop {
            let State { sent, since, .. } = *self.state();
            let Some(since) = since else {
                unread = 0;
                self.sent.notified().await;
                continue;
            };
            tokio::time::sleep(LOOK.min(limit)).await;
            unread = if pulse.is_reading() { 0 } else { unread + 1 };
            if unread >= UNREAD {
                tracing::debug!("answers are not read at present: what was sent counts as arrived");
                self.change(|state| state.answer(sent, Instant::now()));
            } else if since.elapsed() >= limit && replies.heard() > since && may_answer(&pulse, tcp, limit) {
                let gone = self.change(|state| {
                    if state.since == Some(since) {
                        state.give_up()
                    }
                });
                if gone {
                    tracing::warn!("the peer answers no pings: what is sent counts as arrived");
                }
            }
        }
    }

    /// Whether the answers end with this.
    fn change(&self, change: impl FnOnce(&mut State)) -> bool {
        let mut state = self.state();
        change(&mut state);
        let answered = state.answered;
        drop(state);
        let changed = self.answered.send_if_modified(|told| std::mem::replace(told, answered) != answered);
        changed && answered == u64::MAX
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_answer_counts_for_all_before_it() {
        let start = Instant::now();
        let (later, last) = (start + Duration::from_secs(1), start + Duration::from_secs(2));
        let mut state = State::default();
        state.send(1, start);
        state.send(2, later);
        assert_eq!(state.since, Some(start));
        state.answer(3, later);
        assert_eq!(state.answered, 0, "there is no such mark");
        state.answer(1, last);
        assert_eq!((state.answered, state.since), (1, Some(last)));
        state.answer(2, last);
        state.answer(1, last);
        assert_eq!((state.answered, state.since), (2, None));
        state.give_up();
        state.send(3, last);
        assert_eq!((state.answered, state.since), (u64::MAX, None));
    }

    #[test]
    fn pongs_are_told_and_others_are_not() {
        let (tell, told) = watch::channel(0);
        let marks = Marks::new(tell);
        let payload = marks.send(1).unwrap();
        assert_eq!(marks.open(), Some(payload));
        marks.pong(b"");
        marks.pong(&2_u64.to_be_bytes());
        assert_eq!(*told.borrow(), 0);
        marks.pong(&payload);
        assert_eq!((*told.borrow(), marks.open()), (1, None));
    }
}
