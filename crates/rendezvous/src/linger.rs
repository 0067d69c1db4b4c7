//! A look for the answer before a task sleeps: a message that was passed on is often answered within microseconds, by a
//! peer that is near, and to sleep until then and be woken takes longer than the answer.
//!
//! In flow the turns of a task, and when they were; out flows whether to look. [`Linger`] is pure; [`look`] asks the kernel
//! whether there is something to read, and reads nothing: that is left to the task, as ever.
//!
//! A look keeps one thread from its other tasks, so it is short ([`LINGER`]), comes only behind [a little](LINGER_BYTES),
//! and only while nobody else passes anything on ([`Last`]). Whether looks are worth it is measured: some turns are [tried
//! the other way](TRIES), and what brings the next message sooner is done. So there are none where the answers take long
//! anyway, nor where the peer could not run while we look. Idle connections are never looked at.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::limits::{LINGER, LINGER_BYTES};
use crate::router::ConnectionId;

/// Of so many turns, so many are tried the other way, one after the other.
const TRIES: (u32, u32) = (128, 4);
/// A longer wait for the next message says nothing of looks, and counts as so long.
const LONGEST: Duration = LINGER.saturating_mul(4);
/// A new wait counts as one of so many.
const MEMORY: u32 = 8;

/// Whether to look, for one meeting.
#[derive(Debug, Default)]
pub struct Linger {
    /// Bytes passed on up to the last turn.
    passed: u64,
    turns: u32,
    /// The last turn: when it was, and whether there was a look.
    last: Option<(Instant, bool)>,
    /// How long the next message takes without a look, and with one.
    waits: [Duration; 2],
}

impl Linger {
    /// Whether a turn is followed by a look, with `passed` bytes passed on in all; `alone` is asked only after one in which
    /// something was, and `now` if it was.
    pub fn is_due(&mut self, passed: u64, alone: impl FnOnce() -> bool, now: impl FnOnce() -> Instant) -> bool {
        let bytes = passed - std::mem::replace(&mut self.passed, passed);
        if bytes == 0 {
            return false;
        }
        if !alone() || bytes > LINGER_BYTES {
            self.last = None;
            return false;
        }
        let now = now();
        if let Some((last, looked)) = self.last {
            let wait = &mut self.waits[usize::from(looked)];
            *wait = (*wait * (MEMORY - 1) + (now - last).min(LONGEST)) / MEMORY;
        }
        self.turns = (self.turns + 1) % TRIES.0;
        let [without, with] = self.waits;
        // A look has to be worth its price, too.
        let is_due = (with < without - without / 8) != (self.turns < TRIES.1);
        self.last = Some((now, is_due));
        is_due
    }
}

/// Whose meeting passed something on last, of all of this server.
#[derive(Debug, Default)]
pub struct Last(AtomicU64);

impl Last {
    /// It is this one now; whether it was before.
    pub fn was(&self, id: ConnectionId) -> bool {
        self.0.load(Ordering::Relaxed) == id.number() || {
            self.0.store(id.number(), Ordering::Relaxed);
            false
        }
    }
}

/// Waits for a short while, without sleeping, until there is something to read; if there is not, that is no matter.
/// Whoever else wants this processor has it in between: it may be the peer.
pub fn look(sockets: [BorrowedFd<'_>; 2]) {
    let mut sockets = sockets.map(|socket| PollFd::from_borrowed_fd(socket, PollFlags::IN));
    let begin = Instant::now();
    while matches!(poll(&mut sockets, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(0)) && begin.elapsed() < LINGER {
        std::thread::yield_now();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    const SMALL: u64 = 70;

    /// How many looks there are in so many turns, where the next message takes so long without one, and with one.
    fn looks(linger: &mut Linger, turns: u64, [without, with]: [u64; 2]) -> u64 {
        let (mut now, mut looks) = (Instant::now(), 0);
        for _ in 0..turns {
            let looked = linger.is_due(linger.passed + SMALL, || true, || now);
            looks += u64::from(looked);
            now += Duration::from_micros(if looked { with } else { without });
        }
        looks
    }

    #[test]
    fn there_are_looks_where_they_bring_the_answer_sooner() {
        let tries = 4 * 1_280 / 128;
        for (waits, most) in [([60, 20], false), ([60, 59], true), ([20, 60], true), ([90_000, 90_000], true)] {
            let mut linger = Linger::default();
            looks(&mut linger, 1_000, waits);
            let looks = looks(&mut linger, 1_280, waits);
            assert_eq!(looks, if most { tries } else { 1_280 - tries }, "{waits:?}");
        }
    }

    #[test]
    fn what_is_done_changes_with_the_times() {
        let mut linger = Linger::default();
        for _ in 0..3 {
            assert!(looks(&mut linger, 2_000, [60, 20]) > 1_000);
            assert!(looks(&mut linger, 2_000, [20, 60]) < 1_000);
        }
    }

    #[test]
    fn there_is_a_look_behind_a_little_alone() {
        let mut linger = Linger::default();
        looks(&mut linger, 1_000, [60, 20]);
        let now = Instant::now;
        for _ in 0..200 {
            assert!(!linger.is_due(linger.passed, || true, now), "nothing was passed on");
            assert!(!linger.is_due(linger.passed + SMALL, || false, now), "others pass on, too");
            assert!(!linger.is_due(linger.passed + LINGER_BYTES + 1, || true, now), "it was much");
        }
        assert!(looks(&mut linger, 10, [60, 20]) > 5);
    }

    #[test]
    fn only_who_passes_on_again_is_alone() {
        let last = Last::default();
        let [one, other] = [ConnectionId::test(1), ConnectionId::test(2)];
        assert_eq!([one, one, other, one, one].map(|id| last.was(id)), [false, true, false, false, true]);
    }

    #[test]
    fn a_look_ends_when_there_is_something_or_the_time_is_over() {
        let ((ours, mut theirs), (idle, _peer)) = (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
        let begin = Instant::now();
        look([ours.as_fd(), idle.as_fd()]);
        assert!(begin.elapsed() >= LINGER);
        theirs.write_all(b"!").unwrap();
        for both in [[ours.as_fd(), idle.as_fd()], [idle.as_fd(), ours.as_fd()]] {
            // One may be late because this thread was.
            let soon = (0..100).any(|_| {
                let begin = Instant::now();
                look(both);
                begin.elapsed() < LINGER
            });
            assert!(soon);
        }
    }
}
