//! The tracker's tasks: waking, time-outs, guards, and the other side called without the lock.

use super::*;
use crate::clock::SystemClock;
use exedra_proto::close::CloseReason;
use exedra_proto::ids::TokenId;
use exedra_proto::registry::Transport;
use std::sync::Weak;

const LONG: Duration = Duration::from_secs(30);

fn tracker(reservation: Duration) -> Arc<Tracker> {
    let tracker = Arc::new(Tracker::new(Arc::new(SystemClock), reservation));
    tracker.learn(&executor(), slot("r", 1));
    tracker
}

fn slot(registration: &str, epoch: u64) -> Slot {
    Slot { registration: id(registration), epoch, transport: Transport::Direct, told: false }
}

fn executor() -> ExecutorId {
    ExecutorId::parse("box").unwrap()
}

fn id(registration: &str) -> RegistrationId {
    RegistrationId::new(registration)
}

#[tokio::test]
async fn without_patience_the_answer_comes_at_once() {
    let tracker = tracker(LONG);
    let refused = tracker.acquire(&executor(), Duration::ZERO).await.err();
    assert_eq!(refused, Some(Refused::Unavailable(Wait::Away { last_seen: None })));
    tracker.online(&id("r"), 1);
    tracker.acquire(&executor(), Duration::ZERO).await.unwrap().keep();
    let refused = tracker.acquire(&executor(), Duration::ZERO).await.err();
    assert!(matches!(refused, Some(Refused::Unavailable(Wait::Held { .. }))), "{refused:?}");
}

#[tokio::test]
async fn a_waiting_client_is_woken() {
    let tracker = tracker(LONG);
    let name = executor();
    let waiting = tracker.acquire(&name, LONG);
    let (grant, ()) = tokio::join!(waiting, async { tracker.online(&id("r"), 1) });
    assert_eq!(grant.unwrap().slot().epoch, 1);
}

#[tokio::test]
async fn a_grant_that_is_dropped_goes_to_the_next() {
    let tracker = tracker(LONG);
    let name = executor();
    tracker.online(&id("r"), 1);
    let first = tracker.acquire(&name, LONG).await.unwrap();
    let (second, ()) = tokio::join!(tracker.acquire(&name, LONG), async { drop(first) });
    second.unwrap();
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_the_line() {
    let tracker = tracker(LONG);
    let name = executor();
    let mut first = Box::pin(tracker.acquire(&name, LONG));
    assert!(futures_util::poll!(&mut first).is_pending());
    let mut second = Box::pin(tracker.acquire(&name, LONG));
    assert!(futures_util::poll!(&mut second).is_pending());
    drop(first);
    tracker.online(&id("r"), 1);
    let grant = second.await.unwrap();
    assert_eq!(tracker.waiting(), 1);
    grant.keep();
    assert_eq!(tracker.waiting(), 0);
}

#[tokio::test]
async fn a_reservation_lapses_while_somebody_waits() {
    let tracker = tracker(Duration::from_millis(30));
    let name = executor();
    tracker.online(&id("r"), 1);
    tracker.acquire(&name, LONG).await.unwrap().keep();
    tracker.acquire(&name, LONG).await.unwrap();
}

#[tokio::test]
async fn a_drain_answers_those_who_wait_and_those_who_come() {
    let tracker = tracker(LONG);
    let name = executor();
    let (refused, ()) = tokio::join!(tracker.acquire(&name, LONG), async { tracker.drain() });
    assert_eq!(refused.err(), Some(Refused::Draining));
    assert_eq!(tracker.acquire(&name, LONG).await.err(), Some(Refused::Draining));
    assert!(tracker.is_draining());
}

/// A rendezvous that answers an order with a report, before it returns.
struct Echo(Weak<Tracker>);

impl Cutoff for Echo {
    fn registration(&self, registration: &RegistrationId, _: CloseReason) {
        self.0.upgrade().unwrap().offline(registration, 0);
    }

    fn token(&self, _: &TokenId, _: CloseReason) {}

    fn key(&self, _: &str, _: CloseReason) {}
}

#[tokio::test]
async fn the_other_side_may_report_while_it_is_told() {
    let tracker = tracker(LONG);
    tracker.set_cutoff(Some(Arc::new(Echo(Arc::downgrade(&tracker)))));
    tracker.learn(&executor(), slot("s", 2));
    tracker.online(&id("r"), 1);
    tracker.online(&id("s"), 2);
    let grant = tracker.acquire(&executor(), Duration::ZERO).await.unwrap();
    assert_eq!(grant.slot().registration, id("s"));
}

#[tokio::test]
async fn names_that_are_taken_all_the_time_take_no_memory_for_it() {
    let tracker = tracker(LONG);
    tracker.online(&id("r"), 1);
    for epoch in 2..3_000 {
        let registration = format!("r{epoch}");
        tracker.learn(&executor(), slot(&registration, epoch));
        tracker.online(&id(&registration), epoch);
    }
    let contests = tracker.take_contests();
    assert_eq!((contests.len(), contests[0].older.as_str()), (CONTESTS, "r"));
}
