//! The mux by example, and against a model under frames that are lost, doubled, reordered and made up.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::*;

fn limits() -> Limits {
    Limits { streams: 3, inbox: 2_000, inboxes: 5_000, stall: Duration::from_secs(10) }
}

fn executor() -> (Mux, Instant) {
    (Mux::new(Role::Executor, limits()), Instant::now())
}

fn id(name: &str) -> StreamId {
    StreamId::new(name).unwrap()
}

fn frame(stream: &str, body: Body) -> Message {
    Message::Binary(Frame { stream: id(stream), body }.encode())
}

fn data(stream: &str, seq: u32, text: &str) -> Message {
    frame(stream, Body::Data { seq, payload: Bytes::copy_from_slice(text.as_bytes()) })
}

fn events(mux: &mut Mux) -> Vec<Event> {
    std::iter::from_fn(|| mux.next_event()).collect()
}

/// Takes all that a stream holds.
fn texts(mux: &mut Mux, key: Key, now: Instant) -> Vec<String> {
    let mut texts = Vec::new();
    while let Some(message) = mux.take(key) {
        texts.push(message.as_text().unwrap().to_owned());
        mux.given(key, now);
    }
    texts
}

fn frames(mux: &mut Mux) -> Vec<Frame> {
    std::iter::from_fn(|| mux.next_frame()).map(|outgoing| outgoing.frame).collect()
}

fn resets(mux: &mut Mux) -> Vec<(String, String)> {
    let reset = |frame: Frame| match frame.body {
        Body::Reset { reason } => (frame.stream.as_str().to_owned(), reason),
        body => panic!("{body:?}"),
    };
    frames(mux).into_iter().map(reset).collect()
}

/// Opens a stream with its first message, and takes that.
fn opened(mux: &mut Mux, name: &str, now: Instant) -> Key {
    mux.receive(data(name, 0, "first"), now);
    let events = events(mux);
    let [Event::Opened { key, .. }, Event::Arrived { .. }] = events[..] else { panic!("{events:?}") };
    assert_eq!(texts(mux, key, now), ["first"]);
    key
}

fn pair(stream: &str, reason: &str) -> (String, String) {
    (stream.to_owned(), reason.to_owned())
}

#[test]
fn a_stock_harness_speaks_with_an_executor() {
    let (mut executor, now) = executor();
    let mut harness = Mux::new(Role::Harness, limits());
    let ours = harness.open(id("s"), now);
    harness.send(ours, Message::text("a"));
    harness.send(ours, Message::text("b"));
    let sent = frames(&mut harness);
    let bodies: Vec<String> = sent.iter().map(|frame| format!("{:?}", frame.body)).collect();
    assert_eq!(bodies, ["Resume(0)", "Data(0, 1 bytes)", "Data(1, 1 bytes)"]);
    sent.iter().for_each(|frame| executor.receive(Message::Binary(frame.encode()), now));
    let events_seen = events(&mut executor);
    let Event::Opened { key, id: ref name, .. } = events_seen[0] else { panic!("{events_seen:?}") };
    assert_eq!((name, &events_seen[1..]), (&id("s"), &[Event::Arrived { key }, Event::Arrived { key }][..]));
    assert_eq!(texts(&mut executor, key, now), ["a", "b"]);
    executor.send(key, Message::text("answer"));
    for frame in frames(&mut executor) {
        harness.receive(Message::Binary(frame.encode()), now);
    }
    assert_eq!(texts(&mut harness, ours, now), ["answer"]);
    harness.close(ours, CloseReason::PeerDone);
    let sent = frames(&mut harness);
    assert_eq!(sent[0].body, Body::Reset { reason: "the other side is done".into() });
    events(&mut harness);
    executor.receive(Message::Binary(sent[0].encode()), now);
    let (code, reason, text) = (None, Some(CloseReason::PeerDone), CloseReason::PeerDone.text().to_owned());
    assert_eq!(events(&mut executor), [Event::Ended { key, reason: Disconnect::PeerClosed { code, reason, text } }]);
    assert_eq!((executor.counts(), harness.counts()), (Counts::default(), Counts::default()));
}

#[test]
fn what_means_nothing_is_dropped_and_counted() {
    let (mut mux, now) = executor();
    let key = opened(&mut mux, "s", now);
    let nonsense = [
        Message::text("{}"),
        Message::Binary(Bytes::from_static(b"\xff\xff")),
        Message::Binary(Bytes::from_static(b"\x08\x02\x12\x01s*\x05\x18\x01\"\x01x")),
        Message::Binary(Bytes::from_static(b"\x08\x01*\x05\x18\x01\"\x01x")),
        Message::Binary(Bytes::from_static(b"\x08\x01\x12\x01s")),
        frame("nobody", Body::Reset { reason: "bye".into() }),
    ];
    for (count, message) in nonsense.into_iter().enumerate() {
        mux.receive(message, now);
        assert_eq!(mux.counts().dropped, count as u64 + 1);
    }
    for body in [Body::Ack, Body::Heartbeat, Body::Resume { next_seq: 7 }] {
        mux.receive(frame("s", body.clone()), now);
        mux.receive(frame("nobody", body), now);
    }
    assert_eq!((events(&mut mux), frames(&mut mux)), (vec![], vec![]));
    mux.receive(data("s", 1, "goes on"), now);
    assert_eq!(texts(&mut mux, key, now), ["goes on"]);
    assert_eq!(mux.counts(), Counts { dropped: 6, ..Counts::default() });
}

#[test]
fn a_gap_resets_the_stream_and_no_other_and_a_repetition_is_dropped() {
    let (mut mux, now) = executor();
    let (key, other) = (opened(&mut mux, "s", now), opened(&mut mux, "t", now));
    mux.receive(data("s", 0, "first"), now);
    assert_eq!((events(&mut mux), mux.counts().duplicates), (vec![], 1));
    mux.receive(data("s", 1, "kept"), now);
    mux.receive(data("s", 3, "too early"), now);
    assert_eq!(resets(&mut mux), [pair("s", "sequence_gap")]);
    assert_eq!(events(&mut mux), [Event::Arrived { key }], "the end waits for what came before the gap");
    assert_eq!(texts(&mut mux, key, now), ["kept"]);
    assert_eq!(events(&mut mux), [Event::Ended { key, reason: Disconnect::Lost }]);
    // What follows begins no stream in the middle.
    mux.receive(data("s", 4, "late"), now);
    assert_eq!((events(&mut mux), resets(&mut mux)), (vec![], vec![pair("s", "unknown_stream")]));
    mux.receive(data("t", 1, "unharmed"), now);
    assert_eq!(texts(&mut mux, other, now), ["unharmed"]);
    assert_eq!(mux.counts(), Counts { duplicates: 1, gaps: 1, refused: 1, ..Counts::default() });
}

#[test]
fn numbers_go_round() {
    let mut stream = Stream::new(id("s"), Instant::now());
    assert_eq!(stream.place(u32::MAX), stream::Place::Repeated);
    assert_eq!(stream.place(0), stream::Place::Due);
    assert_eq!(stream.place(1 << 31), stream::Place::TooEarly);
    assert_eq!(stream.place((1 << 31) + 1), stream::Place::Repeated);
}

#[test]
fn one_stream_too_many_and_a_handshake_are_refused_in_words() {
    let (mut mux, now) = executor();
    let first = opened(&mut mux, "1", now);
    opened(&mut mux, "2", now);
    opened(&mut mux, "3", now);
    mux.receive(data("4", 0, "x"), now);
    mux.receive(frame("5", Body::Handshake(Bytes::from_static(b"noise"))), now);
    assert_eq!(resets(&mut mux), [pair("4", "too_many_streams"), pair("5", "handshake_unsupported")]);
    mux.receive(frame("1", Body::Reset { reason: "bye\u{1b}".into() }), now);
    let reason = Disconnect::PeerClosed { code: None, reason: None, text: "bye".into() };
    assert_eq!(events(&mut mux), [Event::Ended { key: first, reason }]);
    opened(&mut mux, "4", now);
    for n in 0..1_000 {
        mux.receive(data(&format!("many-{n}"), 0, "x"), now);
    }
    assert_eq!(resets(&mut mux).len(), MAX_CONTROL, "refusals are bounded, too");
}

#[test]
fn a_stream_that_gave_way_makes_room_even_while_it_holds_something() {
    let (mut mux, now) = executor();
    let mut ended = Vec::new();
    for number in 0..limits().streams {
        mux.receive(data(&format!("old-{number}"), 0, "kept"), now);
        let Some(Event::Opened { key, .. }) = events(&mut mux).into_iter().next() else { panic!("opened") };
        ended.push(key);
    }
    for number in 0..limits().streams {
        mux.receive(frame(&format!("old-{number}"), Body::Reset { reason: "gave_way".into() }), now);
        opened(&mut mux, &format!("new-{number}"), now);
    }
    assert_eq!(resets(&mut mux), []);
    let reason = Disconnect::PeerClosed { code: None, reason: None, text: "gave_way".into() };
    for key in ended {
        assert_eq!(texts(&mut mux, key, now), ["kept"], "what came before the end is given away");
        assert!(events(&mut mux).contains(&Event::Ended { key, reason: reason.clone() }));
    }
}

#[test]
fn streams_that_have_ended_and_hold_something_are_bounded_too() {
    let (mut mux, now) = executor();
    for number in 0..100 {
        mux.receive(data(&number.to_string(), 0, "kept"), now);
        mux.receive(frame(&number.to_string(), Body::Reset { reason: "gave_way".into() }), now);
    }
    assert_eq!(mux.streams.len(), 2 * limits().streams);
    assert_eq!(resets(&mut mux).len(), 100 - 2 * limits().streams);
}

#[test]
fn an_end_of_ours_follows_what_was_queued_and_nothing_arrives_after_it() {
    let (mut mux, now) = executor();
    let (key, dropped) = (opened(&mut mux, "s", now), opened(&mut mux, "t", now));
    mux.send(key, Message::text("last"));
    mux.close(key, CloseReason::GoingAway);
    mux.send(key, Message::text("too late"));
    mux.receive(data("s", 1, "for nobody"), now);
    assert!(!mux.has_room(key) && events(&mut mux).is_empty());
    let bodies: Vec<Body> = frames(&mut mux).into_iter().map(|frame| frame.body).collect();
    let reason = CloseReason::GoingAway.text().to_owned();
    assert_eq!(bodies, [Body::Data { seq: 0, payload: "last".into() }, Body::Reset { reason }]);
    let reason = Disconnect::LocalClose(CloseReason::GoingAway);
    assert_eq!(events(&mut mux), [Event::Ended { key, reason }]);
    mux.send(dropped, Message::text("never sent"));
    mux.abandon(dropped, now);
    assert_eq!((resets(&mut mux), events(&mut mux)), (vec![pair("t", "dropped")], vec![]));
}

#[test]
fn the_socket_is_not_read_while_a_stream_holds_too_much_and_a_stall_ends_that_stream_alone() {
    let (mut mux, now) = executor();
    let (slow, quick) = (opened(&mut mux, "slow", now), opened(&mut mux, "quick", now));
    mux.receive(data("slow", 1, &"x".repeat(2_000)), now);
    assert!(mux.may_read() && mux.deadline().is_none());
    mux.receive(data("slow", 2, "y"), now);
    assert!(!mux.may_read());
    let later = mux.deadline().unwrap();
    assert_eq!(later, now + Duration::from_secs(10));
    // Taken in time: nothing is lost.
    assert_eq!(texts(&mut mux, slow, now).len(), 2);
    assert!(mux.may_read() && mux.deadline().is_none());
    events(&mut mux);
    mux.receive(data("slow", 3, &"x".repeat(4_000)), now);
    mux.tick(now + Duration::from_secs(9));
    assert!(!mux.may_read());
    mux.tick(mux.deadline().unwrap());
    assert!(mux.may_read());
    assert_eq!(resets(&mut mux), [pair("slow", "receiver_stalled")]);
    let Some(Event::Ended { key, .. }) = events(&mut mux).pop() else { panic!("ended") };
    assert_eq!((key, mux.counts().stalled), (slow, 1));
    mux.receive(data("quick", 1, "z"), later);
    assert_eq!(texts(&mut mux, quick, later), ["z"]);
}

#[test]
fn the_fullest_stream_answers_for_all_of_them() {
    let (mut mux, now) = executor();
    let keys = ["a", "b", "c"].map(|name| opened(&mut mux, name, now));
    for (name, size) in [("a", 1_700), ("b", 1_900), ("c", 1_700)] {
        mux.receive(data(name, 1, &"x".repeat(size)), now);
    }
    assert!(!mux.may_read());
    mux.tick(mux.deadline().unwrap());
    assert!(mux.may_read());
    assert_eq!(resets(&mut mux), [pair("b", "receiver_stalled")]);
    assert_eq!(texts(&mut mux, keys[0], now).len() + texts(&mut mux, keys[2], now).len(), 2);
}

#[test]
fn a_lost_socket_ends_all_streams_after_what_had_arrived() {
    let (mut mux, now) = executor();
    let (full, empty) = (opened(&mut mux, "full", now), opened(&mut mux, "empty", now));
    mux.receive(data("full", 1, "x"), now);
    events(&mut mux);
    mux.send(empty, Message::text("unsent"));
    mux.lost(&Disconnect::Silent);
    assert_eq!(frames(&mut mux), []);
    assert_eq!(events(&mut mux), [Event::Ended { key: empty, reason: Disconnect::Silent }]);
    assert_eq!(texts(&mut mux, full, now), ["x"]);
    assert_eq!(events(&mut mux), [Event::Ended { key: full, reason: Disconnect::Silent }]);
}

#[test]
fn no_stream_starves_another() {
    let (mut mux, now) = executor();
    let (greedy, modest) = (opened(&mut mux, "g", now), opened(&mut mux, "m", now));
    (0..64).for_each(|_| mux.send(greedy, Message::text("x".repeat(64 * 1024))));
    (0..100).for_each(|_| mux.send(modest, Message::text("y".repeat(100))));
    let order: Vec<bool> = frames(&mut mux).iter().map(|frame| frame.stream == id("m")).collect();
    let last = order.iter().rposition(|modest| *modest).unwrap();
    let greedy_before = order[..last].iter().filter(|modest| !**modest).count();
    assert!(greedy_before <= 2, "{greedy_before} large messages went before 100 small ones");
}

/// What a stream of the model knows.
#[derive(Default)]
struct Model {
    due: u32,
    arrived: Vec<String>,
    ended: bool,
}

/// Frames of several harnesses, with mishaps, in the mux and in a model that is as simple as the rules.
#[test]
fn mux_and_model_agree() {
    let cases = std::env::var("EXEDRA_CASES").map_or(200, |n| n.parse::<u64>().unwrap());
    for seed in 0..cases {
        let mut random = fastrand::Rng::with_seed(seed);
        let now = Instant::now();
        let mut mux = Mux::new(Role::Executor, Limits { streams: 4, ..Limits::default() });
        let mut keys: BTreeMap<Key, String> = BTreeMap::new();
        let mut model: BTreeMap<String, Model> = BTreeMap::new();
        let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut next: BTreeMap<String, u32> = BTreeMap::new();
        for step in 0..300 {
            let name = format!("s{}", random.u8(0..6));
            match random.u8(0..20) {
                0 => {
                    mux.receive(frame(&name, Body::Reset { reason: "r".into() }), now);
                    model.remove(&name);
                    next.remove(&name);
                }
                1 => mux.receive(frame(&name, Body::Resume { next_seq: random.u32(..) }), now),
                2 => mux.receive(Message::text("nonsense"), now),
                mishap => {
                    let due = next.entry(name.clone()).or_default();
                    let seq = match mishap {
                        3 => due.wrapping_add(random.u32(1..3)),
                        4 => due.saturating_sub(random.u32(1..3)),
                        _ => *due,
                    };
                    *due = (*due).max(seq + 1);
                    let text = format!("{step}");
                    mux.receive(data(&name, seq, &text), now);
                    let live = model.values().filter(|stream| !stream.ended).count();
                    let known = model.contains_key(&name);
                    if !known && (seq != 0 || live >= 4) {
                        next.remove(&name);
                        continue;
                    }
                    let stream = model.entry(name.clone()).or_default();
                    match seq.cmp(&stream.due) {
                        std::cmp::Ordering::Equal => {
                            stream.due += 1;
                            stream.arrived.push(text);
                        }
                        std::cmp::Ordering::Less => {}
                        std::cmp::Ordering::Greater => {
                            model.remove(&name);
                            next.remove(&name);
                        }
                    }
                }
            }
            while let Some(event) = mux.next_event() {
                match event {
                    Event::Opened { key, id, .. } => {
                        keys.insert(key, id.as_str().to_owned());
                        seen.insert(id.as_str().to_owned(), Vec::new());
                    }
                    Event::Arrived { key } => {
                        let texts = texts(&mut mux, key, now);
                        seen.get_mut(&keys[&key]).unwrap().extend(texts);
                    }
                    Event::Ended { key, .. } => {
                        let name = keys.remove(&key).unwrap();
                        seen.remove(&name);
                    }
                }
            }
            let arrived: BTreeMap<_, _> =
                model.iter().map(|(name, stream)| (name.clone(), stream.arrived.clone())).collect();
            assert_eq!(seen, arrived, "seed {seed}, step {step}");
            assert!(mux.may_read() && mux.held == 0 && mux.names.len() == keys.len(), "seed {seed}, step {step}");
            frames(&mut mux);
        }
    }
}

fn introduction(stream: &str, token: &str) -> Message {
    Message::text(introduced(token).encode(Some(&id(stream))))
}

fn introduced(token: &str) -> Introduction {
    Introduction { token: exedra_proto::ids::TokenId::new(token), client: Default::default() }
}

/// The introduction of the stream that was opened just now.
fn introduced_now(mux: &mut Mux) -> (Key, Introduction) {
    match events(mux).into_iter().rev().find(|event| matches!(event, Event::Opened { .. })) {
        Some(Event::Opened { key, introduction, .. }) => (key, introduction.unwrap()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_stream_belongs_to_whom_the_server_introduced_for_it() {
    let (mux, now) = executor();
    let mut mux = mux.told(true);
    mux.receive(introduction("a", "tok-a"), now);
    mux.receive(introduction("b", "tok-b"), now);
    for (stream, token) in [("b", "tok-b"), ("a", "tok-a")] {
        mux.receive(frame(stream, Body::Resume { next_seq: 0 }), now);
        mux.receive(data(stream, 0, "first"), now);
        assert_eq!(introduced_now(&mut mux).1, introduced(token));
    }
    assert_eq!(resets(&mut mux), []);
}

#[test]
fn a_stream_that_is_not_introduced_is_refused_each_time() {
    let (mux, now) = executor();
    let mut mux = mux.told(true);
    let refused = [pair("s", reset::NOT_INTRODUCED)];
    mux.receive(data("s", 0, "first"), now);
    assert_eq!((events(&mut mux), resets(&mut mux)), (vec![], refused.to_vec()));
    // What a client says in a stream is no introduction, and neither is one of something else.
    mux.receive(data("s", 0, &introduced("tok-a").encode(Some(&id("s")))), now);
    mux.receive(Message::text(introduced("tok-a").encode(None)), now);
    mux.receive(Message::text("{}"), now);
    mux.receive(introduction("other", "tok-a"), now);
    mux.receive(data("s", 0, "first"), now);
    assert_eq!(resets(&mut mux), [refused.clone(), refused.clone()].concat());
    // One is good for one stream: not for the next of that name, and not after a reset.
    mux.receive(introduction("s", "tok-a"), now);
    mux.receive(data("s", 0, "first"), now);
    let (key, _) = introduced_now(&mut mux);
    texts(&mut mux, key, now);
    mux.receive(frame("s", Body::Reset { reason: "over".into() }), now);
    mux.receive(data("s", 0, "first"), now);
    mux.receive(introduction("s", "tok-a"), now);
    mux.receive(frame("s", Body::Reset { reason: "over".into() }), now);
    mux.receive(data("s", 0, "first"), now);
    assert_eq!(resets(&mut mux), [refused.clone(), refused].concat());
}

#[test]
fn a_name_that_is_introduced_again_is_another_clients_from_there_on() {
    let (mux, now) = executor();
    let mut mux = mux.told(true);
    mux.receive(introduction("s", "tok-a"), now);
    mux.receive(data("s", 0, "first"), now);
    let (before, _) = introduced_now(&mut mux);
    texts(&mut mux, before, now);
    mux.receive(introduction("s", "tok-b"), now);
    assert_eq!(events(&mut mux), [Event::Ended { key: before, reason: Disconnect::Lost }]);
    mux.receive(data("s", 1, "not for the one before"), now);
    assert_eq!(resets(&mut mux), [pair("s", reset::UNKNOWN_STREAM)]);
    mux.receive(data("s", 0, "first"), now);
    let (key, of) = introduced_now(&mut mux);
    assert_eq!(of, introduced("tok-b"));
    assert_eq!(texts(&mut mux, key, now), ["first"]);
}

#[test]
fn introductions_of_streams_that_never_begin_take_little_room() {
    let (mux, now) = executor();
    let mut mux = mux.told(true);
    for number in 0..1_000 {
        mux.receive(introduction(&number.to_string(), "tok-a"), now);
    }
    assert_eq!(mux.introductions.as_ref().unwrap().len(), 2 * limits().streams);
    mux.receive(data("0", 0, "first"), now);
    assert_eq!(resets(&mut mux), [pair("0", reset::NOT_INTRODUCED)], "the oldest went");
    mux.receive(data("999", 0, "first"), now);
    assert_eq!(introduced_now(&mut mux).1, introduced("tok-a"));
}

/// One client that begins its streams in the middle, as often as it likes.
#[test]
fn streams_that_are_refused_keep_nobody_from_being_introduced() {
    let (mux, now) = executor();
    let mut mux = mux.told(true);
    for number in 0..4 * limits().streams {
        let name = format!("bad{number}");
        mux.receive(introduction(&name, "tok-bad"), now);
        mux.receive(data(&name, 7, "late"), now);
        assert_eq!(resets(&mut mux), [pair(&name, reset::UNKNOWN_STREAM)]);
    }
    mux.receive(introduction("good", "tok-good"), now);
    mux.receive(data("good", 0, "first"), now);
    assert_eq!(introduced_now(&mut mux).1, introduced("tok-good"));
}

#[test]
fn without_introductions_text_means_nothing() {
    let (mut mux, now) = executor();
    mux.receive(introduction("s", "tok-a"), now);
    mux.receive(data("s", 0, "first"), now);
    let events = events(&mut mux);
    assert!(matches!(events[0], Event::Opened { introduction: None, .. }), "{events:?}");
    assert_eq!(mux.counts().dropped, 1);
}
