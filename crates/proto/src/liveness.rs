//! When to ping a peer and when to give it up, as a pure state machine: times in, decision out.
//!
//! Silence counts only while we read the socket and owe it nothing: a peer that reads slowly is slow, not gone, and
//! then TCP's own view decides (the driver asks the kernel).

use std::time::{Duration, Instant};

/// Time between pings.
pub const PING_INTERVAL: Duration = Duration::from_secs(15);
/// A peer silent for this long is gone.
pub const SILENCE_LIMIT: Duration = Duration::from_secs(45);

/// Watches one peer.
#[derive(Clone, Debug)]
pub struct Liveness {
    last_heard: Instant,
    last_ping: Instant,
    ping_interval: Duration,
    silence_limit: Duration,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing before that time.
    WaitUntil(Instant),
    /// Send a ping, then ask again.
    Ping,
    /// Give the peer up.
    Gone,
}

impl Liveness {
    /// Starts watching with [`PING_INTERVAL`] and [`SILENCE_LIMIT`].
    pub fn new(now: Instant) -> Self {
        Self::with_times(now, PING_INTERVAL, SILENCE_LIMIT)
    }

    /// Starts watching with other times.
    pub fn with_times(now: Instant, ping_interval: Duration, silence_limit: Duration) -> Self {
        Self { last_heard: now, last_ping: now, ping_interval, silence_limit }
    }

    /// Any bytes arrived from the peer.
    pub fn heard(&mut self, now: Instant) {
        self.last_heard = now;
    }

    /// Silence does not count at the moment: we are not reading, or bytes of ours wait to be taken.
    pub fn excuse(&mut self, now: Instant) {
        self.last_heard = now;
    }

    /// Asks what to do; a [`Verdict::Ping`] counts as sent.
    pub fn poll(&mut self, now: Instant) -> Verdict {
        if now.saturating_duration_since(self.last_heard) >= self.silence_limit {
            return Verdict::Gone;
        }
        if now.saturating_duration_since(self.last_ping) >= self.ping_interval {
            self.last_ping = now;
            return Verdict::Ping;
        }
        Verdict::WaitUntil((self.last_ping + self.ping_interval).min(self.last_heard + self.silence_limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pings_every_15_s_and_gives_up_after_45() {
        let start = Instant::now();
        let at = |s: u64| start + Duration::from_secs(s);
        let mut live = Liveness::new(start);
        assert_eq!(live.poll(at(14)), Verdict::WaitUntil(at(15)));
        assert_eq!(live.poll(at(15)), Verdict::Ping);
        live.heard(at(16));
        assert_eq!(live.poll(at(30)), Verdict::Ping);
        assert_eq!(live.poll(at(31)), Verdict::WaitUntil(at(45)));
        assert_eq!(live.poll(at(60)), Verdict::Ping);
        assert_eq!(live.poll(at(61)), Verdict::Gone);
    }

    #[test]
    fn an_excused_peer_stays() {
        let start = Instant::now();
        let mut live = Liveness::new(start);
        for s in (5..600).step_by(5) {
            live.excuse(start + Duration::from_secs(s));
            assert_ne!(live.poll(start + Duration::from_secs(s)), Verdict::Gone);
        }
    }
}
