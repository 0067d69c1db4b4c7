//! The wall clock, as something that is passed in.
//!
//! Seconds since 1970 flow out. Whatever stamps a record, a ticket or a key asks here, so that tests move the time
//! instead of waiting for it; pure parts get the time as a parameter and do not know this trait.

use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Tells the time.
pub trait Clock: Send + Sync + 'static {
    /// Seconds since 1970.
    fn now(&self) -> u64;

    /// Time since some moment, the same for as long as the process lives, that never goes back when the wall clock does.
    fn steady(&self) -> Duration {
        Duration::from_secs(self.now())
    }
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }

    fn steady(&self) -> Duration {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        START.elapsed()
    }
}
