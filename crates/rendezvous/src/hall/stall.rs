//! Whether one who keeps others waiting moves at all. Pure.
//!
//! In flow whether it keeps others waiting, the bytes that it moved, and the time; out flows when its time is up. Some
//! bytes now and then are not enough: within a time it has to move [`STALL_BYTES`], or to stop being in the way.

use std::time::{Duration, Instant};

use crate::limits::STALL_BYTES;

/// The patience with one peer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stall {
    since: Option<Instant>,
    moved: usize,
}

impl Stall {
    /// It moved `bytes`.
    pub fn moved(&mut self, bytes: usize) {
        self.moved = self.moved.saturating_add(bytes);
    }

    /// Whether it keeps others waiting at `now`: when its time is up, then, after `patience`.
    pub fn poll(&mut self, blocks: bool, patience: Duration, now: Instant) -> Option<Instant> {
        if !blocks {
            *self = Self::default();
            return None;
        }
        match self.since {
            Some(since) if self.moved < STALL_BYTES => Some(since + patience),
            _ => {
                *self = Self { since: Some(now), moved: 0 };
                Some(now + patience)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::STALL;

    #[test]
    fn only_one_who_blocks_and_hardly_moves_runs_out_of_time() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut stall = Stall::default();
        assert_eq!(stall.poll(false, STALL, at(0)), None);
        assert_eq!(stall.poll(true, STALL, at(1)), Some(at(11)));
        stall.moved(STALL_BYTES - 1);
        assert_eq!(stall.poll(true, STALL, at(9)), Some(at(11)));
        stall.moved(1);
        assert_eq!(stall.poll(true, STALL, at(10)), Some(at(20)), "it moves");
        assert_eq!(stall.poll(false, STALL, at(15)), None);
        assert_eq!(stall.poll(true, STALL, at(16)), Some(at(26)), "it was out of the way meanwhile");
    }
}
