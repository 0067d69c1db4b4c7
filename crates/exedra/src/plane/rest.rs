//! What the server does when a rush is over: it gives back memory that only the rush needed.
//!
//! In flows how much was done so far, at each look; out flow calls of `exedra_host::rest`. Thousands of executors that
//! come at once, as after a restart, need several times the memory that they need when they are there, and the allocator
//! keeps it. Whether it is time is decided without a clock: looks come one after the other.

use std::time::Duration;

use exedra_host::rest::give_back;
use tokio::time::{MissedTickBehavior, interval};

/// Time between two looks: longer than an idle HTTP connection is kept, so that it counts as over what it was there for.
const LOOK: Duration = Duration::from_secs(12);
/// What is worth it: so many connections.
const RUSH: u64 = 64;
/// As much of a connection's worth are so many bytes relayed.
pub const BYTES: u64 = 256 * 1024;
/// So few connections between two looks are no rush any more.
const CALM: u64 = 8;
/// After so many looks without calm it is done in the rush.
const PATIENCE: u32 = 5;

/// Decides when. Pure.
#[derive(Debug, Default)]
struct Rest {
    seen: u64,
    /// Done since memory was given back last.
    owed: u64,
    looks: u32,
}

impl Rest {
    /// A look, when `done` was done so far: whether it is time.
    fn look(&mut self, done: u64) -> bool {
        let news = done.saturating_sub(self.seen);
        self.seen = done;
        self.owed += news;
        if self.owed < RUSH {
            return false;
        }
        self.looks += 1;
        let is_time = news <= CALM || self.looks > PATIENCE;
        if is_time {
            (self.owed, self.looks) = (0, 0);
        }
        is_time
    }
}

/// Rests whenever it is time, for ever.
pub async fn run(done: impl Fn() -> u64) {
    let mut rest = Rest::default();
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        if rest.look(done()) {
            // Some milliseconds, for a large heap.
            let _ = tokio::task::spawn_blocking(give_back).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_time_after_a_rush_and_in_one_that_does_not_end() {
        let mut rest = Rest::default();
        let looks = |rest: &mut Rest, done: &[u64]| done.iter().map(|done| rest.look(*done)).collect::<Vec<_>>();
        assert_eq!(looks(&mut rest, &[0, 5_000, 5_001, 5_002]), [false, false, true, false]);
        assert_eq!(looks(&mut rest, &[5_010, 5_018, 5_026]), [false; 3], "a few are no rush");
        assert_eq!(looks(&mut rest, &[5_034, 5_042, 5_050, 5_058, 5_066]), [false, false, false, false, true]);
        let busy: Vec<u64> = (1..=12).map(|look| 5_066 + look * 1_000).collect();
        let times: Vec<usize> =
            looks(&mut rest, &busy).iter().enumerate().filter(|(_, is)| **is).map(|(at, _)| at).collect();
        assert_eq!(times, [5, 11], "at every sixth look");
    }
}
