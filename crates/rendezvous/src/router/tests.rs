//! The router by example, and against a model under random events.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::limits::MAX_CLIENTS;
use crate::piped;
use exedra_proto::introduction::Client;
use exedra_proto::rights::Rights;
use exedra_proto::ticket::Shape;

fn claims(role: Role, registration: &str, token: &str, epoch: u64) -> Claims {
    let (registration, token) = (RegistrationId::new(registration), TokenId::new(token));
    Claims { registration, epoch, token, expires_at: 100, ..piped::claims(role, Shape::Pair) }
}

fn executor(registration: &str, epoch: u64) -> Claims {
    claims(Role::Executor, registration, "tok-e", epoch)
}

fn client(registration: &str, epoch: u64) -> Claims {
    claims(Role::Harness, registration, "tok-c", epoch)
}

fn close(connection: ConnectionId, reason: CloseReason) -> Effect {
    Effect::Close { connection, reason, after: Duration::ZERO }
}

fn online(registration: &str, epoch: u64) -> Effect {
    Effect::Report(Report::Online { registration: RegistrationId::new(registration), epoch, told: false })
}

fn offline(registration: &str, executor: ConnectionId) -> Effect {
    Effect::Report(Report::Offline { registration: RegistrationId::new(registration), executor })
}

fn replaced(registration: &str) -> Effect {
    Effect::Report(Report::Replaced { registration: RegistrationId::new(registration) })
}

/// A router with a pair that is joined.
fn joined() -> (Router, ConnectionId, ConnectionId) {
    let mut router = Router::new(100, Fences::default());
    let e = router.admit(&executor("r", 1), 0).unwrap();
    assert_eq!(router.opened(e), [online("r", 1)]);
    let c = router.admit(&client("r", 1), 0).unwrap();
    let held = Effect::Report(Report::Held { registration: RegistrationId::new("r") });
    assert_eq!(router.opened(c), [Effect::Join { executor: e, client: c }, held]);
    (router, e, c)
}

#[test]
fn a_client_that_may_do_less_than_all_needs_an_executor_that_is_told_so() {
    for shape in [Shape::Pair, Shape::Streams] {
        let of = |claims: Claims| Claims { shape, ..claims };
        let partial = Client { rights: Rights::parse("exec,http,pty").unwrap(), ..Client::default() };
        let partial = Claims { client: partial, ..of(client("r", 1)) };
        let mut router = Router::new(100, Fences::default());
        let e = router.admit(&of(executor("r", 1)), 0).unwrap();
        assert_eq!(router.opened(e), [online("r", 1)]);
        assert_eq!(router.admit(&partial, 0), Err(Rejection::NotTold));
        let c = router.admit(&of(client("r", 1)), 0).unwrap();
        router.will_be_told(c);
        assert!(router.admit(&partial, 0).is_err(), "a client's wish changes nothing");
        router.ended(c, End::Lost);

        let told = router.admit(&of(executor("r", 1)), 0).unwrap();
        router.will_be_told(told);
        let online = Report::Online { registration: RegistrationId::new("r"), epoch: 1, told: true };
        assert!(router.opened(told).contains(&Effect::Report(online)));
        assert!(router.admit(&partial, 0).is_ok());
        let stock = router.admit(&of(executor("r", 1)), 0).unwrap();
        router.opened(stock);
        assert_eq!(router.admit(&partial, 0), Err(Rejection::NotTold), "the newer one did not ask");
    }
}

#[test]
fn whoever_has_all_places_of_an_executor_keeps_no_other_token_out() {
    let many = |role, token| Claims { shape: Shape::Streams, ..claims(role, "r", token, 1) };
    let mut router = Router::new(1_000, Fences::default());
    let e = router.admit(&many(Role::Executor, "tok-e"), 0).unwrap();
    router.opened(e);
    let join = |client| Effect::Join { executor: e, client };
    let mut greedy = Vec::new();
    for _ in 0..MAX_CLIENTS {
        let one = router.admit(&many(Role::Harness, "greedy"), 0).unwrap();
        assert_eq!(router.opened(one), [join(one)]);
        greedy.push(one);
    }
    assert_eq!(router.admit(&many(Role::Harness, "greedy"), 0), Err(Rejection::Overloaded));
    for _ in 0..MAX_CLIENTS / 2 {
        let one = router.admit(&many(Role::Harness, "other"), 0).unwrap();
        let newest = greedy.pop().unwrap();
        assert_eq!(router.opened(one), [join(one), close(newest, CloseReason::GaveWay)]);
        assert_eq!(router.ended(newest, End::Ordered(CloseReason::GaveWay)), []);
        assert_eq!(
            router.admit(&many(Role::Harness, "greedy"), 0),
            Err(Rejection::Overloaded),
            "it does not take it back"
        );
    }
    assert_eq!(router.admit(&many(Role::Harness, "other"), 0), Err(Rejection::Overloaded), "it has its share");
    // A place is given up only to one who comes: this one's upgrade fails.
    let third = router.admit(&many(Role::Harness, "third"), 0).unwrap();
    assert_eq!(router.ended(third, End::Lost), []);
    assert_eq!(router.connections(), 1 + MAX_CLIENTS);
}

#[test]
fn those_on_their_way_to_an_executor_that_is_full_are_no_more_than_their_share() {
    let many = |role, token: &str| Claims { shape: Shape::Streams, ..claims(role, "r", token, 1) };
    let mut router = Router::new(10_000, Fences::default());
    let e = router.admit(&many(Role::Executor, "tok-e"), 0).unwrap();
    router.opened(e);
    for _ in 0..MAX_CLIENTS {
        router.admit(&many(Role::Harness, "greedy"), 0).unwrap();
    }
    let mut coming = Vec::new();
    for number in 0..2 * MAX_CLIENTS {
        let token = number.to_string();
        coming.extend(std::iter::from_fn(|| router.admit(&many(Role::Harness, &token), 0).ok()));
    }
    assert!((MAX_CLIENTS..=6 * MAX_CLIENTS).contains(&coming.len()), "{}", coming.len());
    let mut there = BTreeSet::new();
    for one in coming {
        for effect in router.opened(one) {
            match effect {
                Effect::Join { client, .. } => there.insert(client),
                Effect::Close { connection, reason: CloseReason::GaveWay, .. } => there.remove(&connection),
                other => panic!("{other:?}"),
            };
            assert!(there.len() <= MAX_CLIENTS + 1);
        }
        assert!(there.len() <= MAX_CLIENTS, "{}", there.len());
    }
    assert_eq!(there.len(), MAX_CLIENTS);
}

#[test]
fn a_client_needs_a_free_executor() {
    let mut router = Router::new(100, Fences::default());
    assert_eq!(router.admit(&client("r", 1), 0), Err(Rejection::ExecutorAway));
    let e = router.admit(&executor("r", 1), 0).unwrap();
    assert_eq!(router.admit(&client("r", 1), 0), Err(Rejection::ExecutorAway), "not before it is open");
    router.opened(e);
    assert_eq!(router.admit(&client("s", 1), 0), Err(Rejection::ExecutorAway));
    let c = router.admit(&client("r", 1), 0).unwrap();
    assert_eq!(router.admit(&client("r", 1), 0), Err(Rejection::ExecutorBusy), "the place is kept from the check on");
    assert_eq!(router.ended(c, End::Lost), [], "an upgrade that failed frees it, and the executor stays");
    let c = router.admit(&client("r", 1), 0).unwrap();
    router.opened(c);
    assert_eq!(router.admit(&client("r", 1), 0), Err(Rejection::ExecutorBusy));
}

#[test]
fn the_end_of_one_side_is_told_to_the_other() {
    let lost = CloseReason::PeerLost;
    for (end, to_executor, reason) in [
        (End::Done, CloseReason::PeerDone, CloseReason::PeerDone),
        (End::Lost, lost, lost),
        (End::Silent, lost, lost),
        (End::Broke(CloseReason::TooBig), lost, CloseReason::TooBig),
        (End::Broke(CloseReason::ProtocolError), lost, CloseReason::ProtocolError),
        (End::Ordered(CloseReason::Revoked), lost, CloseReason::Revoked),
        (End::Ordered(CloseReason::GoingAway), CloseReason::GoingAway, CloseReason::GoingAway),
    ] {
        let (mut router, e, c) = joined();
        assert_eq!(router.ended(c, end), [close(e, to_executor), offline("r", e)], "an executor is not to blame");
        assert_eq!(router.ended(e, End::Lost), [], "its end was known");
        assert_eq!(router.connections(), 0);
        let (mut router, e, c) = joined();
        assert_eq!(router.ended(e, end), [close(c, reason), offline("r", e)]);
        assert_eq!(router.ended(e, end), [], "said twice");
        assert_eq!(router.ended(c, End::Lost), []);
    }
}

#[test]
fn a_newer_executor_replaces_the_older_and_its_client_is_told() {
    let (mut router, e, c) = joined();
    let newer = router.admit(&executor("r", 1), 0).unwrap();
    let told = [close(e, CloseReason::Replaced), close(c, CloseReason::Replaced), offline("r", e), online("r", 1)];
    let told = [&[replaced("r")], &told[..]].concat();
    assert_eq!(router.opened(newer), told);
    assert_eq!(router.ended(e, End::Ordered(CloseReason::Replaced)), []);
    assert_eq!(router.ended(c, End::Ordered(CloseReason::Replaced)), []);
    assert!(router.admit(&client("r", 1), 0).is_ok(), "the newer one is free");
}

#[test]
fn a_client_on_its_way_is_told_too() {
    let (mut router, e, c) = joined();
    router.ended(c, End::Done);
    router.ended(e, End::Done);
    let e = router.admit(&executor("r", 1), 0).unwrap();
    router.opened(e);
    let c = router.admit(&client("r", 1), 0).unwrap();
    assert_eq!(router.ended(e, End::Lost), [close(c, CloseReason::PeerLost), offline("r", e)]);
    assert_eq!(router.opened(c), []);
}

#[test]
fn a_lower_epoch_is_fenced_off() {
    let mut router = Router::new(100, Fences::default());
    let late = router.admit(&executor("r", 2), 0).unwrap();
    let e = router.admit(&executor("r", 3), 0).unwrap();
    assert_eq!(router.opened(e), [online("r", 3)]);
    assert_eq!(router.opened(late), [close(late, CloseReason::Replaced)], "admitted before, opened after");
    assert_eq!(router.admit(&executor("r", 2), 0), Err(Rejection::Fenced));
    assert_eq!(router.admit(&client("r", 2), 0), Err(Rejection::Fenced));
    assert_eq!(router.admit(&client("r", 4), 0), Err(Rejection::ExecutorAway), "that executor is not here yet");
    assert_eq!(router.admit(&executor("r", 3), 0), Err(Rejection::Fenced));
    let newer = router.admit(&executor("r", 4), 0).unwrap();
    let told = [replaced("r"), close(e, CloseReason::Replaced), offline("r", e), online("r", 4)];
    assert_eq!(router.opened(newer), told);
}

#[test]
fn a_cut_registration_is_closed_and_stays_out() {
    let (mut router, e, c) = joined();
    let coming = router.admit(&executor("r", 1), 0).unwrap();
    let effects = router.cut_registration(&RegistrationId::new("r"), CloseReason::Revoked, 0);
    let mut told = vec![close(e, CloseReason::Revoked), close(c, CloseReason::Revoked), offline("r", e)];
    told.push(close(coming, CloseReason::Revoked));
    assert_eq!(effects, told);
    assert_eq!(router.opened(coming), []);
    assert_eq!(router.admit(&executor("r", 9), 0), Err(Rejection::Fenced));
    assert_eq!(router.admit(&client("r", 9), 0), Err(Rejection::Fenced));
    assert!(router.admit(&executor("s", 1), 0).is_ok());
}

#[test]
fn a_cut_token_takes_its_connections_and_stays_out() {
    let (mut router, e, c) = joined();
    let effects = router.cut_token(&TokenId::new("tok-c"), CloseReason::Revoked, 0);
    let told = [close(e, CloseReason::PeerLost), close(c, CloseReason::Revoked), offline("r", e)];
    assert_eq!(effects, told, "the executor may come back at once");
    let e = router.admit(&executor("r", 1), 0).unwrap();
    router.opened(e);
    assert_eq!(router.admit(&client("r", 1), 0), Err(Rejection::Fenced));

    let kept = router.admit(&claims(Role::Harness, "r", "tok-d", 1), 0).unwrap();
    let effects = router.cut_token(&TokenId::new("tok-d"), CloseReason::Revoked, 0);
    assert_eq!(effects, [close(kept, CloseReason::Revoked)], "a client that has not joined yet ends alone");
    assert!(router.admit(&claims(Role::Harness, "r", "tok-f", 1), 0).is_ok());
    let effects = router.cut_token(&TokenId::new("tok-e"), CloseReason::Revoked, 0);
    assert!(effects.contains(&close(e, CloseReason::Revoked)) && effects.contains(&offline("r", e)));
}

#[test]
fn what_an_expired_token_opened_goes_and_its_tickets_are_good_as_long_as_they_say() {
    let (mut router, e, c) = joined();
    let effects = router.cut_expired(&TokenId::new("tok-e"), CloseReason::Revoked);
    assert_eq!(effects, [close(e, CloseReason::Revoked), close(c, CloseReason::Revoked), offline("r", e)]);
    let e = router.admit(&executor("r", 1), 0).unwrap();
    assert_eq!(router.opened(e), [online("r", 1)], "the clock was wrong");
}

#[test]
fn what_was_opened_before_another_secret_goes_and_what_came_later_stays() {
    let at = |issued_at, claims: Claims| Claims { shape: Shape::Streams, issued_at, ..claims };
    let mut router = Router::new(100, Fences::default());
    let e = router.admit(&at(5, executor("r", 1)), 5).unwrap();
    router.opened(e);
    let [old, new] = [9, 11].map(|issued_at| {
        let one = router.admit(&at(issued_at, client("r", 1)), 11).unwrap();
        router.opened(one);
        one
    });
    let renewed =
        |router: &mut Router, token| router.cut_renewed(&TokenId::new(token), 10, CloseReason::KeyRevoked, 11);
    assert_eq!(renewed(&mut router, "tok-c"), [close(old, CloseReason::KeyRevoked)]);
    assert_eq!(router.admit(&at(10, client("r", 1)), 11), Err(Rejection::Fenced));
    assert!(router.admit(&at(11, client("r", 1)), 11).is_ok());
    assert_eq!(renewed(&mut router, "tok-c"), [], "told twice, nobody goes twice");
    let effects = renewed(&mut router, "tok-e");
    assert!(effects.contains(&close(e, CloseReason::KeyRevoked)) && effects.contains(&offline("r", e)), "{effects:?}");
    assert!(effects.contains(&close(new, CloseReason::KeyRevoked)), "with its executor");
    assert_eq!(router.admit(&at(5, executor("r", 1)), 11), Err(Rejection::Fenced));
    let e = router.admit(&at(11, executor("r", 1)), 11).unwrap();
    assert_eq!(router.opened(e), [online("r", 1)]);
}

#[test]
fn a_barred_token_loses_its_clients_at_that_executor_alone() {
    let streams = |claims: Claims| Claims { shape: Shape::Streams, ..claims };
    let mut router = Router::new(100, Fences::default());
    let mut clients = Vec::new();
    for registration in ["r", "s"] {
        let e = router.admit(&streams(executor(registration, 1)), 0).unwrap();
        router.opened(e);
        for token in ["tok-c", "tok-d"] {
            let one = router.admit(&streams(claims(Role::Harness, registration, token, 1)), 0).unwrap();
            router.opened(one);
            clients.push(one);
        }
    }
    let (r, token) = (RegistrationId::new("r"), TokenId::new("tok-c"));
    assert_eq!(router.bar(&r, &token, CloseReason::Revoked, 5), [close(clients[0], CloseReason::Revoked)]);
    assert_eq!(router.admit(&streams(client("r", 1)), 5), Err(Rejection::Fenced));
    assert!(router.admit(&streams(client("s", 1)), 5).is_ok());
    assert!(router.admit(&Claims { issued_at: 6, ..streams(client("r", 1)) }, 6).is_ok(), "let in anew");
    assert_eq!(router.bar(&r, &TokenId::new("tok-e"), CloseReason::Revoked, 5), [], "no executor goes");
}

#[test]
fn a_client_that_still_gets_its_last_data_can_be_cut() {
    let (mut router, e, c) = joined();
    assert_eq!(router.ended(e, End::Done)[0], close(c, CloseReason::PeerDone));
    let effects = router.cut_token(&TokenId::new("tok-c"), CloseReason::Revoked, 0);
    assert_eq!(effects, [close(c, CloseReason::Revoked)]);
    assert_eq!(router.cut_token(&TokenId::new("tok-c"), CloseReason::Revoked, 0), []);
}

#[test]
fn a_drain_lets_nobody_in_and_spreads_the_closes() {
    let (mut router, e, c) = joined();
    let other = router.admit(&executor("s", 1), 0).unwrap();
    router.opened(other);
    let at = |connection, millis| Effect::Close {
        connection,
        reason: CloseReason::GoingAway,
        after: Duration::from_millis(millis),
    };
    assert_eq!(router.drain(Duration::from_secs(2)), [at(e, 0), at(c, 0), at(other, 1_000)]);
    assert_eq!(router.drain(Duration::from_secs(2)), []);
    assert_eq!(router.admit(&executor("t", 1), 0), Err(Rejection::Draining));
    let gone = router.ended(c, End::Ordered(CloseReason::GoingAway));
    assert_eq!(gone, [close(e, CloseReason::GoingAway), offline("r", e)]);
}

#[test]
fn a_full_house_lets_nobody_in() {
    let mut router = Router::new(2, Fences::default());
    let e = router.admit(&executor("r", 1), 0).unwrap();
    router.opened(e);
    let c = router.admit(&client("r", 1), 0).unwrap();
    assert_eq!(router.admit(&executor("s", 1), 0), Err(Rejection::Overloaded));
    router.ended(c, End::Lost);
    router.admit(&executor("s", 1), 0).unwrap();
    assert_eq!(router.admit(&client("r", 1), 0), Err(Rejection::Overloaded));
}

/// What is to be expected, told from the events and effects alone.
#[derive(Default)]
struct Model {
    /// Every connection that has not ended.
    seats: BTreeMap<ConnectionId, Seat>,
    /// Registrations that were reported online, with the executor.
    online: BTreeMap<String, ConnectionId>,
    /// Those of them that were reported held.
    held: BTreeSet<String>,
    /// Executor and client.
    joined: Vec<(ConnectionId, ConnectionId)>,
    cut_registrations: BTreeSet<String>,
    cut_tokens: BTreeSet<String>,
    highest: BTreeMap<String, u64>,
    draining: bool,
}

struct Seat {
    claims: Claims,
    open: bool,
    told: Vec<CloseReason>,
}

impl Seat {
    /// Whether it was told to go, other than by a drain, which leaves it its time.
    fn is_doomed(&self) -> bool {
        self.told.iter().any(|reason| *reason != CloseReason::GoingAway)
    }
}

impl Model {
    fn expect_admit(&self, claims: &Claims, max: usize) -> Result<(), Rejection> {
        let registration = claims.registration.as_str();
        let fenced = self.cut_tokens.contains(claims.token.as_str())
            || self.cut_registrations.contains(registration)
            || self.highest.get(registration).is_some_and(|highest| claims.epoch < *highest);
        if self.draining {
            return Err(Rejection::Draining);
        }
        if fenced {
            return Err(Rejection::Fenced);
        }
        if claims.role == Role::Harness {
            let executor = self.online.get(registration).ok_or(Rejection::ExecutorAway)?;
            if self.seats[executor].claims.epoch != claims.epoch {
                return Err(Rejection::ExecutorAway);
            }
            let taken = self.seats.values().any(|seat| {
                seat.claims.role == Role::Harness
                    && seat.claims.registration == claims.registration
                    && !seat.is_doomed()
                    && (!seat.open || self.held.contains(registration))
            });
            if taken {
                return Err(Rejection::ExecutorBusy);
            }
        }
        if self.seats.len() >= max { Err(Rejection::Overloaded) } else { Ok(()) }
    }

    fn apply(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Join { executor, client } => {
                    let (e, c) = (&self.seats[&executor], &self.seats[&client]);
                    assert!(e.open && c.open && !e.is_doomed() && !c.is_doomed());
                    assert_eq!(e.claims.registration, c.claims.registration);
                    assert!(self.joined.iter().all(|pair| pair.0 != executor && pair.1 != client), "joined twice");
                    self.joined.push((executor, client));
                }
                Effect::Close { connection, reason, .. } => {
                    let seat = self.seats.get_mut(&connection).expect("told after its end");
                    seat.told.push(reason);
                    assert!(seat.told.len() <= 3, "{:?}", seat.told);
                }
                Effect::Report(Report::Online { registration, epoch, .. }) => {
                    let registration = registration.as_str().to_owned();
                    let executor = self.seats.iter().rev().find(|(_, seat)| {
                        seat.claims.registration.as_str() == registration
                            && seat.claims.epoch == epoch
                            && seat.claims.role == Role::Executor
                            && seat.open
                            && !seat.is_doomed()
                    });
                    let executor = *executor.expect("online without an executor").0;
                    assert_eq!(self.online.insert(registration, executor), None, "online twice");
                }
                Effect::Challenge { connection } => panic!("nobody wants the executor of {connection}"),
                Effect::Report(Report::Replaced { registration }) => {
                    assert!(self.online.contains_key(registration.as_str()), "nobody was there");
                }
                Effect::Report(Report::Held { registration }) => {
                    assert!(self.online.contains_key(registration.as_str()));
                    assert!(self.held.insert(registration.as_str().to_owned()), "held twice");
                }
                Effect::Report(Report::Offline { registration, executor }) => {
                    assert_eq!(self.online.remove(registration.as_str()), Some(executor));
                    self.held.remove(registration.as_str());
                }
            }
        }
    }

    /// Who has the executor of that registration to itself.
    fn holder(&self, registration: &str) -> Option<ConnectionId> {
        let executor = self.online.get(registration)?;
        let is_live = |id| self.seats.get(id).is_some_and(|seat| seat.open && !seat.is_doomed());
        self.joined.iter().find(|(e, c)| e == executor && is_live(c)).map(|(_, client)| *client)
    }

    /// What holds after every event.
    fn check(&self) {
        for (id, seat) in &self.seats {
            let registration = seat.claims.registration.as_str();
            let live = seat.open && !seat.is_doomed();
            match seat.claims.role {
                Role::Executor => assert_eq!(live, self.online.get(registration) == Some(id), "{id} and its presence"),
                Role::Harness if live => {
                    assert!(self.held.contains(registration));
                    let executor = self.joined.iter().find(|pair| pair.1 == *id).expect("alone").0;
                    assert_eq!(self.online.get(registration), Some(&executor), "its executor is gone");
                }
                Role::Harness => {}
            }
            let cut =
                self.cut_registrations.contains(registration) || self.cut_tokens.contains(seat.claims.token.as_str());
            assert!(!cut || seat.is_doomed(), "{id} is cut and was not told");
            assert!(!self.draining || !seat.told.is_empty(), "{id} stays through a drain");
        }
    }
}

#[test]
fn random_events_agree_with_the_model() {
    const MAX: usize = 12;
    let cases = std::env::var("EXEDRA_CASES").map_or(2_000, |n| n.parse::<u64>().unwrap());
    for seed in 0..cases {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (mut router, mut model) = (Router::new(MAX, Fences::default()), Model::default());
        for _ in 0..120 {
            let pick =
                |rng: &mut fastrand::Rng, model: &Model| rng.choice(model.seats.keys().copied().collect::<Vec<_>>());
            match rng.u32(..100) {
                0..45 => {
                    let role = if rng.bool() { Role::Executor } else { Role::Harness };
                    let (registration, token) = (["r", "s", "t"][rng.usize(..3)], ["a", "b", "c", "d"][rng.usize(..4)]);
                    let claims = claims(role, registration, token, 1 + u64::from(rng.u32(..40) / 38));
                    let expected = model.expect_admit(&claims, MAX);
                    let admitted = router.admit(&claims, 0);
                    assert_eq!(admitted.map(|_| ()), expected, "seed {seed}: {claims:?}");
                    if !matches!(expected, Err(Rejection::Fenced | Rejection::Draining)) {
                        model.highest.insert(registration.to_owned(), claims.epoch);
                    }
                    if let Ok(id) = admitted {
                        model.seats.insert(id, Seat { claims, open: false, told: Vec::new() });
                    }
                }
                45..75 => {
                    let Some(id) = pick(&mut rng, &model) else { continue };
                    let effects = router.opened(id);
                    if model.seats[&id].open || model.seats[&id].is_doomed() {
                        assert_eq!(effects, [], "seed {seed}");
                    } else {
                        model.seats.get_mut(&id).unwrap().open = true;
                        model.apply(effects);
                    }
                }
                75..97 => {
                    let Some(id) = pick(&mut rng, &model) else { continue };
                    let end = [End::Done, End::Lost, End::Silent, End::Broke(CloseReason::TooBig)][rng.usize(..4)];
                    let effects = router.ended(id, end);
                    model.seats.remove(&id);
                    model.apply(effects);
                }
                97 => {
                    let registration = ["r", "s", "t"][rng.usize(..3)];
                    let effects = router.cut_registration(&RegistrationId::new(registration), CloseReason::Revoked, 0);
                    model.cut_registrations.insert(registration.to_owned());
                    model.apply(effects);
                }
                98 => {
                    let token = ["a", "b", "c", "d"][rng.usize(..4)];
                    let effects = router.cut_token(&TokenId::new(token), CloseReason::Revoked, 0);
                    model.cut_tokens.insert(token.to_owned());
                    model.apply(effects);
                }
                _ if rng.u32(..4) == 0 => {
                    let effects = router.drain(Duration::from_nanos(u64::MAX));
                    model.draining = true;
                    model.apply(effects);
                }
                _ => {
                    let registration = ["r", "s", "t"][rng.usize(..3)];
                    let asked = model.holder(registration).map(|connection| Effect::Challenge { connection });
                    let asked: Vec<_> = asked.filter(|_| !model.draining).into_iter().collect();
                    assert_eq!(router.wanted(&RegistrationId::new(registration)), asked, "seed {seed}");
                }
            }
            model.check();
            assert_eq!(router.connections(), model.seats.len());
        }
    }
}
