//! What happened to the executors of a load: counted, and with the second in which it was.
//!
//! In flow events, out flow counts, a wait for all, and histograms.

use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio::sync::watch;
use tokio::time::timeout;

/// Longest bar of a histogram, in characters.
const BAR: usize = 50;

/// What can happen to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The registry took it.
    Registered,
    /// The registry did not.
    Unregistered,
    /// The rendezvous took it.
    Online,
    /// The rendezvous did not.
    Undialled,
    /// Its connection ended.
    Lost,
    /// It will not come back.
    GaveUp,
}

/// How many are there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connected now.
    pub online: usize,
    /// Gone for good.
    pub gave_up: usize,
}

/// Where events are noted.
#[derive(Debug)]
pub struct Board {
    counts: watch::Sender<Counts>,
    events: Mutex<Vec<(Instant, Event)>>,
}

impl Default for Board {
    fn default() -> Self {
        Self { counts: watch::Sender::new(Counts::default()), events: Mutex::default() }
    }
}

impl Board {
    /// It happened now.
    pub fn note(&self, event: Event) {
        self.events().push((Instant::now(), event));
        self.counts.send_if_modified(|counts| {
            match event {
                Event::Online => counts.online += 1,
                Event::Lost => counts.online -= 1,
                Event::GaveUp => counts.gave_up += 1,
                Event::Registered | Event::Unregistered | Event::Undialled => return false,
            }
            true
        });
    }

    /// How many are there now.
    pub fn counts(&self) -> Counts {
        *self.counts.borrow()
    }

    /// Waits until it is as `wanted`; how long that took.
    ///
    /// # Errors
    /// It is not within `limit`.
    pub async fn until(&self, wanted: impl FnMut(&Counts) -> bool, limit: Duration) -> Result<Duration> {
        let (begin, mut counts) = (Instant::now(), self.counts.subscribe());
        let Ok(Ok(_)) = timeout(limit, counts.wait_for(wanted)).await else {
            bail!("after {limit:?} there are {:?}", self.counts());
        };
        Ok(begin.elapsed())
    }

    /// How often it happened since then.
    pub fn count(&self, event: Event, since: Instant) -> usize {
        self.events().iter().filter(|(at, what)| *at >= since && *what == event).count()
    }

    /// For each second since then how often it happened, up to the last.
    pub fn per_second(&self, event: Event, since: Instant) -> Vec<usize> {
        let mut seconds = Vec::new();
        for (at, _) in self.events().iter().filter(|(at, what)| *at >= since && *what == event) {
            let second = usize::try_from(at.duration_since(since).as_secs()).unwrap_or(usize::MAX);
            if seconds.len() <= second {
                seconds.resize(second + 1, 0);
            }
            if let Some(count) = seconds.get_mut(second) {
                *count += 1;
            }
        }
        seconds
    }

    fn events(&self) -> MutexGuard<'_, Vec<(Instant, Event)>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lines of a histogram: the second, the number, a bar.
pub fn histogram(seconds: &[usize]) -> String {
    let most = seconds.iter().copied().max().unwrap_or(0).max(1);
    seconds.iter().enumerate().fold(String::new(), |mut text, (second, count)| {
        let bar = "#".repeat((count * BAR).div_ceil(most));
        let _ = writeln!(text, "{}", format!("  {second:>3} s {count:>6} {bar}").trim_end());
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn events_are_counted_and_can_be_waited_for() {
        let (board, begin) = (Board::default(), Instant::now());
        board.note(Event::Registered);
        board.note(Event::Online);
        board.note(Event::Online);
        board.note(Event::Lost);
        board.until(|counts| counts.online == 1, Duration::from_secs(10)).await.unwrap();
        assert_eq!(board.count(Event::Online, begin), 2);
        assert_eq!(board.per_second(Event::Registered, begin), [1]);
        assert!(board.until(|counts| counts.gave_up > 0, Duration::ZERO).await.is_err());
    }

    #[test]
    fn a_bar_is_as_long_as_its_part_of_the_longest() {
        assert_eq!(
            histogram(&[0, 1, 100]),
            format!("    0 s      0\n    1 s      1 #\n    2 s    100 {}\n", "#".repeat(50))
        );
    }
}
