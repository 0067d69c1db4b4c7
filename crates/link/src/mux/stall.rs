//! How long a stream has kept a socket from being read, and whether that is too long: a leaky bucket of time.
//!
//! In flow the time and whether it blocks, out flows when it will be too much. It fills while the stream blocks, and
//! drains at a tenth of that speed; so one that takes its messages slowly but steadily does not starve the others either.

use std::time::{Duration, Instant};

/// A stream may block for one part in so many, for ever.
const SHARE: u32 = 10;

/// The bucket of one stream.
#[derive(Debug)]
pub(super) struct Stall {
    level: Duration,
    at: Instant,
    blocks: bool,
}

impl Stall {
    pub(super) fn new(now: Instant) -> Self {
        Self { level: Duration::ZERO, at: now, blocks: false }
    }

    /// From now on it blocks, or not.
    pub(super) fn set(&mut self, blocks: bool, now: Instant) {
        self.level = self.level_at(now);
        self.at = now;
        self.blocks = blocks;
    }

    /// When it will have blocked for too long; none while it does not block.
    pub(super) fn deadline(&self, limit: Duration) -> Option<Instant> {
        self.blocks.then(|| self.at + limit.saturating_sub(self.level))
    }

    fn level_at(&self, now: Instant) -> Duration {
        let passed = now.saturating_duration_since(self.at);
        if self.blocks { self.level + passed } else { self.level.saturating_sub(passed / SHARE) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEC: Duration = Duration::from_secs(1);

    #[test]
    fn blocking_at_once_or_too_much_of_the_time_is_too_long() {
        let start = Instant::now();
        let mut stall = Stall::new(start);
        assert_eq!(stall.deadline(10 * SEC), None);
        stall.set(true, start + SEC);
        assert_eq!(stall.deadline(10 * SEC), Some(start + 11 * SEC));
        // Nine seconds of blocking, then ten of none, and again.
        stall.set(false, start + 10 * SEC);
        assert_eq!(stall.deadline(10 * SEC), None);
        stall.set(true, start + 20 * SEC);
        assert_eq!(stall.deadline(10 * SEC), Some(start + 22 * SEC), "one second is forgiven");
        stall.set(false, start + 21 * SEC);
        stall.set(true, start + 121 * SEC);
        assert_eq!(stall.deadline(10 * SEC), Some(start + 131 * SEC), "all is forgiven");
    }
}
