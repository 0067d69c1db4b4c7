//! How long to go on trying to reach an executor: a pure state machine.
//!
//! In flow the budget, the time and what became of each attempt, out flow the pause before the next, or none when the
//! budget is used up. Knows nothing of what an attempt is.

use std::time::{Duration, Instant};

use exedra_proto::registry::MAX_WAIT_MS;

/// The first pause; the next ones double.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A budget of time.
#[derive(Clone, Debug)]
pub(crate) struct Patience {
    until: Instant,
    pause: Duration,
}

impl Patience {
    /// A budget that starts now.
    pub(crate) fn new(budget: Duration, now: Instant) -> Self {
        // A budget that the clock cannot express is as good as a year.
        let until = now.checked_add(budget).unwrap_or(now + Duration::from_secs(365 * 86_400));
        Self { until, pause: FIRST_PAUSE }
    }

    /// What is left.
    pub(crate) fn left(&self, now: Instant) -> Duration {
        self.until.saturating_duration_since(now)
    }

    /// How long the registry should wait during the next attempt, in milliseconds: all that is left, since who asks again
    /// is the last in line again.
    pub(crate) fn wait_ms(&self, now: Instant) -> u64 {
        u64::try_from(self.left(now).as_millis()).unwrap_or(MAX_WAIT_MS).min(MAX_WAIT_MS)
    }

    /// The pause after a failure that may pass; none if there is no time for another attempt.
    pub(crate) fn pause(&mut self, asked_for: Option<Duration>, now: Instant) -> Option<Duration> {
        let left = self.left(now);
        let pause = self.pause.min(left).max(asked_for.unwrap_or_default());
        self.pause = self.pause.saturating_mul(2).min(LONGEST_PAUSE);
        (!left.is_zero() && pause <= left).then_some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn pauses_double_and_end_with_the_budget() {
        let start = Instant::now();
        let mut patience = Patience::new(1000 * MS, start);
        assert_eq!(patience.pause(None, start), Some(50 * MS));
        assert_eq!(patience.pause(None, start), Some(100 * MS));
        assert_eq!(patience.pause(None, start + 950 * MS), Some(50 * MS));
        assert_eq!(patience.pause(None, start + 1000 * MS), None);
    }

    #[test]
    fn no_budget_means_one_attempt_that_does_not_wait() {
        let start = Instant::now();
        let mut patience = Patience::new(Duration::ZERO, start);
        assert_eq!(patience.wait_ms(start), 0);
        assert_eq!(patience.pause(None, start), None);
    }

    #[test]
    fn the_registry_waits_for_all_that_is_left() {
        let start = Instant::now();
        let patience = Patience::new(10_000 * MS, start);
        assert_eq!(patience.wait_ms(start), 10_000);
        assert_eq!(patience.wait_ms(start + 2_000 * MS), 8_000);
        assert_eq!(Patience::new(Duration::MAX, start).wait_ms(start), MAX_WAIT_MS);
    }

    #[test]
    fn a_peer_that_asks_for_more_time_than_there_is_ends_it() {
        let start = Instant::now();
        let mut patience = Patience::new(1000 * MS, start);
        assert_eq!(patience.pause(Some(300 * MS), start), Some(300 * MS));
        assert_eq!(patience.pause(Some(5000 * MS), start), None);
    }
}
