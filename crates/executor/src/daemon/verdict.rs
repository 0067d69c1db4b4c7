//! What to do after an attempt: try again and when, or give up. The pure core of the daemon.
//!
//! In flow outcomes of attempts and random numbers, out flow decisions. Before the first registration that worked a
//! refusal may be a mistake of whoever set it up, and ends the daemon; afterwards nothing does. It knows no clock and no
//! socket.

use std::time::Duration;

use exedra_link::dial::backoff::Backoff;
use exedra_link::error::Class;

/// How often a refused token is tried again before the first success.
pub const AUTH_RETRIES: u32 = 5;
/// The pause after a connection that ended in good order before its client had opened a session: clients do vanish that
/// early, but a rendezvous that closes every connection must not make us spin.
const UNOPENED_PAUSE: Duration = Duration::from_millis(50);
/// The same, after [`UNOPENED_LIMIT`] of them in a row.
const UNOPENED_LONG_PAUSE: Duration = Duration::from_secs(1);
/// So many short connections without a session may be clients; more are a rendezvous that does not work.
const UNOPENED_LIMIT: u32 = 20;
/// A connection that lasted this long was waiting for its client, which is all that it is for.
const UNOPENED_SHORT: Duration = Duration::from_millis(500);
/// Longest pause that a registry can ask for.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// The pauses between attempts; tests make them short.
#[derive(Clone, Debug)]
pub struct Pauses {
    /// After failures that pass.
    pub passing: Backoff,
    /// After refusals that somebody has to mend.
    pub refused: Backoff,
    /// A connection that lasted this long has worked.
    pub stable: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        Self { passing: Backoff::new(), refused: Backoff::slow(), stable: Duration::from_secs(60) }
    }
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The registration failed.
    Unregistered {
        /// What kind of failure.
        class: Class,
        /// When the registry wants us back.
        retry_after: Option<Duration>,
    },
    /// Registered, but the rendezvous could not be reached, or refused.
    Undialled {
        /// When the rendezvous wants us back.
        retry_after: Option<Duration>,
    },
    /// A connection was served.
    Served {
        /// Whether a client opened or resumed a session.
        opened: bool,
        /// How long it lasted.
        lasted: Duration,
        /// How it ended.
        ending: Ending,
    },
}

/// How a connection that was served ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The client was done: the next one may be waiting.
    GoodOrder,
    /// A newer instance of this executor took the place.
    Replaced,
    /// Anything else.
    Other,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Begin the next attempt after this pause.
    Retry(Duration),
    /// Give up.
    GiveUp(Reason),
}

/// Why a daemon gives up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The registry refuses the token.
    Auth,
    /// The registry refuses the registration.
    Refused,
    /// The configuration is wrong.
    Config,
}

/// Remembers what the attempts so far came to.
#[derive(Clone, Debug)]
pub struct Judge {
    pauses: Pauses,
    registered: bool,
    refusals: u32,
    /// Short connections in a row that ended in good order without a session.
    unopened: u32,
}

impl Judge {
    /// Before the first attempt.
    pub fn new(pauses: Pauses) -> Self {
        Self { pauses, registered: false, refusals: 0, unopened: 0 }
    }

    /// Judges an attempt; `random` is from 0 to 1.
    pub fn decide(&mut self, outcome: Outcome, random: f64) -> Decision {
        match outcome {
            Outcome::Unregistered { class, retry_after } => self.unregistered(class, retry_after, random),
            Outcome::Undialled { retry_after } => {
                self.was_registered();
                self.pause(random, retry_after)
            }
            Outcome::Served { opened, lasted, ending } => {
                self.was_registered();
                let in_good_order = ending == Ending::GoodOrder;
                let worked = in_good_order || lasted >= self.pauses.stable || opened;
                // Two instances with one name must not chase each other every second.
                if worked && ending != Ending::Replaced {
                    self.pauses.passing.reset();
                }
                if in_good_order { Decision::Retry(self.next_client(opened, lasted)) } else { self.pause(random, None) }
            }
        }
    }

    /// Judges a join token that was not traded. That is before any registration, and asking again for what was refused gives
    /// the same answer.
    pub fn unjoined(&mut self, class: Class, retry_after: Option<Duration>, random: f64) -> Decision {
        match class {
            Class::Retry => self.pause(random, retry_after),
            Class::Auth => Decision::GiveUp(Reason::Auth),
            Class::Refused => Decision::GiveUp(Reason::Refused),
            Class::Config => Decision::GiveUp(Reason::Config),
        }
    }

    /// The join token was traded.
    pub fn joined(&mut self) {
        self.pauses.passing.reset();
    }

    /// The pause before the next client.
    fn next_client(&mut self, opened: bool, lasted: Duration) -> Duration {
        if opened || lasted >= UNOPENED_SHORT {
            self.unopened = 0;
            return Duration::ZERO;
        }
        self.unopened = self.unopened.saturating_add(1);
        if self.unopened > UNOPENED_LIMIT { UNOPENED_LONG_PAUSE } else { UNOPENED_PAUSE }
    }

    fn unregistered(&mut self, class: Class, retry_after: Option<Duration>, random: f64) -> Decision {
        match class {
            Class::Retry => self.pause(random, retry_after),
            Class::Auth | Class::Refused | Class::Config if self.registered => {
                Decision::Retry(self.pauses.refused.next(random, capped(retry_after)))
            }
            Class::Auth if self.refusals < AUTH_RETRIES => {
                self.refusals += 1;
                self.pause(random, retry_after)
            }
            Class::Auth => Decision::GiveUp(Reason::Auth),
            Class::Refused => Decision::GiveUp(Reason::Refused),
            Class::Config => Decision::GiveUp(Reason::Config),
        }
    }

    fn was_registered(&mut self) {
        self.registered = true;
        self.pauses.refused.reset();
    }

    fn pause(&mut self, random: f64, retry_after: Option<Duration>) -> Decision {
        Decision::Retry(self.pauses.passing.next(random, capped(retry_after)))
    }
}

fn capped(retry_after: Option<Duration>) -> Option<Duration> {
    retry_after.map(|wish| wish.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(5);

    fn judge() -> Judge {
        Judge::new(Pauses::default())
    }

    fn failed(class: Class) -> Outcome {
        Outcome::Unregistered { class, retry_after: None }
    }

    fn served(opened: bool, lasted: Duration, ending: Ending) -> Outcome {
        Outcome::Served { opened, lasted, ending }
    }

    fn secs(judge: &mut Judge, outcome: Outcome) -> f64 {
        match judge.decide(outcome, 0.0) {
            Decision::Retry(pause) => pause.as_secs_f64(),
            Decision::GiveUp(reason) => panic!("gave up: {reason:?}"),
        }
    }

    #[test]
    fn passing_failures_are_retried_for_ever() {
        let mut judge = judge();
        let pauses: Vec<f64> = (0..8).map(|_| secs(&mut judge, failed(Class::Retry))).collect();
        assert_eq!(pauses, [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]);
        assert_eq!(secs(&mut judge, Outcome::Undialled { retry_after: None }), 30.0);
    }

    #[test]
    fn the_registrys_wish_is_honoured_up_to_five_minutes() {
        let wish = |s| Outcome::Unregistered { class: Class::Retry, retry_after: Some(Duration::from_secs(s)) };
        assert_eq!(secs(&mut judge(), wish(77)), 77.0);
        assert_eq!(secs(&mut judge(), wish(86_400)), 300.0);
        assert_eq!(secs(&mut judge(), Outcome::Undialled { retry_after: Some(Duration::from_secs(9)) }), 9.0);
    }

    #[test]
    fn a_refused_token_is_tried_five_times_more_before_the_first_success() {
        let mut judge = judge();
        for _ in 0..AUTH_RETRIES {
            secs(&mut judge, failed(Class::Retry));
            secs(&mut judge, failed(Class::Auth));
        }
        assert_eq!(judge.decide(failed(Class::Auth), 0.0), Decision::GiveUp(Reason::Auth));
    }

    #[test]
    fn other_refusals_end_it_at_once_before_the_first_success() {
        assert_eq!(judge().decide(failed(Class::Refused), 0.5), Decision::GiveUp(Reason::Refused));
        assert_eq!(judge().decide(failed(Class::Config), 0.5), Decision::GiveUp(Reason::Config));
    }

    #[test]
    fn a_join_token_is_offered_again_unless_it_was_refused() {
        let mut judge = judge();
        for pause in [1, 2, 4] {
            let pause = Decision::Retry(Duration::from_secs(pause));
            assert_eq!(judge.unjoined(Class::Retry, None, 0.0), pause);
        }
        let wish = Some(Duration::from_secs(9));
        assert_eq!(judge.unjoined(Class::Retry, wish, 0.0), Decision::Retry(Duration::from_secs(9)));
        judge.joined();
        assert_eq!(judge.unjoined(Class::Retry, None, 0.0), Decision::Retry(Duration::from_secs(1)));
        for (class, reason) in
            [(Class::Auth, Reason::Auth), (Class::Refused, Reason::Refused), (Class::Config, Reason::Config)]
        {
            assert_eq!(judge.unjoined(class, wish, 0.0), Decision::GiveUp(reason));
        }
    }

    #[test]
    fn nothing_ends_it_after_the_first_success() {
        let mut judge = judge();
        secs(&mut judge, Outcome::Undialled { retry_after: None });
        let refused = [Class::Auth, Class::Refused].into_iter().cycle();
        let pauses: Vec<f64> = refused.take(9).map(|class| secs(&mut judge, failed(class))).collect();
        assert_eq!(pauses, [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0, 300.0]);
        secs(&mut judge, Outcome::Undialled { retry_after: None });
        assert_eq!(secs(&mut judge, failed(Class::Auth)), 5.0);
    }

    #[test]
    fn a_client_that_was_done_is_followed_by_the_next_at_once() {
        let mut judge = judge();
        for _ in 0..4 {
            secs(&mut judge, failed(Class::Retry));
        }
        assert_eq!(secs(&mut judge, served(true, SHORT, Ending::GoodOrder)), 0.0);
        assert_eq!(secs(&mut judge, failed(Class::Retry)), 1.0);
    }

    #[test]
    fn a_good_order_without_a_session_is_no_hot_loop_and_no_outage() {
        let mut judge = judge();
        let silent = served(false, SHORT, Ending::GoodOrder);
        let pauses: Vec<f64> = (0..30).map(|_| secs(&mut judge, silent)).collect();
        assert!(pauses[..20].iter().all(|pause| *pause == 0.05));
        assert!(pauses[20..].iter().all(|pause| *pause == 1.0));
        let waited_for_a_client = served(false, UNOPENED_SHORT, Ending::GoodOrder);
        assert_eq!(secs(&mut judge, waited_for_a_client), 0.0);
        assert_eq!(secs(&mut judge, silent), 0.05);
        assert_eq!(secs(&mut judge, failed(Class::Retry)), 1.0);
    }

    #[test]
    fn a_connection_that_worked_begins_anew() {
        let lasting = Duration::from_secs(60);
        for worked in [served(true, SHORT, Ending::Other), served(false, lasting, Ending::Other)] {
            let mut judge = judge();
            for _ in 0..4 {
                secs(&mut judge, failed(Class::Retry));
            }
            assert_eq!(secs(&mut judge, worked), 1.0);
        }
        let mut judge = judge();
        secs(&mut judge, failed(Class::Retry));
        assert_eq!(secs(&mut judge, served(false, SHORT, Ending::Other)), 2.0);
        assert_eq!(secs(&mut judge, served(true, SHORT, Ending::Replaced)), 4.0);
    }

    #[test]
    fn jitter_only_shortens() {
        assert_eq!(judge().decide(failed(Class::Retry), 1.0), Decision::Retry(Duration::from_millis(500)));
    }
}
