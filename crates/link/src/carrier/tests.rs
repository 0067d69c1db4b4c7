//! Many connections over one in-process websocket: each has its own life, and its own end.

use std::time::Duration;

use exedra_proto::frame::{Body, Frame, reset};

use super::*;
use crate::memory;
use crate::message::Message;

/// How long anything may take.
async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("it took too long")
}

/// What a raw harness, behind a rendezvous that forwards, sends and gets.
struct Wire(Connection);

impl Wire {
    async fn data(&self, stream: &str, seq: u32, text: &str) {
        self.send(stream, Body::Data { seq, payload: text.to_owned().into() }).await;
    }

    async fn send(&self, stream: &str, body: Body) {
        let frame = Frame { stream: StreamId::new(stream).unwrap(), body };
        within(self.0.sender.send(frame.encode())).await.unwrap();
    }

    async fn frame(&mut self) -> (String, Body) {
        let message = within(self.0.receiver.recv()).await.unwrap();
        let frame = Frame::decode(message.into_bytes()).unwrap();
        (frame.stream.as_str().to_owned(), frame.body)
    }
}

fn rig() -> (Wire, Streams) {
    rig_with(Limits::default())
}

fn rig_with(limits: Limits) -> (Wire, Streams) {
    let (near, far) = memory::pair();
    (Wire(near), Streams::with_limits(far, false, limits))
}

async fn next(streams: &mut Streams) -> Connection {
    within(streams.next()).await.unwrap().connection
}

async fn text(connection: &mut Connection) -> String {
    within(connection.receiver.recv()).await.unwrap().as_text().unwrap().to_owned()
}

#[test]
fn a_url_tells_what_a_stock_harness_speaks() {
    for (url, carrier) in [
        ("ws://h/x?role=harness&sig=1", Carrier::Relay),
        ("wss://h?a=b&role=harness", Carrier::Relay),
        ("ws://h/?role=executor", Carrier::Plain),
        ("ws://h/role=harness", Carrier::Plain),
        ("unix:///run/x?role=harness", Carrier::Relay),
        ("nonsense", Carrier::Plain),
    ] {
        assert_eq!(Carrier::of_harness(url), carrier, "{url}");
    }
}

#[tokio::test]
async fn streams_are_connections_each_with_its_own_end() {
    let (mut wire, mut streams) = rig();
    wire.data("a", 0, "a0").await;
    wire.data("b", 0, "b0").await;
    let (mut a, mut b) = (next(&mut streams).await, next(&mut streams).await);
    assert_eq!((text(&mut a).await, text(&mut b).await), ("a0".into(), "b0".into()));
    a.sender.send("hello a").await.unwrap();
    assert_eq!(wire.frame().await, ("a".into(), Body::Data { seq: 0, payload: "hello a".into() }));
    // The client ends one.
    wire.data("a", 1, "last").await;
    wire.send("a", Body::Reset { reason: CloseReason::PeerDone.text().into() }).await;
    assert_eq!(text(&mut a).await, "last");
    assert_eq!(within(a.receiver.recv()).await.unwrap_err().reason(), Some(CloseReason::PeerDone));
    // We end the other, after what is queued.
    b.sender.send("goodbye").await.unwrap();
    let ended = within(b.shutdown(CloseReason::GoingAway)).await;
    assert_eq!(ended, Disconnect::LocalClose(CloseReason::GoingAway));
    assert_eq!(wire.frame().await, ("b".into(), Body::Data { seq: 0, payload: "goodbye".into() }));
    assert_eq!(wire.frame().await, ("b".into(), Body::Reset { reason: CloseReason::GoingAway.text().into() }));
    // The name is free again, and the stream under it is another one.
    wire.data("b", 0, "anew").await;
    let mut again = next(&mut streams).await;
    assert_eq!(text(&mut again).await, "anew");
    // One is dropped without a word on this side; the other side is told.
    drop(again);
    assert_eq!(wire.frame().await, ("b".into(), Body::Reset { reason: reset::DROPPED.into() }));
}

#[tokio::test]
async fn the_websockets_end_is_the_end_of_all() {
    let (wire, mut streams) = rig();
    wire.data("a", 0, "a0").await;
    wire.data("b", 0, "b0").await;
    let (mut a, b) = (next(&mut streams).await, next(&mut streams).await);
    within(wire.0.shutdown(CloseReason::Replaced)).await;
    assert_eq!(text(&mut a).await, "a0", "what had arrived comes first");
    let reasons = [
        within(a.receiver.recv()).await.unwrap_err(),
        within(b.sender.ended()).await,
        within(streams.next()).await.unwrap_err(),
        within(streams.next()).await.unwrap_err(),
    ];
    for reason in reasons {
        assert_eq!(reason.reason(), Some(CloseReason::Replaced));
    }
    assert!(b.sender.send("x").await.is_err());
}

#[tokio::test]
async fn dropping_the_streams_drops_everything() {
    let (wire, mut streams) = rig();
    wire.data("a", 0, "a0").await;
    let a = next(&mut streams).await;
    drop(streams);
    assert_eq!(within(a.sender.ended()).await, Disconnect::Dropped);
    assert_eq!(within(wire.0.sender.ended()).await, Disconnect::Lost);
}

#[tokio::test]
async fn a_shutdown_closes_the_websocket_and_says_why() {
    let (mut wire, mut streams) = rig();
    wire.data("a", 0, "a0").await;
    let a = next(&mut streams).await;
    within(streams.shutdown(CloseReason::GoingAway)).await;
    assert_eq!(within(a.sender.ended()).await, Disconnect::LocalClose(CloseReason::GoingAway));
    assert_eq!(within(wire.0.receiver.recv()).await.unwrap_err().reason(), Some(CloseReason::GoingAway));
}

#[tokio::test]
async fn a_slow_connection_holds_up_the_websocket_and_loses_nothing() {
    let (wire, mut streams) = rig();
    let piece = "x".repeat(60_000);
    let count = 60;
    let feed = async {
        for seq in 0..count {
            wire.data("slow", seq, &piece).await;
        }
        wire.data("quick", 0, "q").await;
    };
    tokio::pin!(feed);
    let mut slow = tokio::select! {
        slow = next(&mut streams) => slow,
        () = &mut feed => panic!("3.6 MB fitted into queues of 1.5 MB"),
    };
    // Nobody takes anything: the feed must come to a stop, well before its end.
    assert!(tokio::time::timeout(Duration::from_millis(300), &mut feed).await.is_err());
    let read = async {
        for _ in 0..count {
            assert_eq!(text(&mut slow).await.len(), piece.len());
        }
        assert_eq!(text(&mut next(&mut streams).await).await, "q");
    };
    within(async { tokio::join!(feed, read) }).await;
}

#[tokio::test]
async fn a_connection_that_takes_nothing_is_reset_and_the_others_go_on() {
    let limits = Limits { inbox: 10_000, stall: Duration::from_millis(50), ..Limits::default() };
    let (mut wire, mut streams) = rig_with(limits);
    wire.data("quick", 0, "q0").await;
    let mut quick = next(&mut streams).await;
    for seq in 0..10 {
        wire.data("stuck", seq, &"x".repeat(60_000)).await;
    }
    let stuck = next(&mut streams).await;
    assert_eq!(wire.frame().await, ("stuck".into(), Body::Reset { reason: reset::RECEIVER_STALLED.into() }));
    assert!(matches!(within(stuck.sender.ended()).await, Disconnect::Protocol(_)));
    wire.data("quick", 1, "q1").await;
    assert_eq!((text(&mut quick).await, text(&mut quick).await), ("q0".into(), "q1".into()));
}

#[tokio::test]
async fn a_harness_has_one_stream_and_ends_with_it() {
    let (near, far) = memory::pair();
    let mut wire = Wire(far);
    let mut harness = Carrier::Relay.join(near);
    harness.sender.send("one").await.unwrap();
    let (stream, body) = wire.frame().await;
    assert_eq!((stream.len(), body), (36, Body::Resume { next_seq: 0 }));
    assert_eq!(wire.frame().await, (stream.clone(), Body::Data { seq: 0, payload: "one".into() }));
    wire.data("another", 0, "not for us").await;
    wire.data(&stream, 0, "answer").await;
    assert_eq!(text(&mut harness).await, "answer");
    harness.sender.send("last").await.unwrap();
    let ended = within(harness.shutdown(CloseReason::PeerDone)).await;
    assert_eq!(ended, Disconnect::LocalClose(CloseReason::PeerDone));
    assert_eq!(wire.frame().await, (stream.clone(), Body::Data { seq: 1, payload: "last".into() }));
    assert_eq!(wire.frame().await, (stream, Body::Reset { reason: CloseReason::PeerDone.text().into() }));
    assert_eq!(within(wire.0.receiver.recv()).await.unwrap_err().reason(), Some(CloseReason::PeerDone));
}

#[tokio::test]
async fn a_harness_whose_stream_is_reset_has_lost_its_connection() {
    let (near, far) = memory::pair();
    let mut wire = Wire(far);
    let mut harness = Carrier::Relay.join(near);
    let (stream, _) = wire.frame().await;
    wire.data(&stream, 0, "last word").await;
    wire.send(&stream, Body::Reset { reason: "too_many_streams".into() }).await;
    assert_eq!(text(&mut harness).await, "last word");
    let ended = within(harness.receiver.recv()).await.unwrap_err();
    assert_eq!(ended, Disconnect::PeerClosed { code: None, reason: None, text: "too_many_streams".into() });
    assert!(within(wire.0.receiver.recv()).await.is_err(), "the websocket is closed, too");
}

#[tokio::test]
async fn fifty_clients_at_once_each_get_their_own() {
    let (near, far) = memory::pair();
    let (sender, mut receiver) = (near.sender.clone(), near.receiver);
    let mut streams = Streams::accept(far, false);
    let mut echoes = JoinSet::new();
    let serve = async {
        for _ in 0..50 {
            let mut connection = next(&mut streams).await;
            echoes.spawn(async move {
                while let Ok(message) = connection.receiver.recv().await {
                    connection.sender.send(message).await.unwrap();
                }
            });
        }
    };
    let feed = async {
        for seq in 0..40 {
            for stream in 0..50 {
                let payload = format!("{stream}-{seq}").into();
                let frame =
                    Frame { stream: StreamId::new(stream.to_string()).unwrap(), body: Body::Data { seq, payload } };
                sender.send(frame.encode()).await.unwrap();
            }
        }
    };
    let collect = async {
        let mut next = [0; 50];
        for _ in 0..2_000 {
            let frame = Frame::decode(receiver.recv().await.unwrap().into_bytes()).unwrap();
            let stream: usize = frame.stream.as_str().parse().unwrap();
            let payload = format!("{stream}-{}", next[stream]).into();
            assert_eq!(frame.body, Body::Data { seq: next[stream], payload });
            next[stream] += 1;
        }
    };
    within(async { tokio::join!(serve, feed, collect) }).await;
}

#[tokio::test]
async fn binary_messages_stay_binary() {
    let (wire, mut streams) = rig();
    wire.data("a", 0, "\u{1}block").await;
    wire.send("a", Body::Data { seq: 1, payload: b"{\xff".to_vec().into() }).await;
    wire.data("a", 2, "{}").await;
    let mut a = next(&mut streams).await;
    let mut message = async || within(a.receiver.recv()).await.unwrap();
    assert_eq!(message().await, Message::Binary("\u{1}block".into()));
    assert_eq!(message().await, Message::Binary(b"{\xff".to_vec().into()));
    assert_eq!(message().await, Message::text("{}"));
}
