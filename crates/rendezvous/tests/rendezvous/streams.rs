//! One executor and many clients over relay frames.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use exedra_proto::close::CloseReason;
use exedra_proto::frame::{Body, Frame, StreamId};
use exedra_proto::ids::TokenId;
use exedra_proto::plane::Cutoff;
use exedra_proto::ticket::{Claims, Role, Shape};
use futures_util::stream::SplitSink;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

use crate::raw::{RawPeer, masked};
use crate::stage::{Peer, Stage, claims, closed, message, within};

const MIB: usize = 1024 * 1024;

pub fn many(role: Role) -> Claims {
    Claims { shape: Shape::Streams, ..claims(role) }
}

pub fn id(text: &str) -> StreamId {
    StreamId::new(text).unwrap()
}

pub fn frame(stream: &str, body: Body) -> Message {
    Message::Binary(Frame { stream: id(stream), body }.encode())
}

pub fn data(stream: &str, seq: u32, payload: impl Into<Bytes>) -> Message {
    frame(stream, Body::Data { seq, payload: payload.into() })
}

pub async fn next(peer: &mut Peer) -> Frame {
    Frame::decode(message(peer).await.into_data()).unwrap()
}

pub async fn reset_of(peer: &mut Peer, stream: &str) -> String {
    match next(peer).await {
        Frame { stream: of, body: Body::Reset { reason } } if of == id(stream) => reason,
        other => panic!("no reset of {stream}: {other:?}"),
    }
}

pub async fn executor(stage: &Stage) -> Peer {
    let peer = stage.dial(&stage.sign(&many(Role::Executor))).await.unwrap();
    stage.presence.told(1).await;
    peer
}

async fn client(stage: &Stage) -> Peer {
    stage.dial(&stage.sign(&many(Role::Harness))).await.unwrap()
}

/// An executor that sends every message back in its stream.
async fn echo(peer: Peer) {
    let (mut sink, mut source) = peer.split();
    let mut seqs = HashMap::<StreamId, u32>::new();
    while let Some(Ok(message)) = source.next().await {
        let Message::Binary(bytes) = message else { continue };
        let Frame { stream, body: Body::Data { payload, .. } } = Frame::decode(bytes).unwrap() else { continue };
        let seq = seqs.entry(stream.clone()).or_default();
        let answer = Frame { stream, body: Body::Data { seq: *seq, payload } };
        *seq += 1;
        if sink.send(Message::Binary(answer.encode())).await.is_err() {
            break;
        }
    }
}

fn pattern(len: usize, seed: u64) -> Bytes {
    let mut bytes = vec![0; len];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes.into()
}

#[tokio::test]
async fn each_client_has_its_own_bytes_and_the_executor_those_of_all() {
    let stage = Stage::start().await;
    let mut tasks = JoinSet::new();
    tasks.spawn(echo(executor(&stage).await));
    let mut all = 0;
    let mut own = Vec::new();
    let mut clients = Vec::new();
    for (stream, size) in [("a", 100), ("b", 70_000), ("c", 0)] {
        let mut peer = client(&stage).await;
        let sent = data(stream, 0, vec![7; size]);
        let len = sent.len() as u64;
        if size > 0 {
            peer.send(sent).await.unwrap();
            next(&mut peer).await;
            own.push(2 * len);
            all += 2 * len;
        } else {
            own.push(0);
        }
        clients.push(peer);
    }
    let mut seen = Vec::new();
    for one in Cutoff::connections(&*stage.rendezvous) {
        match one.role {
            Role::Executor => assert_eq!(one.bytes, all),
            Role::Harness => seen.push(one.bytes),
        }
    }
    seen.sort_unstable();
    own.sort_unstable();
    assert_eq!(seen, own);
    assert_eq!(stage.rendezvous.figures().bytes, all);
}

#[tokio::test]
async fn many_clients_are_served_at_once_each_with_its_own_in_order() {
    let stage = Stage::start().await;
    let mut tasks = JoinSet::new();
    tasks.spawn(echo(executor(&stage).await));
    let mut clients = JoinSet::new();
    for number in 0..12u64 {
        let peer = client(&stage).await;
        clients.spawn(async move {
            let stream = format!("stream-{number}");
            let mut random = fastrand::Rng::with_seed(number);
            let sizes: Vec<_> = (0..30)
                .map(|_| {
                    let bits = random.u32(0..22);
                    1 + random.usize(0..1 << bits)
                })
                .collect();
            let (mut sink, mut source) = peer.split();
            let send = async {
                sink.send(frame(&stream, Body::Resume { next_seq: 0 })).await.unwrap();
                for (seq, size) in sizes.iter().enumerate() {
                    sink.send(data(&stream, seq as u32, pattern(*size, seq as u64))).await.unwrap();
                }
                sink
            };
            let receive = async {
                for (seq, size) in sizes.iter().enumerate() {
                    let message = loop {
                        match within(source.next()).await.unwrap().unwrap() {
                            Message::Binary(bytes) => break bytes,
                            _ => continue,
                        }
                    };
                    let got = Frame::decode(message).unwrap();
                    assert_eq!(got.stream, id(&stream));
                    let Body::Data { seq: number, payload } = got.body else { panic!("{:?}", got.body) };
                    assert_eq!(number as usize, seq);
                    assert!(payload == pattern(*size, seq as u64), "message {seq} of {size} bytes");
                }
            };
            let (_sink, ()): (SplitSink<Peer, Message>, ()) = tokio::join!(send, receive);
        });
    }
    within(clients.join_all()).await;
}

#[tokio::test]
async fn a_client_that_goes_leaves_the_others_and_its_streams_are_reset() {
    let stage = Stage::start().await;
    let mut executor = executor(&stage).await;
    let (mut one, mut two) = (client(&stage).await, client(&stage).await);
    one.send(data("a", 0, "1")).await.unwrap();
    assert_eq!(next(&mut executor).await.stream, id("a"));
    two.send(data("b", 0, "2")).await.unwrap();
    assert_eq!(next(&mut executor).await.stream, id("b"));
    executor.send(data("a", 0, "last words")).await.unwrap();
    assert_eq!(next(&mut one).await.stream, id("a"));
    one.close(None).await.unwrap();
    assert_eq!(reset_of(&mut executor, "a").await, "harness_gone");
    executor.send(data("a", 1, "nobody listens")).await.unwrap();
    assert_eq!(reset_of(&mut executor, "a").await, "unknown_stream");
    executor.send(data("b", 0, "still there")).await.unwrap();
    assert_eq!(next(&mut two).await.stream, id("b"));
    drop(two);
    assert_eq!(reset_of(&mut executor, "b").await, "harness_gone");
    let mut three = client(&stage).await;
    three.send(data("a", 0, "3")).await.unwrap();
    assert_eq!(next(&mut executor).await.stream, id("a"), "free again");
}

#[tokio::test]
async fn an_executor_that_goes_takes_its_clients_along_with_all_that_came_for_them() {
    let stage = Stage::start().await;
    let mut executor = executor(&stage).await;
    let (mut one, mut two) = (client(&stage).await, client(&stage).await);
    for (peer, stream) in [(&mut one, "a"), (&mut two, "b")] {
        peer.send(data(stream, 0, "x")).await.unwrap();
        next(&mut executor).await;
        executor.send(data(stream, 0, pattern(300_000, 1))).await.unwrap();
    }
    executor.close(None).await.unwrap();
    for peer in [&mut one, &mut two] {
        let (code, bytes) = closed(peer).await;
        assert_eq!(code, CloseReason::PeerDone.code());
        assert!(bytes.len() > 300_000);
    }
    let told = stage.presence.told(2).await;
    assert!(told[0] == "online r 1" && told[1].starts_with("offline r "), "{told:?}");
    let (status, reason, _) = stage.refused(&stage.sign(&many(Role::Harness))).await;
    assert_eq!((status, reason.as_str()), (409, "route_unavailable"));
}

#[tokio::test]
async fn a_stream_belongs_to_whoever_used_it_first() {
    let stage = Stage::start().await;
    let mut executor = executor(&stage).await;
    let (mut one, mut thief) = (client(&stage).await, client(&stage).await);
    one.send(data("a", 0, "mine")).await.unwrap();
    next(&mut executor).await;
    thief.send(data("a", 1, "stolen")).await.unwrap();
    assert_eq!(reset_of(&mut thief, "a").await, "stream_taken");
    thief.send(frame("a", Body::Reset { reason: "x".into() })).await.unwrap();
    thief.send(data("b", 0, "own")).await.unwrap();
    assert_eq!(next(&mut executor).await.stream, id("b"), "nothing of the thief's for a");
    executor.send(data("a", 0, "for one")).await.unwrap();
    assert_eq!(next(&mut one).await.stream, id("a"));
}

#[tokio::test]
async fn what_is_no_frame_goes_nowhere_and_costs_nothing_else() {
    let stage = Stage::start().await;
    let mut executor = executor(&stage).await;
    let mut peer = client(&stage).await;
    let good = Frame { stream: id("a"), body: Body::Data { seq: 0, payload: "x".into() } }.encode();
    let twice = [&good[..], &[0x12, 1, b'b']].concat();
    let bad = [
        Message::text("{}"),
        Message::binary(vec![]),
        Message::binary(vec![0xff; 100]),
        Message::binary(vec![0xff; MIB]),
        Message::binary(twice),
        Message::binary(good[2..].to_vec()),
    ];
    for message in bad {
        peer.send(message.clone()).await.unwrap();
        executor.send(message).await.unwrap();
    }
    peer.send(data("a", 0, "good")).await.unwrap();
    assert_eq!(next(&mut executor).await.stream, id("a"));
    executor.send(data("a", 0, "good")).await.unwrap();
    assert_eq!(next(&mut peer).await.stream, id("a"));
}

#[tokio::test]
async fn a_client_that_does_not_read_is_sent_away_and_the_others_go_on() {
    let stage = Stage::with(|config| config.times.stall = Duration::from_millis(300)).await;
    let executor = executor(&stage).await;
    let (mut deaf, mut other) = (client(&stage).await, client(&stage).await);
    let (mut sink, source) = executor.split();
    deaf.send(data("deaf", 0, "x")).await.unwrap();
    other.send(data("other", 0, "x")).await.unwrap();
    let mut source = source.filter_map(async |message| Frame::decode(message.ok()?.into_data()).ok()).boxed();
    for _ in 0..2 {
        within(source.next()).await.unwrap();
    }
    let flood = async {
        for seq in 0..400 {
            sink.send(data("deaf", seq, pattern(64 * 1024, 1))).await.unwrap();
        }
        sink.send(data("other", 0, "through")).await.unwrap();
    };
    let told = async {
        let frame = within(source.next()).await.unwrap();
        assert_eq!(frame.stream, id("deaf"));
        assert_eq!(frame.body, Body::Reset { reason: "receiver_stalled".into() });
    };
    within(async { tokio::join!(flood, told) }).await;
    assert_eq!(next(&mut other).await.stream, id("other"));
}

#[tokio::test]
async fn a_message_that_breaks_off_reaches_nobody_as_a_whole() {
    let stage = Stage::start().await;
    let mut executor = executor(&stage).await;
    let mut half = RawPeer::dial(&stage, &many(Role::Harness)).await;
    let mut other = client(&stage).await;
    let whole = Frame { stream: id("half"), body: Body::Data { seq: 0, payload: pattern(4 * MIB, 1) } }.encode();
    let bytes = masked(0x82, &whole);
    // The ping that the other's coming has caused: left unread, it would make the end of this one a reset of TCP.
    assert_eq!(half.frame().await.expect("a ping").first, 0x89);
    half.send(&bytes[..3 * MIB]).await;
    drop(half);
    let broken = message(&mut executor).await.into_data();
    assert!(Frame::decode(broken).is_err());
    assert_eq!(reset_of(&mut executor, "half").await, "harness_gone");
    other.send(data("other", 0, "x")).await.unwrap();
    assert_eq!(next(&mut executor).await.stream, id("other"));
}

#[tokio::test]
async fn a_sender_that_stops_in_a_large_message_does_not_hold_up_the_others_for_ever() {
    let stage = Stage::with(|config| config.times.stall = Duration::from_millis(300)).await;
    let mut executor = executor(&stage).await;
    let mut half = RawPeer::dial(&stage, &many(Role::Harness)).await;
    let mut other = client(&stage).await;
    let whole = Frame { stream: id("half"), body: Body::Data { seq: 0, payload: pattern(4 * MIB, 1) } }.encode();
    half.send(&masked(0x82, &whole)[..3 * MIB]).await;
    let (mut broken, mut others) = (0, 0);
    other.send(data("other", others, "x")).await.unwrap();
    let end = loop {
        match Frame::decode(message(&mut executor).await.into_data()) {
            Err(_) => broken += 1,
            // The large message may not have begun yet.
            Ok(frame) if frame.stream == id("other") => {
                others += 1;
                other.send(data("other", others, "x")).await.unwrap();
            }
            Ok(frame) => break frame,
        }
    };
    assert_eq!((broken, end.stream), (1, id("half")), "what broke off");
    assert_eq!(end.body, Body::Reset { reason: "sender_stalled".into() });
    assert_eq!(next(&mut executor).await, Frame::decode(data("other", others, "x").into_data()).unwrap());
}

#[tokio::test]
async fn a_small_message_that_is_half_sent_holds_up_nobody() {
    let stage = Stage::start().await;
    let mut executor = executor(&stage).await;
    let mut half = RawPeer::dial(&stage, &many(Role::Harness)).await;
    let mut other = client(&stage).await;
    let whole = Frame { stream: id("half"), body: Body::Data { seq: 0, payload: pattern(500_000, 1) } }.encode();
    let bytes = masked(0x82, &whole);
    half.send(&bytes[..400_000]).await;
    for seq in 0..3 {
        other.send(data("other", seq, "x")).await.unwrap();
        assert_eq!(next(&mut executor).await.stream, id("other"));
    }
    half.send(&bytes[400_000..]).await;
    assert_eq!(next(&mut executor).await.stream, id("half"));
}

#[tokio::test]
async fn a_token_that_is_cut_takes_its_own_clients_alone() {
    let stage = Stage::start().await;
    let mut executor = executor(&stage).await;
    let mut kept = client(&stage).await;
    let cut = Claims { token: TokenId::new("tok-x"), ..many(Role::Harness) };
    let mut cut = stage.dial(&stage.sign(&cut)).await.unwrap();
    for (peer, stream) in [(&mut kept, "kept"), (&mut cut, "cut")] {
        peer.send(data(stream, 0, "x")).await.unwrap();
        next(&mut executor).await;
    }
    stage.rendezvous.token(&TokenId::new("tok-x"), CloseReason::Revoked);
    assert_eq!(closed(&mut cut).await.0, CloseReason::Revoked.code());
    assert_eq!(reset_of(&mut executor, "cut").await, "harness_gone");
    executor.send(data("kept", 0, "x")).await.unwrap();
    assert_eq!(next(&mut kept).await.stream, id("kept"));
    stage.rendezvous.token(&TokenId::new("tok-e"), CloseReason::Revoked);
    assert_eq!(closed(&mut executor).await.0, CloseReason::Revoked.code());
    assert_eq!(closed(&mut kept).await.0, CloseReason::Revoked.code());
}

#[tokio::test]
async fn a_client_of_the_other_shape_does_not_come_in() {
    let stage = Stage::start().await;
    let _executor = executor(&stage).await;
    let (status, reason, _) = stage.refused(&stage.sign(&claims(Role::Harness))).await;
    assert_eq!((status, reason.as_str()), (409, "route_unavailable"));
}

#[tokio::test]
async fn a_newer_executor_replaces_the_older_and_its_clients_are_told() {
    let stage = Stage::start().await;
    let mut older = executor(&stage).await;
    let mut peer = client(&stage).await;
    peer.send(data("a", 0, "x")).await.unwrap();
    next(&mut older).await;
    let mut newer = stage.dial(&stage.sign(&many(Role::Executor))).await.unwrap();
    assert_eq!(closed(&mut older).await.0, CloseReason::Replaced.code());
    assert_eq!(closed(&mut peer).await.0, CloseReason::Replaced.code());
    let mut peer = client(&stage).await;
    peer.send(data("a", 0, "again")).await.unwrap();
    assert_eq!(next(&mut newer).await.stream, id("a"));
}

#[tokio::test]
async fn a_new_client_has_the_others_asked_for_a_sign_of_life() {
    let stage = Stage::with(|config| config.times.challenge = Duration::from_millis(300)).await;
    let _executor = executor(&stage).await;
    // Neither silence limit nor ping interval comes into it: they are a minute away.
    let mut silent = RawPeer::dial(&stage, &many(Role::Harness)).await;
    let mut alive = client(&stage).await;
    let answering = async { message(&mut alive).await };
    let mut told = RawPeer::dial(&stage, &many(Role::Harness)).await;
    let cut = async {
        assert_eq!(silent.close_code().await, CloseReason::Silent.code());
    };
    tokio::select! {
        () = cut => {}
        unexpected = answering => panic!("the living one stays: {unexpected:?}"),
    }
    told.send(&masked(0x82, &Frame { stream: id("s"), body: Body::Data { seq: 0, payload: "x".into() } }.encode()))
        .await;
}

/// A field of a frame: tag, wire type, value as it stands on the wire.
fn field(tag: u8, wire: u8, value: &[u8]) -> Vec<u8> {
    [&[tag << 3 | wire], value].concat()
}

/// The same of bytes behind their length, at most 127.
fn bytes(tag: u8, value: &[u8]) -> Vec<u8> {
    field(tag, 2, &[&[u8::try_from(value.len()).unwrap()], value].concat())
}

#[tokio::test]
async fn a_frame_with_any_field_malformed_goes_nowhere_in_either_direction() {
    let stage = Stage::start().await;
    let mut executor = executor(&stage).await;
    let mut peer = client(&stage).await;
    let version = field(1, 0, &[1]);
    let stream = bytes(2, b"a");
    let body = bytes(5, &bytes(4, b"x"));
    let frame = |parts: &[&[u8]]| parts.concat();
    let bad = [
        ("no version", frame(&[&stream, &body])),
        ("version 0", frame(&[&field(1, 0, &[0]), &stream, &body])),
        ("version 2", frame(&[&field(1, 0, &[2]), &stream, &body])),
        ("a version that is bytes", frame(&[&bytes(1, b"1"), &stream, &body])),
        ("two versions", frame(&[&version, &version, &stream, &body])),
        ("a version without end", frame(&[&field(1, 0, &[0x81; 11]), &stream, &body])),
        ("no stream", frame(&[&version, &body])),
        ("a blank stream", frame(&[&version, &bytes(2, b""), &body])),
        ("a stream of spaces", frame(&[&version, &bytes(2, b"  "), &body])),
        ("a stream that is a number", frame(&[&version, &field(2, 0, &[1]), &body])),
        ("a stream that is no text", frame(&[&version, &bytes(2, &[0xff, 0xfe]), &body])),
        ("two streams", frame(&[&version, &stream, &bytes(2, b"b"), &body])),
        ("a stream longer than the frame", frame(&[&version, &field(2, 2, &[100, b'a'])])),
        ("a body longer than the frame", frame(&[&version, &stream, &field(5, 2, &[100, b'a'])])),
        ("a group", frame(&[&version, &stream, &field(5, 3, &[])])),
        ("a wire type that does not exist", frame(&[&version, &stream, &field(5, 7, &[1])])),
        ("a field 0", frame(&[&version, &stream, &field(0, 0, &[1]), &body])),
    ];
    for (what, frame) in &bad {
        for sender in [&mut peer, &mut executor] {
            sender.send(Message::binary(frame.clone())).await.expect(what);
        }
    }
    peer.send(data("a", 0, "good")).await.unwrap();
    let came = next(&mut executor).await;
    assert_eq!(came, Frame { stream: id("a"), body: Body::Data { seq: 0, payload: "good".into() } });
    executor.send(data("a", 0, "good")).await.unwrap();
    assert_eq!(next(&mut peer).await, came);
}
