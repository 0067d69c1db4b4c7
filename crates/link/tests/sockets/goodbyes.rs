//! How connections end.

use std::time::{Duration, Instant};

use exedra_link::ws::WsOptions;
use exedra_link::{Disconnect, memory};
use exedra_proto::close::CloseReason;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::raw::{self, CLOSE, PING, TEXT};

#[tokio::test]
async fn a_close_sends_what_is_queued_then_code_and_text() {
    let (ours, mut peer) = raw::accepted(WsOptions::default()).await;
    for n in 0..50 {
        ours.sender.send(n.to_string()).await.unwrap();
    }
    ours.sender.close(CloseReason::Replaced);
    ours.sender.close(CloseReason::GoingAway);
    assert_eq!(ours.sender.send("late").await, Err(Disconnect::LocalClose(CloseReason::Replaced)));
    let look = async {
        for n in 0..50 {
            assert_eq!(peer.data().await.unwrap().payload, n.to_string().as_bytes());
        }
        assert_eq!(peer.closed().await, (4401, CloseReason::Replaced.text().to_owned()));
        peer.send(CLOSE, &4401u16.to_be_bytes()).await;
        assert!(peer.data().await.is_none(), "the socket is closed after the handshake");
    };
    let mut receiver = ours.receiver;
    let (end, ()) = tokio::join!(receiver.finished(), look);
    assert_eq!(end, Disconnect::LocalClose(CloseReason::Replaced));
}

#[tokio::test]
async fn a_peer_that_never_answers_our_goodbye_has_five_seconds() {
    let (ours, _peer) = raw::accepted(WsOptions::default()).await;
    let start = Instant::now();
    assert_eq!(ours.shutdown(CloseReason::GoingAway).await, Disconnect::LocalClose(CloseReason::GoingAway));
    let took = start.elapsed();
    assert!(took >= Duration::from_secs(4) && took < Duration::from_secs(9), "{took:?}");
}

#[tokio::test]
async fn both_ends_of_ours_close_quickly_and_know_why() {
    let (client, mut server) = raw::both(WsOptions::default()).await;
    client.sender.send("last").await.unwrap();
    let start = Instant::now();
    let (ours, ()) = tokio::join!(client.shutdown(CloseReason::PeerDone), async {
        assert_eq!(server.receiver.recv().await, Ok("last".into()));
        let end = server.receiver.recv().await.unwrap_err();
        assert_eq!(end.reason(), Some(CloseReason::PeerDone));
        assert_eq!(server.receiver.recv().await, Err(end), "the reason stays");
    });
    assert_eq!(ours, Disconnect::LocalClose(CloseReason::PeerDone));
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn a_peers_goodbye_is_told_and_answered() {
    let cases = [
        (&b"\x11\x31"[..], Some(4401), Some(CloseReason::Replaced), ""),
        (b"\x03\xe8bye\x07", Some(1000), Some(CloseReason::PeerDone), "bye"),
        (b"\x13\x87", Some(4999), None, ""),
        (b"", None, None, ""),
    ];
    for (payload, code, reason, text) in cases {
        let (mut ours, mut peer) = raw::dialled(WsOptions::default()).await;
        peer.send(TEXT, b"before").await;
        peer.send(CLOSE, payload).await;
        assert_eq!(ours.receiver.recv().await, Ok("before".into()));
        let end = ours.receiver.recv().await;
        assert_eq!(end, Err(Disconnect::PeerClosed { code, reason, text: text.into() }));
        let echo = peer.data().await.unwrap();
        assert_eq!((echo.opcode, echo.payload.as_slice()), (CLOSE, payload.get(..2).unwrap_or_default()));
        assert!(peer.data().await.is_none());
        assert_eq!(ours.sender.send("x").await, Err(end.unwrap_err()));
    }
}

#[tokio::test]
async fn a_vanished_peer_is_lost() {
    let (mut ours, peer) = raw::accepted(WsOptions::default()).await;
    drop(peer);
    assert_eq!(ours.receiver.recv().await, Err(Disconnect::Lost));
    assert_eq!(ours.sender.disconnect(), Some(Disconnect::Lost));
}

#[tokio::test]
async fn what_is_no_utf8_is_refused_with_1007() {
    let (mut ours, mut peer) = raw::accepted(WsOptions::default()).await;
    peer.send(TEXT, b"good").await;
    peer.send(TEXT, b"\xff\xfe").await;
    assert_eq!(ours.receiver.recv().await, Ok("good".into()));
    assert_eq!(peer.closed().await, (1007, "a text message is not valid UTF-8".to_owned()));
    peer.io.shutdown().await.unwrap();
    assert_eq!(ours.receiver.recv().await, Err(Disconnect::InvalidUtf8));
}

#[tokio::test]
async fn broken_rules_are_refused_with_1002() {
    // Reserved bit, unknown opcode, unmasked frame to a server, continuation of nothing, fragmented ping.
    for garbage in
        [&b"\xc1\x80\0\0\0\0"[..], b"\x83\x80\0\0\0\0", b"\x81\x01x", b"\x80\x80\0\0\0\0", b"\x09\x80\0\0\0\0"]
    {
        let (mut ours, mut peer) = raw::accepted(WsOptions::default()).await;
        peer.io.write_all(garbage).await.unwrap();
        assert_eq!(peer.closed().await.0, 1002, "{garbage:?}");
        peer.io.shutdown().await.unwrap();
        let end = ours.receiver.recv().await;
        assert!(matches!(end, Err(Disconnect::Protocol(_))), "{end:?}");
    }
}

#[tokio::test]
async fn a_dropped_connection_is_gone_at_once() {
    let (ours, mut peer) = raw::accepted(WsOptions::default()).await;
    let sender = ours.sender.clone();
    drop(ours);
    let mut rest = Vec::new();
    let read = timeout(Duration::from_secs(5), peer.io.read_to_end(&mut rest)).await.expect("it ends");
    assert!(read.is_err() || rest.is_empty(), "without a goodbye");
    assert_eq!(sender.send("x").await, Err(Disconnect::Dropped));
}

#[tokio::test]
async fn senders_that_wait_learn_the_reason() {
    let (ours, mut peer) = raw::accepted(WsOptions::default()).await;
    let flood = async {
        loop {
            if let Err(end) = ours.sender.send("x".repeat(200_000)).await {
                return end;
            }
        }
    };
    let vanish = async {
        peer.send(PING, b"").await;
        peer.frame().await.unwrap();
        drop(peer);
    };
    let (end, ()) = tokio::join!(flood, vanish);
    assert_eq!(end, Disconnect::Lost);
}

#[tokio::test]
async fn in_memory_the_reasons_are_the_same() {
    let (left, mut right) = memory::pair();
    left.sender.send("last").await.unwrap();
    assert_eq!(left.shutdown(CloseReason::Revoked).await, Disconnect::LocalClose(CloseReason::Revoked));
    assert_eq!(right.receiver.recv().await, Ok("last".into()));
    assert_eq!(right.receiver.recv().await.unwrap_err().reason(), Some(CloseReason::Revoked));

    let (left, mut right) = memory::pair();
    drop(left);
    assert_eq!(right.receiver.recv().await, Err(Disconnect::Lost));
}
