//! Messages, their sizes and kinds, and back-pressure.

use std::time::Duration;

use bytes::Bytes;
use exedra_link::message::{Message, Text};
use exedra_link::ws::{Limits, WsOptions};
use exedra_link::{Disconnect, memory};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::raw::{self, BINARY, PING, PONG, TEXT};

#[tokio::test]
async fn messages_arrive_as_they_were_sent_in_both_roles() {
    let (client, server) = raw::both(WsOptions::default()).await;
    for (mut from, mut to) in [(client, server)] {
        for _ in 0..2 {
            let large = "ä".repeat(100_000);
            for message in ["", "small", &large].map(Message::from) {
                from.sender.send(message.clone()).await.unwrap();
                assert_eq!(to.receiver.recv().await, Ok(message));
            }
            let bytes = Message::from(Bytes::from(vec![0xff; 70_000]));
            from.sender.send(bytes.clone()).await.unwrap();
            assert_eq!(to.receiver.recv().await, Ok(bytes));
            std::mem::swap(&mut from, &mut to);
        }
    }
}

#[tokio::test]
async fn many_messages_keep_their_order() {
    let (client, mut server) = raw::both(WsOptions::default()).await;
    let send = async {
        for n in 0..20_000 {
            client.sender.send(n.to_string()).await.unwrap();
        }
    };
    let receive = async {
        for n in 0..20_000 {
            assert_eq!(server.receiver.recv().await.unwrap().as_text(), Ok(n.to_string().as_str()));
        }
    };
    tokio::join!(send, receive);
}

#[tokio::test]
async fn a_large_message_goes_out_in_fragments_and_is_whole_again() {
    let (ours, mut peer) = raw::accepted(WsOptions::default()).await;
    let text = "x".repeat(20 * 1024 * 1024);
    let send = async { ours.sender.send(text).await.unwrap() };
    let receive = async {
        let mut seen = Vec::new();
        loop {
            let frame = peer.frame().await.unwrap();
            assert!(frame.payload.iter().all(|byte| *byte == b'x'));
            seen.push((frame.opcode, frame.payload.len() >> 20));
            if frame.is_final {
                return seen;
            }
        }
    };
    let ((), seen) = tokio::join!(send, receive);
    assert_eq!(seen, [(TEXT, 8), (0, 8), (0, 4)]);
}

#[tokio::test]
async fn fragments_from_a_peer_are_joined_even_inside_a_character() {
    let (mut ours, mut peer) = raw::accepted(WsOptions::default()).await;
    let (left, right) = "aäb".as_bytes().split_at(2);
    peer.send_head(false, TEXT, left.len() as u64).await;
    peer.io.write_all(left).await.unwrap();
    peer.send(PING, b"between").await;
    peer.send_head(true, 0, right.len() as u64).await;
    peer.io.write_all(right).await.unwrap();
    assert_eq!(ours.receiver.recv().await, Ok("aäb".into()));
    let pong = peer.frame().await.unwrap();
    assert_eq!((pong.opcode, pong.payload), (PONG, b"between".to_vec()));
}

#[tokio::test]
async fn a_message_of_64_mib_passes_and_text_may_come_as_binary() {
    let (mut ours, mut peer) = raw::accepted(WsOptions::default()).await;
    let len = 64 << 20;
    let send = async {
        peer.send(BINARY, &vec![b'x'; len]).await;
        peer.send(BINARY, b"{}").await;
    };
    let receive = async {
        assert_eq!(ours.receiver.recv().await.unwrap().len(), len);
        assert_eq!(ours.receiver.recv().await.unwrap().as_text(), Ok("{}"));
    };
    tokio::join!(send, receive);
}

#[tokio::test]
async fn a_message_of_65_mib_is_refused_with_1009_and_a_reason() {
    for fragments in [1, 5] {
        let (mut ours, mut peer) = raw::accepted(WsOptions::default()).await;
        let send_and_look = async {
            let piece = vec![b'x'; (65 << 20) / fragments];
            for n in 0..fragments {
                let opcode = if n == 0 { TEXT } else { 0 };
                peer.send_head(n + 1 == fragments, opcode, piece.len() as u64).await;
                peer.io.write_all(&piece).await.unwrap();
            }
            let closed = peer.closed().await;
            peer.io.shutdown().await.unwrap();
            closed
        };
        let (end, closed) = tokio::join!(ours.receiver.recv(), send_and_look);
        assert_eq!(end, Err(Disconnect::TooBig { limit: 64 << 20 }));
        assert_eq!(closed, (1009, "a message is larger than 64 MiB".to_owned()));
    }
}

#[tokio::test]
async fn a_receiver_that_waits_makes_the_sender_wait() {
    let (client, mut server) = raw::both(WsOptions::default()).await;
    let message = Message::Text(Text::from("x".repeat(64 * 1024)));
    let mut sent = 0;
    // More than all queues and socket buffers between the two can hold.
    let flood = async {
        while sent < 4000 {
            client.sender.send(message.clone()).await.unwrap();
            sent += 1;
        }
    };
    assert!(timeout(Duration::from_millis(500), flood).await.is_err(), "250 MB were taken in without being read");
    let first = sent;
    let rest = async {
        for _ in first..4000 {
            client.sender.send(message.clone()).await.unwrap();
        }
    };
    let receive = async {
        for _ in 0..4000 {
            server.receiver.recv().await.unwrap();
        }
    };
    tokio::join!(rest, receive);
}

#[tokio::test]
async fn a_flood_of_pings_is_answered_without_filling_memory() {
    let (mut ours, mut peer) = raw::accepted(WsOptions::default()).await;
    for n in 0..10_000u32 {
        peer.send(PING, &n.to_be_bytes()).await;
    }
    peer.send(TEXT, b"after").await;
    assert_eq!(ours.receiver.recv().await, Ok("after".into()));
    loop {
        let pong = peer.frame().await.unwrap();
        assert_eq!(pong.opcode, PONG);
        if pong.payload == 9_999u32.to_be_bytes() {
            break;
        }
    }
}

#[tokio::test]
async fn pings_of_a_peer_that_does_not_read_are_answered_by_the_newest_pong() {
    // Its answers find room for a few, its pings always for one more.
    let (peer, io) = tokio::io::duplex(1024);
    let mut ours = exedra_link::ws::accept(io, None, WsOptions::default());
    let (mut answers, mut pings) = tokio::io::split(peer);
    for n in 0..10_000u32 {
        pings.write_all(&[[0x89, 0x84, 0, 0].as_slice(), &[0, 0], &n.to_be_bytes()].concat()).await.unwrap();
    }
    pings.write_all(&[0x81, 0x80, 0, 0, 0, 0]).await.unwrap();
    assert_eq!(ours.receiver.recv().await, Ok("".into()));
    let (mut count, mut pong) = (0, [0; 6]);
    while pong != [[0x8a, 4].as_slice(), &9_999u32.to_be_bytes()].concat()[..] {
        answers.read_exact(&mut pong).await.unwrap();
        count += 1;
    }
    assert!(count < 1_000, "{count} pongs were kept");
}

#[tokio::test]
async fn a_connection_without_senders_still_receives_and_answers_pings() {
    let (ours, mut peer) = raw::accepted(WsOptions::default()).await;
    let exedra_link::Connection { sender, mut receiver } = ours;
    drop(sender);
    peer.send(PING, b"x").await;
    assert_eq!(peer.frame().await.unwrap().opcode, PONG);
    peer.send(TEXT, b"y").await;
    assert_eq!(receiver.recv().await, Ok("y".into()));
}

#[tokio::test]
async fn limits_are_the_callers_choice() {
    let limits = Limits { message: 10, fragment: 4 };
    let (mut ours, mut peer) = raw::accepted(WsOptions { limits, ..WsOptions::default() }).await;
    ours.sender.send("0123456789").await.unwrap();
    assert_eq!(peer.frame().await.unwrap().payload, b"0123");
    peer.send(TEXT, b"0123456789").await;
    assert!(ours.receiver.recv().await.is_ok());
    peer.send(TEXT, b"0123456789a").await;
    peer.io.shutdown().await.unwrap();
    assert_eq!(ours.receiver.recv().await, Err(Disconnect::TooBig { limit: 10 }));
}

#[tokio::test]
async fn in_memory_a_receiver_that_waits_makes_the_sender_wait() {
    let (left, mut right) = memory::pair();
    let mut sent = 0;
    let flood = async {
        loop {
            left.sender.send("x".repeat(64 * 1024)).await.unwrap();
            sent += 1;
        }
    };
    assert!(timeout(Duration::from_millis(100), flood).await.is_err());
    assert!((4..=32).contains(&sent), "{sent}");
    for _ in 0..sent {
        right.receiver.recv().await.unwrap();
    }
}
