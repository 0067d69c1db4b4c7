//! What is fair where all places are taken, and how often something may begin. Pure.
//!
//! In flow how many places there are and who holds how many, out flows whether one may have a place of another's. Who has
//! got one holds no more than its share then, and who has given it up no less; so nobody takes it back, and whatever
//! happens at a limit comes to rest.

use std::time::{Duration, Instant};

/// Whether somebody who holds `own` of `places` that are all taken, by `others` beside it, holds less than its share. Then
/// whoever holds most holds more than that.
pub fn is_below_share(own: usize, places: usize, others: usize) -> bool {
    own < places / (others + 1)
}

/// So many at once, and from then on one in each pause.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// At once.
    pub burst: u32,
    /// Between two.
    pub pause: Duration,
}

/// How much of a rate is used up.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    /// When the next would be due, were there no burst.
    due: Option<Instant>,
}

impl Pace {
    /// Whether one more may begin.
    pub fn has_room(&self, rate: Rate, now: Instant) -> bool {
        self.ahead(now) + rate.pause <= rate.pause * rate.burst
    }

    /// One begins.
    pub fn take(&mut self, rate: Rate, now: Instant) {
        self.due = Some(now + self.ahead(now) + rate.pause);
    }

    /// Whether it is as if none had begun yet.
    pub fn is_unused(&self, now: Instant) -> bool {
        self.ahead(now).is_zero()
    }

    fn ahead(&self, now: Instant) -> Duration {
        self.due.map_or(Duration::ZERO, |due| due.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever each holds and whoever asks how often: it comes to rest, and then nobody who asks holds less than its
        /// share.
        #[test]
        fn whoever_asks_has_its_share_in_the_end_and_then_nothing_moves(
            mut held in proptest::collection::vec(0usize..40, 1..12),
            order in proptest::collection::vec(0usize..12, 1..40),
        ) {
            let places: usize = held.iter().sum();
            let order: Vec<_> = order.iter().map(|at| at % held.len()).collect();
            let mut moves = 0;
            loop {
                let before = moves;
                for at in order.iter().copied() {
                    let others = held.iter().enumerate().filter(|(other, held)| *other != at && **held > 0).count();
                    if is_below_share(held[at], places, others) {
                        let most = (0..held.len()).max_by_key(|at| held[*at]).unwrap();
                        prop_assert!(held[most] > held[at] + 1, "{held:?}");
                        held[most] -= 1;
                        held[at] += 1;
                        moves += 1;
                    }
                }
                prop_assert!(moves <= places);
                if moves == before {
                    break;
                }
            }
            for at in order {
                let others = held.iter().enumerate().filter(|(other, held)| *other != at && **held > 0).count();
                prop_assert!(held[at] >= places / (others + 1), "{held:?}");
            }
        }
    }

    #[test]
    fn a_pace_has_a_burst_and_then_pauses() {
        let rate = Rate { burst: 3, pause: Duration::from_secs(2) };
        let (mut pace, start) = (Pace::default(), Instant::now());
        let mut begun = |seconds| {
            let now = start + Duration::from_secs(seconds);
            let room = pace.has_room(rate, now);
            if room {
                pace.take(rate, now);
            }
            (room, pace.is_unused(now))
        };
        let times = [0, 0, 0, 0, 2, 3, 4, 10];
        let expected = [true, true, true, false, true, false, true, true];
        assert_eq!(times.map(|at| begun(at).0), expected);
        assert!(!begun(11).1);
        assert!(pace.is_unused(start + Duration::from_secs(14)));
    }
}
