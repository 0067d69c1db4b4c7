//! Marks: pings behind what was sent, whose answers say how far the peer has read.

use std::time::{Duration, Instant};

use exedra_link::ws::{Times, WsOptions};
use exedra_proto::mark;
use tokio::time::timeout;

use crate::raw::{self, PING, PONG, TEXT};

const SILENCE: Duration = Duration::from_millis(400);
/// What does not come does not come within this either.
const A_WHILE: Duration = Duration::from_millis(100);

fn options() -> WsOptions {
    WsOptions { times: Times { ping: Duration::from_secs(10), silence: SILENCE }, ..WsOptions::default() }
}

#[tokio::test]
async fn a_mark_follows_what_was_sent_before_it_and_its_pong_answers_it() {
    let (ours, mut peer) = raw::accepted(WsOptions::default()).await;
    let sender = ours.sender.clone();
    assert!(sender.marks());
    for (text, number) in [("one", 1), ("two", 2), ("three", 3)] {
        sender.send(text).await.unwrap();
        assert_eq!(sender.mark().await, Ok(number));
        assert_eq!(peer.frame().await.unwrap().payload, text.as_bytes());
        let ping = peer.frame().await.unwrap();
        assert_eq!((ping.opcode, &ping.payload[..]), (PING, &mark::encode(number)[..]));
    }
    assert!(timeout(A_WHILE, sender.answered(0)).await.is_err());
    peer.send(PONG, b"").await;
    peer.send(PONG, &mark::encode(9)).await;
    assert!(timeout(A_WHILE, sender.answered(0)).await.is_err(), "that is no answer");
    peer.send(PONG, &mark::encode(2)).await;
    assert_eq!(sender.answered(0).await, 2, "the answer to the second is one to the first");
    assert!(timeout(A_WHILE, sender.answered(2)).await.is_err());
    peer.send(PONG, &mark::encode(3)).await;
    assert_eq!(sender.answered(2).await, 3);
    drop(ours);
}

#[tokio::test]
async fn the_websocket_of_ours_answers_only_what_it_has_read() {
    let (client, mut server) = raw::both(WsOptions::default()).await;
    let filler = "x".repeat(64 * 1024);
    let count = 64;
    let send = async {
        for _ in 0..count {
            client.sender.send(filler.clone()).await.unwrap();
        }
        client.sender.mark().await.unwrap();
        client.sender.answered(0).await
    };
    let read = async {
        tokio::time::sleep(A_WHILE).await;
        assert!(client.sender.sent_bytes() > 0);
        for _ in 0..count {
            server.receiver.recv().await.unwrap();
        }
        server.receiver.recv().await
    };
    tokio::select! {
        number = send => assert_eq!(number, 1),
        message = read => panic!("{message:?}"),
    }
}

#[tokio::test]
async fn a_peer_that_speaks_and_answers_no_pings_is_waited_for_no_longer() {
    let (ours, mut peer) = raw::accepted(options()).await;
    let start = Instant::now();
    ours.sender.send("one").await.unwrap();
    ours.sender.mark().await.unwrap();
    let speak = async {
        loop {
            peer.send(TEXT, b"x").await;
            tokio::time::sleep(SILENCE / 8).await;
        }
    };
    let exedra_link::Connection { sender, mut receiver } = ours;
    let receive = async { while receiver.recv().await.is_ok() {} };
    tokio::select! {
        number = sender.answered(0) => assert_eq!(number, u64::MAX),
        () = receive => panic!("the connection ended"),
        () = speak => {}
    }
    assert!(start.elapsed() >= SILENCE);
}

#[tokio::test]
async fn a_peer_that_reads_nothing_is_waited_for() {
    let (ours, mut peer) = raw::accepted(options()).await;
    let exedra_link::Connection { sender, mut receiver } = ours;
    let send = async {
        for _ in 0..300 {
            sender.send("x".repeat(64 * 1024)).await.unwrap();
        }
        sender.mark().await.unwrap();
        sender.answered(0).await
    };
    let speak = async {
        let start = Instant::now();
        while start.elapsed() < SILENCE * 4 {
            peer.send(TEXT, b"x").await;
            tokio::time::sleep(SILENCE / 8).await;
        }
    };
    tokio::select! {
        number = send => panic!("{number} counts as answered"),
        message = async { while receiver.recv().await.is_ok() {} } => panic!("ended: {message:?}"),
        () = speak => {}
    }
}
