//! The switch against a plain model, under random sequences.

use proptest::prelude::*;

use super::*;
use crate::limits::STALL;

const EXECUTOR: ConnectionId = ConnectionId::test(1_000);

fn id(text: &str) -> StreamId {
    StreamId::new(text).unwrap()
}

fn client(number: u64) -> ConnectionId {
    ConnectionId::test(number)
}

#[test]
fn an_id_belongs_to_the_client_that_used_it_first() {
    let mut switch = Switch::new(EXECUTOR, STALL);
    let now = Instant::now();
    switch.join(client(1));
    switch.join(client(2));
    assert_eq!(switch.of_client(client(1), &id("a"), Kind::Other, now), Route::New(EXECUTOR));
    assert_eq!(switch.of_client(client(1), &id("a"), Kind::Other, now), Route::To(EXECUTOR));
    assert_eq!(switch.of_client(client(2), &id("a"), Kind::Other, now), Route::Refuse(reset::STREAM_TAKEN));
    assert_eq!(switch.of_client(client(2), &id("a"), Kind::Reset, now), Route::Drop);
    assert_eq!(switch.of_executor(&id("a"), Kind::Other), Route::To(client(1)));
    assert_eq!(switch.of_executor(&id("b"), Kind::Other), Route::Refuse(reset::UNKNOWN_STREAM));
    assert_eq!(switch.of_executor(&id("b"), Kind::Reset), Route::Drop);
    assert_eq!(switch.of_executor(&id("a"), Kind::Reset), Route::To(client(1)));
    assert_eq!(switch.of_client(client(1), &id("a"), Kind::Other, now), Route::Drop, "it has ended");
    assert_eq!(switch.leave(client(1)), []);
    assert_eq!(switch.of_client(client(2), &id("a"), Kind::Other, now), Route::New(EXECUTOR), "of another client");
    assert_eq!(switch.leave(client(2)), [id("a")]);
}

#[test]
fn streams_are_limited_in_number_and_rate() {
    let mut switch = Switch::new(EXECUTOR, STALL);
    let mut now = Instant::now();
    for number in 0..=MAX_STREAMS as u64 {
        switch.join(client(number));
        let route = switch.of_client(client(number), &id(&number.to_string()), Kind::Other, now);
        let expected =
            if number < MAX_STREAMS as u64 { Route::New(EXECUTOR) } else { Route::Refuse(reset::TOO_MANY_STREAMS) };
        assert_eq!(route, expected);
    }
    switch.leave(client(0));
    switch.join(client(0));
    assert_eq!(switch.of_client(client(0), &id("x"), Kind::Other, now), Route::Refuse(reset::TOO_FAST));
    now += NEW_STREAMS_PAUSE;
    assert_eq!(switch.of_client(client(0), &id("x"), Kind::Other, now), Route::New(EXECUTOR));
}

#[test]
fn one_client_uses_up_only_so_many_ids() {
    let mut switch = Switch::new(EXECUTOR, STALL);
    let mut now = Instant::now();
    switch.join(client(0));
    for number in 0..=MAX_STREAMS_SEEN {
        now += NEW_STREAMS_PAUSE;
        let stream = id(&number.to_string());
        let route = switch.of_client(client(0), &stream, Kind::Other, now);
        let full = number == MAX_STREAMS_SEEN;
        assert_eq!(route, if full { Route::Refuse(reset::TOO_MANY_STREAMS) } else { Route::New(EXECUTOR) });
        switch.of_client(client(0), &stream, Kind::Reset, now);
    }
}

#[test]
fn whoever_drains_nothing_while_others_wait_is_found_and_nobody_else() {
    let mut switch = Switch::new(EXECUTOR, STALL);
    let start = Instant::now();
    (0..3).for_each(|number| switch.join(client(number)));
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
        (0u8..6, 0u8..10, prop::bool::weighted(0.2)).prop_map(|(c, s, r)| Step::Client(c, s, r)),
        (0u8..10, prop::bool::weighted(0.2)).prop_map(|(s, r)| Step::Executor(s, r)),
        (0u8..6, 0u32..400_000).prop_map(|(c, n)| Step::Queue(c, n)),
        (0u8..6, 0u32..400_000).prop_map(|(c, n)| Step::Drain(c, n)),
        (0u16..3_000).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..120)
}

/// The same, as simply as can be said.
#[derive(Default)]
struct Model {
    clients: BTreeMap<u8, usize>,
    /// Owner, and whether it is open.
    streams: BTreeMap<u8, (u8, bool)>,
}

impl Model {
    fn of_client(&mut self, from: u8, stream: u8, ends: bool) -> Route {
        if !self.clients.contains_key(&from) {
            return Route::Drop;
        }
        match self.streams.get(&stream) {
            Some((owner, _)) if *owner != from && ends => Route::Drop,
            Some((owner, _)) if *owner != from => Route::Refuse(reset::STREAM_TAKEN),
            Some((_, false)) => Route::Drop,
            None if ends => Route::Drop,
            known => {
                let route = if known.is_none() { Route::New(EXECUTOR) } else { Route::To(EXECUTOR) };
                self.streams.insert(stream, (from, !ends));
                route
            }
        }
    }

    fn of_executor(&mut self, stream: u8, ends: bool) -> Route {
        match self.streams.get_mut(&stream) {
            None if ends => Route::Drop,
            None => Route::Refuse(reset::UNKNOWN_STREAM),
            Some((_, false)) => Route::Drop,
            Some((owner, open)) => {
                *open = !ends;
                Route::To(client((*owner).into()))
            }
        }
    }

    fn leave(&mut self, gone: u8) -> usize {
        self.clients.remove(&gone);
        let open = self.streams.values().filter(|(owner, open)| *owner == gone && *open).count();
        self.streams.retain(|_, (owner, _)| *owner != gone);
        open
    }
}

proptest! {
    #[test]
    fn agrees_with_the_model(steps in steps()) {
        let (mut switch, mut model, mut now) = (Switch::new(EXECUTOR, STALL), Model::default(), Instant::now());
        let kind = |ends| if ends { Kind::Reset } else { Kind::Other };
        for step in steps {
            match step {
                Step::Join(one) => {
                    switch.join(client(one.into()));
                    model.clients.entry(one).or_default();
                }
                Step::Leave(one) => prop_assert_eq!(switch.leave(client(one.into())).len(), model.leave(one)),
                Step::Client(one, stream, ends) => {
                    now += Duration::from_millis(25);
                    let route = switch.of_client(client(one.into()), &id(&stream.to_string()), kind(ends), now);
                    prop_assert_eq!(route, model.of_client(one, stream, ends));
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
            prop_assert_eq!(switch.open(), model.streams.values().filter(|(_, open)| *open).count());
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
    switch.join(client(0));
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
