//! Whether connections of one registration take its place from each other again and again: two that use one machine's state, say.
//!
//! In flow replacements with the time as a parameter, out flows whether there were too many of late to be one executor that
//! lost its network. It decides nothing else: which of the two is the right one, nobody can tell.

use std::collections::HashMap;
use std::time::Duration;

use exedra_proto::ids::RegistrationId;

/// So many replacements within [`WINDOW`] are two that take turns. One executor notices that its network is gone after 45 s.
const MANY: u32 = 4;
/// Two executors of ours that take turns come to more than [`MANY`] in this time, also when their pauses have become longest.
const WINDOW: Duration = Duration::from_secs(120);
/// Registrations remembered before those that are quiet are forgotten; each has some 100 bytes.
const REMEMBERED: usize = 1_024;

/// Who was replaced of late.
#[derive(Debug, Default)]
pub struct Turns {
    /// Since when is counted, and how many.
    counted: HashMap<RegistrationId, (Duration, u32)>,
}

impl Turns {
    /// A connection was replaced by another of the same registration. Whether that makes it too many; then it is counted anew.
    pub fn take_turns(&mut self, registration: &RegistrationId, now: Duration) -> bool {
        let is_quiet = |since: Duration| now.saturating_sub(since) >= WINDOW;
        if self.counted.len() >= REMEMBERED {
            self.counted.retain(|_, (since, _)| !is_quiet(*since));
        }
        let (since, count) = self.counted.entry(registration.clone()).or_insert((now, 0));
        if is_quiet(*since) {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        if *count < MANY {
            return false;
        }
        self.counted.remove(registration);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_loses_the_network_now_and_then_takes_no_turns_and_two_do() {
        let mut turns = Turns::default();
        let id = |number: usize| RegistrationId::new(format!("r{number}"));
        for minute in 0..60 {
            assert!(!turns.take_turns(&id(0), Duration::from_secs(45 * minute)));
        }
        for round in 1..10 {
            for second in 1..=MANY {
                let now = Duration::from_secs(10_000 * round + u64::from(second) * 25);
                assert_eq!(turns.take_turns(&id(1), now), second == MANY);
            }
        }
        for number in 0..10 * REMEMBERED {
            turns.take_turns(&id(number), Duration::from_secs(1_000_000 + number as u64));
        }
        assert!(turns.counted.len() <= REMEMBERED);
    }
}
