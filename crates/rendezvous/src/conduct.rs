//! What it costs to have kept others waiting, by executor and token: less patience, less room, and a time outside. Pure.
//!
//! In flows how long somebody was waited for in vain, and the time; out flow how long the next of that token is waited for,
//! how much may wait for it, and whether it may come in at all. What was lost is made good in ten times as long; so whoever
//! does it again and again costs the others its patience once, and from then on a tenth of their time. It counts by token,
//! since that is what is given out and can be taken away: an address is changed easily, or is that of many.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use exedra_proto::ids::{RegistrationId, TokenId};

use crate::limits::{CLIENT_QUEUE, MAX_STANDINGS};

/// In how many times as long what was lost is made good.
const REPAIR: u32 = 10;
/// The part of the usual patience that there has to be for one who comes in.
const COMING: u32 = 8;
/// The part of it that is left for one who is there already.
const LEAST: u32 = 40;

/// How a token stands at an executor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// What the others lost, and when that was the sum.
    lost: Option<(Duration, Instant)>,
}

impl Standing {
    /// It was waited for in vain for so long, where `usual` is the usual patience.
    pub fn stalled(&mut self, waited: Duration, usual: Duration, now: Instant) {
        self.lost = Some(((self.lost_at(now) + waited).min(usual), now));
    }

    /// How long it is waited for.
    pub fn patience(&self, usual: Duration, now: Instant) -> Duration {
        usual.saturating_sub(self.lost_at(now)).max(usual / LEAST)
    }

    /// How many bytes may wait for one who comes in now.
    pub fn queue(&self, usual: Duration, now: Instant) -> usize {
        let left = self.patience(usual, now).max(usual / COMING);
        let share = left.as_secs_f64() / usual.as_secs_f64();
        (CLIENT_QUEUE as f64 * share) as usize
    }

    /// Whether one of it may come in.
    pub fn may_come(&self, usual: Duration, now: Instant) -> bool {
        self.patience(usual, now) >= usual / COMING
    }

    fn lost_at(&self, now: Instant) -> Duration {
        let (lost, at) = self.lost.unwrap_or((Duration::ZERO, now));
        lost.saturating_sub(now.saturating_duration_since(at) / REPAIR)
    }
}

/// How all stand of whom there is anything to say.
#[derive(Debug, Default)]
pub struct Conduct {
    standings: BTreeMap<(RegistrationId, TokenId), Standing>,
}

impl Conduct {
    /// How this token stands at the executor of this registration.
    pub fn standing(&self, registration: &RegistrationId, token: &TokenId) -> Standing {
        self.standings.get(&(registration.clone(), token.clone())).copied().unwrap_or_default()
    }

    /// A client of this token was waited for in vain: how it stands now.
    pub fn stalled(
        &mut self,
        (registration, token): (&RegistrationId, &TokenId),
        waited: Duration,
        usual: Duration,
        now: Instant,
    ) -> Standing {
        let mut standing = self.standing(registration, token);
        standing.stalled(waited, usual, now);
        if self.standings.len() >= MAX_STANDINGS {
            self.standings.retain(|_, standing| !standing.lost_at(now).is_zero());
        }
        if self.standings.len() >= MAX_STANDINGS {
            let mildest = self.standings.iter().min_by_key(|(_, standing)| standing.lost_at(now));
            if let Some(mildest) = mildest.map(|(key, _)| key.clone()) {
                self.standings.remove(&mildest);
            }
        }
        self.standings.insert((registration.clone(), token.clone()), standing);
        standing
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::STALL;

    #[test]
    fn whoever_does_it_again_and_again_costs_the_others_a_tenth_of_their_time() {
        let (start, mut standing) = (Instant::now(), Standing::default());
        let (mut now, mut lost) = (start, Vec::new());
        for _ in 0..20 {
            while !standing.may_come(STALL, now) {
                now += Duration::from_millis(100);
            }
            let waited = standing.patience(STALL, now);
            now += waited;
            standing.stalled(waited, STALL, now);
            lost.push(waited);
        }
        assert_eq!(lost[0], STALL);
        assert!(lost[1..].iter().all(|waited| *waited <= STALL / 7), "{lost:?}");
        let all = lost.iter().sum::<Duration>();
        assert!(all <= STALL + (now - start) / 10, "{all:?} of {:?}", now - start);
    }

    #[test]
    fn it_is_forgotten_in_ten_times_as_long_and_less_is_left_until_then() {
        let (start, mut standing) = (Instant::now(), Standing::default());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!((standing.patience(STALL, start), standing.queue(STALL, start)), (STALL, CLIENT_QUEUE));
        standing.stalled(STALL, STALL, start);
        assert!(!standing.may_come(STALL, at(12)));
        assert_eq!(standing.patience(STALL, at(1)), STALL / LEAST, "who was there before is waited for hardly at all");
        assert!(standing.may_come(STALL, at(13)));
        assert_eq!(standing.queue(STALL, at(0)), CLIENT_QUEUE / 8);
        assert_eq!((standing.patience(STALL, at(50)), standing.queue(STALL, at(50))), (STALL / 2, CLIENT_QUEUE / 2));
        assert_eq!((standing.patience(STALL, at(100)), standing.queue(STALL, at(100))), (STALL, CLIENT_QUEUE));
        // Many at once are not worse than one: nobody is kept out for longer.
        (0..5).for_each(|_| standing.stalled(STALL, STALL, at(200)));
        assert!(standing.may_come(STALL, at(213)));
    }

    #[test]
    fn it_is_that_token_at_that_executor_and_only_so_many_are_remembered() {
        let (now, mut conduct) = (Instant::now(), Conduct::default());
        let registration = RegistrationId::new;
        let bad = TokenId::new("bad");
        let standing = conduct.stalled((&registration("r"), &bad), STALL, STALL, now);
        assert_eq!(conduct.standing(&registration("r"), &bad), standing);
        assert_eq!(conduct.standing(&registration("s"), &bad), Standing::default());
        assert_eq!(conduct.standing(&registration("r"), &TokenId::new("good")), Standing::default());
        for number in 0..2 * MAX_STANDINGS {
            let token = TokenId::new(number.to_string());
            conduct.stalled((&registration("r"), &token), STALL / 8, STALL, now);
        }
        assert_eq!(conduct.standings.len(), MAX_STANDINGS);
        assert_eq!(conduct.standing(&registration("r"), &bad), standing, "the mildest are forgotten first");
        let later = now + STALL * 10;
        conduct.stalled((&registration("r"), &bad), STALL, STALL, later);
        assert_eq!(conduct.standings.len(), 1);
    }
}
