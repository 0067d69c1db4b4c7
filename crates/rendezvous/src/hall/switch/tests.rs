//! The switch against a plain model, under random sequences.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::limits::{CLIENT_QUEUE, CLIENTS_NEW_STREAMS, MAX_STREAMS_SEEN, NEW_STREAMS, STALL};

const EXECUTOR: ConnectionId = ConnectionId::test(1_000);

fn id(text: &str) -> StreamId {
    StreamId::new(text).unwrap()
}

fn client(number: u64) -> ConnectionId {
    ConnectionId::test(number)
}

fn token(number: u64) -> TokenId {
    TokenId::new(number.to_string())
}

/// Clients with tokens of their own.
fn join(switch: &mut Switch, clients: impl IntoIterator<Item = u64>, now: Instant) {
    clients.into_iter().for_each(|number| switch.join(client(number), token(number), Standing::default(), now));
}

/// A client begins a stream: its route.
fn begin(switch: &mut Switch, number: u64, stream: impl ToString, now: Instant) -> Route {
    switch.of_client(client(number), &id(&stream.to_string()), Kind::Other, now)
}

fn new() -> Route {
    Route::New(EXECUTOR, None)
}

fn instead(owner: u64, stream: impl ToString) -> Route {
    Route::New(EXECUTOR, Some(Yielded { owner: client(owner), stream: id(&stream.to_string()) }))
}

#[test]
fn an_id_belongs_to_the_client_that_used_it_first() {
    let mut switch = Switch::new(EXECUTOR, STALL);
    let now = Instant::now();
    join(&mut switch, [1, 2], now);
    assert_eq!(switch.of_client(client(1), &id("a"), Kind::Other, now), new());
    assert_eq!(switch.of_client(client(1), &id("a"), Kind::Other, now), Route::To(EXECUTOR));
    assert_eq!(switch.of_client(client(2), &id("a"), Kind::Other, now), Route::Refuse(reset::STREAM_TAKEN));
    assert_eq!(switch.of_client(client(2), &id("a"), Kind::Reset, now), Route::Drop);
    assert_eq!(switch.of_executor(&id("a"), Kind::Other), Route::To(client(1)));
    assert_eq!(switch.of_executor(&id("b"), Kind::Other), Route::Refuse(reset::UNKNOWN_STREAM));
    assert_eq!(switch.of_executor(&id("b"), Kind::Reset), Route::Drop);
    assert_eq!(switch.of_executor(&id("a"), Kind::Reset), Route::To(client(1)));
    assert_eq!(switch.of_client(client(1), &id("a"), Kind::Other, now), Route::Drop, "it has ended");
    assert_eq!(switch.leave(client(1)), []);
    assert_eq!(switch.of_client(client(2), &id("a"), Kind::Other, now), new(), "of another client");
    assert_eq!(switch.leave(client(2)), [id("a")]);
}

#[test]
fn streams_are_limited_in_number_and_rate() {
    let mut switch = Switch::new(EXECUTOR, STALL);
    let mut now = Instant::now();
    let all = MAX_STREAMS as u64;
    for number in 0..=all {
        join(&mut switch, [number], now);
        let expected = if number < all { new() } else { Route::Refuse(reset::TOO_MANY_STREAMS) };
        assert_eq!(begin(&mut switch, number, number, now), expected, "each has its share, and none has more");
    }
    for number in 0..all {
        switch.of_client(client(number), &id(&number.to_string()), Kind::Reset, now);
    }
    // Beside what all have in common each has its own, which here is one.
    assert_eq!(begin(&mut switch, 0, "x", now), new());
    assert_eq!(begin(&mut switch, 0, "y", now), Route::Refuse(reset::TOO_FAST));
    assert_eq!(begin(&mut switch, 1, "z", now), new());
    now += NEW_STREAMS.pause;
    assert_eq!(begin(&mut switch, 0, "y", now), new());
}

#[test]
fn one_client_alone_may_have_all_streams_and_gives_those_way_that_are_missed_least() {
    let (mut switch, now) = (Switch::new(EXECUTOR, STALL), Instant::now());
    join(&mut switch, [1], now);
    let all = MAX_STREAMS as u64;
    (0..all).for_each(|stream| assert_eq!(begin(&mut switch, 1, stream, now), new()));
    assert_eq!(begin(&mut switch, 1, "more", now), Route::Refuse(reset::TOO_MANY_STREAMS), "it has its share");
    switch.of_executor(&id(&(all - 1).to_string()), Kind::Other);
    join(&mut switch, [2], now);
    assert_eq!(begin(&mut switch, 2, "a", now), instead(1, all - 2), "of those without an answer the newest");
    assert_eq!(begin(&mut switch, 2, "a", now), Route::To(EXECUTOR));
    assert_eq!(switch.of_executor(&id("a"), Kind::Other), Route::To(client(2)));
    assert_eq!(switch.of_client(client(1), &id(&(all - 2).to_string()), Kind::Other, now), Route::Drop, "it is over");
    assert_eq!(switch.of_executor(&id(&(all - 2).to_string()), Kind::Other), Route::Drop);
    (0..all - 2).for_each(|stream| drop(switch.of_executor(&id(&stream.to_string()), Kind::Other)));
    assert_eq!(begin(&mut switch, 2, "b", now), instead(1, all - 1), "of answered ones the newest");
    assert_eq!((switch.open(), switch.leave(client(1)).len()), (MAX_STREAMS, MAX_STREAMS - 2));
}

#[test]
fn shares_are_those_of_tokens_and_within_one_those_of_its_clients() {
    let now = Instant::now();
    let mut switch = Switch::with_room(EXECUTOR, STALL, 8);
    switch.join(client(1), token(1), Standing::default(), now);
    switch.join(client(2), token(1), Standing::default(), now);
    switch.join(client(3), token(2), Standing::default(), now);
    (0..6).for_each(|stream| assert_eq!(begin(&mut switch, 1, format!("1.{stream}"), now), new()));
    (0..2).for_each(|stream| assert_eq!(begin(&mut switch, 2, format!("2.{stream}"), now), new()));
    // Another token has half, of whichever client has most.
    assert_eq!(begin(&mut switch, 3, "3.0", now), instead(1, "1.5"));
    assert_eq!(begin(&mut switch, 3, "3.1", now), instead(1, "1.4"));
    assert_eq!(begin(&mut switch, 3, "3.2", now), instead(1, "1.3"));
    assert_eq!(begin(&mut switch, 3, "3.3", now), instead(1, "1.2"));
    assert_eq!(begin(&mut switch, 3, "3.4", now), Route::Refuse(reset::TOO_MANY_STREAMS));
    // The first token has its share now, of 4: its clients have 2 each.
    for number in [1, 2] {
        assert_eq!(begin(&mut switch, number, "more", now), Route::Refuse(reset::TOO_MANY_STREAMS));
    }
    switch.join(client(4), token(1), Standing::default(), now);
    assert_eq!(begin(&mut switch, 4, "4.0", now), instead(2, "2.1"), "another client of it has one of its own");
    assert_eq!(begin(&mut switch, 4, "4.1", now), Route::Refuse(reset::TOO_MANY_STREAMS));
}

#[test]
fn who_begins_streams_at_speed_uses_up_what_all_have_but_nobodys_own() {
    let (mut switch, start) = (Switch::new(EXECUTOR, STALL), Instant::now());
    // Clients of one token, that come and go and come anew, and begin as much as they can for half a minute.
    join(&mut switch, [1], start);
    let (mut greedy, mut served) = (0, 0);
    for step in 0..3_000u64 {
        let now = start + Duration::from_millis(10 * step);
        let one = 1_000 + step;
        switch.join(client(one), token(0), Standing::default(), now);
        for stream in 0..4 {
            let stream = format!("{one}.{stream}");
            greedy += u64::from(begin(&mut switch, one, stream, now) == new());
        }
        switch.leave(client(one));
        if step % 10 == 9 {
            let stream = format!("own.{step}");
            let route = begin(&mut switch, 1, &stream, now);
            assert_eq!(route, if served < MAX_STREAMS_SEEN { new() } else { Route::Refuse(reset::TOO_MANY_STREAMS) });
            served += 1;
            switch.of_client(client(1), &id(&stream), Kind::Reset, now);
        }
    }
    // A burst and 40 in a second for all, and half of that beside it.
    assert!(greedy <= 192 + 30 * 60, "{greedy}");
    assert_eq!(switch.tokens.len(), 2, "who is gone is remembered for as long as its share is used up");
    let later = start + Duration::from_secs(100);
    join(&mut switch, [2], later);
    assert_eq!(switch.tokens.len(), 2);
}

#[test]
fn one_client_alone_does_not_use_up_what_others_of_its_token_may_begin() {
    let (mut switch, start) = (Switch::new(EXECUTOR, STALL), Instant::now());
    [1, 2].iter().for_each(|number| switch.join(client(*number), token(0), Standing::default(), start));
    let mut greedy = 0;
    for step in 0..1_000u64 {
        let now = start + Duration::from_millis(10 * step);
        let stream = id(&step.to_string());
        greedy += u64::from(switch.of_client(client(1), &stream, Kind::Other, now) == new());
        switch.of_client(client(1), &stream, Kind::Reset, now);
        if step % 20 == 19 {
            assert_eq!(begin(&mut switch, 2, format!("own.{step}"), now), new());
        }
    }
    assert!((200..=230).contains(&greedy), "a burst, and ten in a second: {greedy}");
}

#[test]
fn one_client_uses_up_only_so_many_ids() {
    let mut switch = Switch::new(EXECUTOR, STALL);
    let mut now = Instant::now();
    join(&mut switch, [0], now);
    for number in 0..=MAX_STREAMS_SEEN {
        now += CLIENTS_NEW_STREAMS.pause;
        let full = number == MAX_STREAMS_SEEN;
        let route = begin(&mut switch, 0, number, now);
        assert_eq!(route, if full { Route::Refuse(reset::TOO_MANY_STREAMS) } else { new() });
        switch.of_client(client(0), &id(&number.to_string()), Kind::Reset, now);
    }
}

#[test]
fn whoever_drains_nothing_while_others_wait_is_found_and_nobody_else() {
    let mut switch = Switch::new(EXECUTOR, STALL);
    let start = Instant::now();
    join(&mut switch, 0..3, start);
    switch.queued(client(0), CLIENT_QUEUE);
    switch.queued(client(1), 10);
    assert!(!switch.may_read_executor());
    assert_eq!(switch.poll_stalls(start), (Some(start + STALL), None));
    assert_eq!(switch.poll_stalls(start + STALL), (None, Some(client(0))));
    switch.leave(client(0));
    assert!(switch.may_read_executor());
    assert_eq!(switch.poll_stalls(start + STALL * 2), (None, None), "10 bytes are in nobody's way");
    assert_eq!(switch.waiting(), 10);
}

#[test]
fn whoever_kept_others_waiting_before_is_waited_for_less_and_its_siblings_hardly_at_all() {
    let mut switch = Switch::new(EXECUTOR, STALL);
    let (mut now, mut standing, mut waited) = (Instant::now(), Standing::default(), Vec::new());
    join(&mut switch, [0], now);
    switch.join(client(50), token(1), standing, now);
    for round in 1..=3 {
        while !standing.may_come(STALL, now) {
            now += Duration::from_secs(1);
        }
        switch.join(client(round), token(1), standing, now);
        // What fills it does not fill one of whom nothing is known.
        let room = standing.queue(STALL, now);
        switch.queued(client(0), room - 1);
        switch.queued(client(round), room);
        assert!(!switch.may_read_executor());
        let start = now;
        let stalled = loop {
            match switch.poll_stalls(now) {
                (_, Some(stalled)) => break stalled,
                // Meanwhile a little of what it did before is forgotten.
                (Some(due), None) => now = due,
                (None, None) => panic!("it is in the way"),
            }
        };
        assert_eq!(stalled, client(round));
        waited.push(now - start);
        standing.stalled(switch.patience(client(round), now), STALL, now);
        switch.stands(&token(1), standing);
        switch.leave(client(round));
        switch.drained(client(0), room - 1);
        assert!(switch.may_read_executor());
    }
    assert!(waited[0] == STALL && waited[1] < STALL / 5 && waited[2] < STALL / 5, "{waited:?}");
    switch.queued(client(50), CLIENT_QUEUE);
    assert_eq!(switch.poll_stalls(now), (Some(now + STALL / 40), None), "one that was there all the time");
    assert_eq!(switch.patience(client(0), now), STALL);
}

#[derive(Clone, Debug)]
enum Step {
    Join(u8),
    Leave(u8),
    Client(u8, u8, bool),
    Executor(u8, bool),
    Queue(u8, u32),
    Drain(u8, u32),
    Wait(u16),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0u8..6).prop_map(Step::Join),
        (0u8..6).prop_map(Step::Leave),
        (0u8..6, 0u8..20, prop::bool::weighted(0.2)).prop_map(|(c, s, r)| Step::Client(c, s, r)),
        (0u8..20, prop::bool::weighted(0.2)).prop_map(|(s, r)| Step::Executor(s, r)),
        (0u8..6, 0u32..400_000).prop_map(|(c, n)| Step::Queue(c, n)),
        (0u8..6, 0u32..400_000).prop_map(|(c, n)| Step::Drain(c, n)),
        (0u16..3_000).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..120)
}

/// So many streams at once, so that they are soon all taken.
const ROOM: usize = 5;

/// The same, as simply as can be said.
#[derive(Default)]
struct Model {
    /// What waits for each.
    clients: BTreeMap<u8, usize>,
    streams: BTreeMap<u8, Kept>,
    begun: usize,
}

#[derive(Clone, Copy)]
struct Kept {
    owner: u8,
    open: bool,
    answered: bool,
    number: usize,
}

/// Two clients have one token.
fn token_of(client: u8) -> u8 {
    client / 2
}

impl Model {
    fn open(&self, of: impl Fn(u8) -> bool) -> usize {
        self.streams.values().filter(|kept| kept.open && of(kept.owner)).count()
    }

    /// Which streams one of `from` may displace where all are taken.
    fn displaceable(&self, from: u8) -> Vec<u8> {
        let (of_client, of_token) =
            (|one: u8| self.open(|owner| owner == one), |one: u8| self.open(|owner| token_of(owner) == one));
        let (mine, all) = (token_of(from), 0..6u8);
        let tokens =
            all.clone().map(token_of).filter(|one| *one == mine || of_token(*one) > 0).collect::<BTreeSet<_>>();
        let siblings =
            all.clone().filter(|one| token_of(*one) == mine && (*one == from || of_client(*one) > 0)).count();
        let most = tokens.iter().map(|one| of_token(*one)).max().unwrap();
        let among = if of_token(mine) < ROOM / tokens.len() {
            all.filter(|one| of_token(token_of(*one)) == most).collect::<Vec<_>>()
        } else if of_client(from) < of_token(mine) / siblings {
            all.filter(|one| token_of(*one) == mine).collect()
        } else {
            return Vec::new();
        };
        // Of each token that may be meant whoever has most.
        let greediest = |one: &u8| {
            among.iter().all(|other| token_of(*other) != token_of(*one) || of_client(*other) <= of_client(*one))
        };
        let newest = |one: u8| {
            let open = self.streams.iter().filter(|(_, kept)| kept.open && kept.owner == one);
            open.max_by_key(|(_, kept)| (!kept.answered, kept.number)).map(|(stream, _)| *stream)
        };
        among.iter().copied().filter(greediest).filter_map(newest).collect()
    }

    fn of_client(&mut self, from: u8, stream: u8, ends: bool, route: &Route) -> Result<(), TestCaseError> {
        let expected = match self.streams.get_mut(&stream) {
            _ if !self.clients.contains_key(&from) => Route::Drop,
            Some(kept) if kept.owner != from && ends => Route::Drop,
            Some(kept) if kept.owner != from => Route::Refuse(reset::STREAM_TAKEN),
            Some(kept) if !kept.open => Route::Drop,
            Some(kept) => {
                kept.open = !ends;
                Route::To(EXECUTOR)
            }
            None if ends => Route::Drop,
            None => return self.begins(from, stream, route),
        };
        prop_assert_eq!(route, &expected);
        Ok(())
    }

    fn begins(&mut self, from: u8, stream: u8, route: &Route) -> Result<(), TestCaseError> {
        if self.open(|_| true) < ROOM {
            prop_assert_eq!(route, &new());
        } else {
            let displaceable = self.displaceable(from);
            match route {
                Route::New(EXECUTOR, Some(yielded)) => {
                    let gone = yielded.stream.as_str().parse().unwrap();
                    prop_assert!(displaceable.contains(&gone), "{gone} of {displaceable:?}");
                    let kept = self.streams.get_mut(&gone).unwrap();
                    prop_assert_eq!(yielded.owner, client(kept.owner.into()));
                    kept.open = false;
                }
                Route::Refuse(reset::TOO_MANY_STREAMS) => {
                    prop_assert!(displaceable.is_empty(), "{displaceable:?}");
                    return Ok(());
                }
                other => prop_assert!(false, "{other:?}"),
            }
        }
        self.begun += 1;
        self.streams.insert(stream, Kept { owner: from, open: true, answered: false, number: self.begun });
        Ok(())
    }

    fn of_executor(&mut self, stream: u8, ends: bool) -> Route {
        match self.streams.get_mut(&stream) {
            None if ends => Route::Drop,
            None => Route::Refuse(reset::UNKNOWN_STREAM),
            Some(kept) if !kept.open => Route::Drop,
            Some(kept) => {
                (kept.open, kept.answered) = (!ends, true);
                Route::To(client(kept.owner.into()))
            }
        }
    }

    fn leave(&mut self, gone: u8) -> usize {
        self.clients.remove(&gone);
        let open = self.open(|owner| owner == gone);
        self.streams.retain(|_, kept| kept.owner != gone);
        open
    }
}

proptest! {
    #[test]
    fn agrees_with_the_model(steps in steps()) {
        let mut switch = Switch::with_room(EXECUTOR, STALL, ROOM);
        let (mut model, mut now) = (Model::default(), Instant::now());
        let kind = |ends| if ends { Kind::Reset } else { Kind::Other };
        for step in steps {
            match step {
                Step::Join(one) => {
                    if let std::collections::btree_map::Entry::Vacant(place) = model.clients.entry(one) {
                        place.insert(0);
                        switch.join(client(one.into()), token(token_of(one).into()), Standing::default(), now);
                    }
                }
                Step::Leave(one) => prop_assert_eq!(switch.leave(client(one.into())).len(), model.leave(one)),
                Step::Client(one, stream, ends) => {
                    now += Duration::from_millis(25);
                    let route = switch.of_client(client(one.into()), &id(&stream.to_string()), kind(ends), now);
                    model.of_client(one, stream, ends, &route)?;
                }
                Step::Executor(stream, ends) => {
                    let route = switch.of_executor(&id(&stream.to_string()), kind(ends));
                    prop_assert_eq!(route, model.of_executor(stream, ends));
                }
                Step::Queue(one, bytes) => {
                    // As the hall does it: only while the executor may be read.
                    if switch.may_read_executor() && let Some(queued) = model.clients.get_mut(&one) {
                        switch.queued(client(one.into()), bytes as usize);
                        *queued += bytes as usize;
                    }
                }
                Step::Drain(one, bytes) => {
                    if let Some(queued) = model.clients.get_mut(&one) {
                        let bytes = (bytes as usize).min(*queued);
                        switch.drained(client(one.into()), bytes);
                        *queued -= bytes;
                    }
                }
                Step::Wait(millis) => now += Duration::from_millis(millis.into()),
            }
            let all: usize = model.clients.values().sum();
            let full = |queued: &usize| *queued >= CLIENT_QUEUE;
            prop_assert_eq!(switch.waiting(), all);
            prop_assert_eq!(switch.open(), model.open(|_| true));
            prop_assert_eq!(switch.may_read_executor(), all < EXECUTOR_QUEUE && !model.clients.values().any(full));
            if let (_, Some(stalled)) = switch.poll_stalls(now) {
                let queued = model.clients.iter().find(|(one, _)| client(u64::from(**one)) == stalled);
                prop_assert!(queued.is_some_and(|(_, queued)| full(queued) || all >= EXECUTOR_QUEUE && *queued > 0));
                let one = *queued.unwrap().0;
                prop_assert_eq!(switch.leave(stalled).len(), model.leave(one));
            }
        }
    }
}

#[test]
fn under_pressure_an_executor_is_read_only_when_nothing_waits_and_who_is_in_the_way_goes() {
    let now = Instant::now();
    let mut switch = Switch::new(client(100), Duration::from_secs(10));
    join(&mut switch, [0], now);
    switch.queued(client(0), 10);
    assert!(switch.may_read_executor());
    switch.press(true);
    assert!(!switch.may_read_executor());
    assert!(switch.poll_stalls(now).0.is_some(), "its time runs");
    assert_eq!(switch.poll_stalls(now + Duration::from_secs(10)).1, Some(client(0)));
    switch.drained(client(0), 10);
    assert!(switch.may_read_executor(), "its own end is enough, nobody else's");
    switch.queued(client(0), 10);
    switch.press(false);
    assert!(switch.may_read_executor());
}
