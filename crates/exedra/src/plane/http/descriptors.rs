//! How many connections the process has file descriptors for, and when it has run out of them.
//!
//! In flow the system's limit and what came of each attempt to accept, out flow a number of connections and what is
//! worth a line in the log. Accepts nothing itself, and changes no limit.

use rustix::process::{Resource, getrlimit};

/// Descriptors for everything that is no connection: the database, the listener, the runtime, the log.
const RESERVE: u64 = 64;
/// The part of the rest that connections speaking HTTP may take. The others are left to upgraded ones, which stay, and
/// in `exedra up` also to the executor's commands.
const HTTP_SHARE: u64 = 4;
/// The part that websockets may take.
const WEBSOCKET_SHARE: u64 = 2;

/// The descriptors that this process may have open now; `None` if there is no limit.
pub fn limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// How many connections may speak HTTP at a time with that many descriptors: at most `wanted`, at least one.
pub fn connections(descriptors: Option<u64>, wanted: usize) -> usize {
    let Some(descriptors) = descriptors else { return wanted };
    let share = descriptors.saturating_sub(RESERVE) / HTTP_SHARE;
    usize::try_from(share).unwrap_or(usize::MAX).min(wanted).max(1)
}

/// How many websockets there may be with that many descriptors: at most `wanted`, at least two, which make a pair.
pub fn websockets(descriptors: Option<u64>, wanted: usize) -> usize {
    let Some(descriptors) = descriptors else { return wanted };
    let share = descriptors.saturating_sub(RESERVE) / WEBSOCKET_SHARE;
    usize::try_from(share).unwrap_or(usize::MAX).min(wanted).max(2)
}

/// Whether the system lets us accept. It starts out doing so.
#[derive(Debug, Default)]
pub struct Acceptance {
    refused: bool,
}

impl Acceptance {
    /// Notes what came of an attempt; true if it is another than that of the one before.
    pub fn is_new(&mut self, accepted: bool) -> bool {
        std::mem::replace(&mut self.refused, !accepted) == accepted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn websockets_and_http_together_leave_a_quarter() {
        assert_eq!(websockets(None, 16_384), 16_384);
        assert_eq!(websockets(Some(1_024), 16_384), 480);
        assert_eq!(websockets(Some(10), 16_384), 2);
        assert!(websockets(Some(4_096), 16_384) + connections(Some(4_096), 4_096) <= 3 * 4_096 / 4);
    }

    #[test]
    fn connections_leave_descriptors_for_the_rest() {
        assert_eq!(connections(None, 4_096), 4_096);
        assert_eq!(connections(Some(u64::MAX), 4_096), 4_096);
        assert_eq!(connections(Some(1_048_576), 4_096), 4_096);
        assert_eq!(connections(Some(64 + 4 * 4_096), 4_096), 4_096);
        assert_eq!(connections(Some(64 + 4 * 4_096 - 1), 4_096), 4_095);
        assert_eq!(connections(Some(1_024), 4_096), 240);
        for few in [0, 63, 64, 67] {
            assert_eq!(connections(Some(few), 4_096), 1, "{few}: never locked for good");
        }
    }

    #[test]
    fn only_a_change_is_news() {
        let mut acceptance = Acceptance::default();
        let news = [true, true, false, false, false, true, true, false].map(|accepted| acceptance.is_new(accepted));
        assert_eq!(news, [false, false, true, false, false, true, false, true]);
    }
}
