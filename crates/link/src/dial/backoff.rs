//! How long to wait before the next attempt, as a pure state machine: a random number in, a pause out.
//!
//! The n-th pause (from 0) is `base = min(first * 2^n, cap)` less up to half of it: `base * (1 - random / 2)`. So pauses
//! grow from 1 s to 30 s, never pass the cap, and a thousand executors of one lost rendezvous spread over half of it.

use std::time::Duration;

/// Counts failed attempts.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
    base: Duration,
}

impl Backoff {
    /// 1 s doubling to 30 s: for failures that pass.
    pub fn new() -> Self {
        Self::with_times(Duration::from_secs(1), Duration::from_secs(30))
    }

    /// 5 s doubling to 5 minutes: for refusals (4xx) after a first success, where only a person can help.
    pub fn slow() -> Self {
        Self::with_times(Duration::from_secs(5), Duration::from_secs(300))
    }

    /// `first` doubling to `cap`.
    pub fn with_times(first: Duration, cap: Duration) -> Self {
        Self { first, cap, base: first.min(cap) }
    }

    /// The pause before the next attempt; `random` is from 0 to 1. It is never shorter than `at_least`, which is the
    /// peer's own wish (`Retry-After`).
    pub fn next(&mut self, random: f64, at_least: Option<Duration>) -> Duration {
        let base = self.base;
        self.base = base.saturating_mul(2).min(self.cap);
        let random = if random.is_nan() { 0.0 } else { random.clamp(0.0, 1.0) };
        let pause = base.mul_f64(1.0 - random / 2.0);
        pause.max(at_least.unwrap_or(Duration::ZERO))
    }

    /// An attempt worked: begin anew.
    pub fn reset(&mut self) {
        self.base = self.first.min(self.cap);
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pauses(mut backoff: Backoff, random: f64, count: usize) -> Vec<f64> {
        (0..count).map(|_| backoff.next(random, None).as_secs_f64()).collect()
    }

    #[test]
    fn doubles_to_the_cap_and_jitter_only_shortens() {
        assert_eq!(pauses(Backoff::new(), 0.0, 7), [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]);
        assert_eq!(pauses(Backoff::new(), 1.0, 7), [0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0]);
        assert_eq!(pauses(Backoff::slow(), 0.0, 8), [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0]);
    }

    #[test]
    fn a_reset_begins_anew() {
        let mut backoff = Backoff::new();
        backoff.next(0.0, None);
        backoff.next(0.0, None);
        backoff.reset();
        assert_eq!(backoff.next(0.0, None), Duration::from_secs(1));
    }

    #[test]
    fn the_peers_wish_counts_when_it_is_longer() {
        let mut backoff = Backoff::new();
        assert_eq!(backoff.next(0.0, Some(Duration::from_secs(7))), Duration::from_secs(7));
        assert_eq!(backoff.next(0.0, Some(Duration::from_millis(1))), Duration::from_secs(2));
        assert_eq!(backoff.next(f64::NAN, None).as_secs(), 4);
    }
}
