//! Whoever takes all that an executor has leaves the others their share.

use std::collections::BTreeSet;

use exedra_proto::close::CloseReason;
use exedra_proto::frame::{Body, Frame};
use exedra_proto::ids::TokenId;
use exedra_proto::ticket::{Claims, Role};
use exedra_rendezvous::limits::{MAX_CLIENTS, MAX_STREAMS};
use futures_util::SinkExt as _;

use crate::stage::{Peer, Stage, closed, message};
use crate::streams::{data, executor, frame, id, many, next, reset_of};

fn of(token: &str) -> Claims {
    Claims { token: TokenId::new(token), ..many(Role::Harness) }
}

async fn client(stage: &Stage, token: &str) -> Peer {
    stage.dial(&stage.sign(&of(token))).await.unwrap()
}

/// A client that has opened so many streams, as the executor has seen.
async fn greedy(stage: &Stage, executor: &mut Peer, token: &str, streams: usize) -> Peer {
    let mut greedy = client(stage, token).await;
    for number in 0..streams {
        greedy.send(frame(&format!("{token}-{number}"), Body::Resume { next_seq: 0 })).await.unwrap();
    }
    for number in 0..streams {
        assert_eq!(next(executor).await.stream, id(&format!("{token}-{number}")));
    }
    greedy
}

/// A client opens a stream and is answered, while a stream of another's is told to give way on both sides.
async fn works(executor: &mut Peer, peer: &mut Peer, stream: &str, (owner, given): (&mut Peer, &str)) {
    peer.send(data(stream, 0, "asked")).await.unwrap();
    assert_eq!(reset_of(executor, given).await, "gave_way");
    assert_eq!(next(executor).await.stream, id(stream));
    executor.send(data(stream, 0, "answered")).await.unwrap();
    assert_eq!(next(peer).await, Frame { stream: id(stream), body: Body::Data { seq: 0, payload: "answered".into() } });
    assert_eq!(reset_of(owner, given).await, "gave_way");
}

#[tokio::test]
async fn one_socket_with_all_streams_keeps_nobody_from_having_one() {
    let stage = Stage::start().await;
    let mut executor = executor(&stage).await;
    let mut greedy = greedy(&stage, &mut executor, "greedy", MAX_STREAMS).await;
    greedy.send(frame("one-too-many", Body::Resume { next_seq: 0 })).await.unwrap();
    assert_eq!(reset_of(&mut greedy, "one-too-many").await, "too_many_streams");
    let mut same = client(&stage, "greedy").await;
    works(&mut executor, &mut same, "same", (&mut greedy, "greedy-127")).await;
    let mut other = client(&stage, "other").await;
    works(&mut executor, &mut other, "other", (&mut greedy, "greedy-126")).await;
    // It has its share by far, and takes nothing back; the rest of what it had goes on.
    greedy.send(frame("again", Body::Resume { next_seq: 0 })).await.unwrap();
    assert_eq!(reset_of(&mut greedy, "again").await, "too_many_streams");
    for late in ["greedy-127", "greedy-126", "greedy-125"] {
        greedy.send(data(late, 0, "late")).await.unwrap();
    }
    assert_eq!(next(&mut executor).await.stream, id("greedy-125"), "nothing of those that gave way");
    assert_eq!(stage.rendezvous.figures().streams, MAX_STREAMS);
}

#[tokio::test]
async fn one_token_with_all_places_keeps_no_other_out() {
    let stage = Stage::start().await;
    let mut executor = executor(&stage).await;
    let mut idle = Vec::new();
    for _ in 0..MAX_CLIENTS {
        idle.push(client(&stage, "idle").await);
    }
    // All have come: the first frame of the last one is there.
    idle.last_mut().unwrap().send(data("last", 0, "x")).await.unwrap();
    assert_eq!(next(&mut executor).await.stream, id("last"));
    let (status, reason, _) = stage.refused(&stage.sign(&of("idle"))).await;
    assert_eq!((status, reason.as_str()), (503, "overloaded"));
    let mut other = client(&stage, "other").await;
    other.send(data("other", 0, "x")).await.unwrap();
    let mut streams = BTreeSet::new();
    for _ in 0..2 {
        let came = next(&mut executor).await;
        let is_end = came.body == Body::Reset { reason: "harness_gone".into() };
        assert_eq!(is_end, came.stream == id("last"), "{came:?}");
        streams.insert(came.stream);
    }
    assert_eq!(streams, BTreeSet::from([id("last"), id("other")]));
    assert_eq!(closed(idle.last_mut().unwrap()).await.0, CloseReason::GaveWay.code());
    let (status, reason, _) = stage.refused(&stage.sign(&of("idle"))).await;
    assert_eq!((status, reason.as_str()), (503, "overloaded"), "it has its share");
    executor.send(data("other", 0, "x")).await.unwrap();
    assert!(message(&mut other).await.is_binary());
}

#[tokio::test]
async fn one_socket_that_begins_and_ends_streams_at_speed_keeps_nobody_from_beginning_one() {
    let stage = Stage::start().await;
    let mut executor = executor(&stage).await;
    let mut greedy = client(&stage, "same").await;
    // Far more than may begin at once.
    for number in 0..2 * MAX_STREAMS {
        let stream = format!("{number}");
        greedy.feed(frame(&stream, Body::Resume { next_seq: 0 })).await.unwrap();
        greedy.feed(frame(&stream, Body::Reset { reason: "x".into() })).await.unwrap();
    }
    greedy.flush().await.unwrap();
    while next(&mut greedy).await.body != (Body::Reset { reason: "too_fast".into() }) {}
    for token in ["same", "other"] {
        let mut peer = client(&stage, token).await;
        peer.send(data(token, 0, "x")).await.unwrap();
        while next(&mut executor).await.stream != id(token) {}
    }
}
