//! Signs of life, with times short enough for a test.

use std::time::{Duration, Instant};

use exedra_link::Disconnect;
use exedra_link::ws::{Times, WsOptions};
use tokio::time::timeout;

use crate::raw::{self, CLOSE, PING, PONG, TEXT};

const PING_EVERY: Duration = Duration::from_millis(100);
const SILENCE: Duration = Duration::from_millis(400);

fn quick() -> WsOptions {
    WsOptions { times: Times { ping: PING_EVERY, silence: SILENCE }, ..WsOptions::default() }
}

#[tokio::test]
async fn a_silent_peer_is_pinged_and_then_gone() {
    let (mut ours, mut peer) = raw::accepted(quick()).await;
    let start = Instant::now();
    let look = async {
        let mut pings = 0;
        loop {
            let frame = peer.frame().await.unwrap();
            match frame.opcode {
                PING => pings += 1,
                CLOSE => return (pings, frame.payload[..2].to_vec()),
                other => panic!("opcode {other}"),
            }
        }
    };
    let (end, (pings, code)) = tokio::join!(ours.receiver.recv(), look);
    assert_eq!(end, Err(Disconnect::Silent));
    assert!(start.elapsed() >= SILENCE);
    assert!(pings >= 2, "{pings}");
    assert_eq!(code, 4408u16.to_be_bytes());
}

#[tokio::test]
async fn a_peer_that_answers_pings_stays() {
    let (mut ours, mut peer) = raw::accepted(quick()).await;
    let start = Instant::now();
    let answer = async {
        while start.elapsed() < SILENCE * 4 {
            let ping = peer.frame().await.unwrap();
            assert_eq!(ping.opcode, PING);
            peer.send(PONG, &ping.payload).await;
        }
        peer.send(TEXT, b"still here").await;
    };
    let (message, ()) = tokio::join!(ours.receiver.recv(), answer);
    assert_eq!(message, Ok("still here".into()));
}

#[tokio::test]
async fn any_byte_is_a_sign_of_life() {
    let (mut ours, mut peer) = raw::accepted(quick()).await;
    let start = Instant::now();
    let trickle = async {
        peer.send_head(true, TEXT, 16).await;
        for _ in 0..16 {
            tokio::time::sleep(SILENCE / 4).await;
            tokio::io::AsyncWriteExt::write_all(&mut peer.io, b"x").await.unwrap();
        }
    };
    let (message, ()) = tokio::join!(ours.receiver.recv(), trickle);
    assert_eq!(message.unwrap().len(), 16);
    assert!(start.elapsed() > SILENCE * 2);
}

#[tokio::test]
async fn a_reader_that_is_paused_stays_and_gets_everything() {
    let (ours, mut peer) = raw::accepted(quick()).await;
    let exedra_link::Connection { sender, mut receiver } = ours;
    let count = 300;
    let send = async {
        for _ in 0..count {
            sender.send("x".repeat(64 * 1024)).await.unwrap();
        }
    };
    let pause_and_read = async {
        // The peer reads nothing for many times the limit: `exec … | less`.
        assert!(timeout(SILENCE * 5, receiver.recv()).await.is_err(), "the paused peer was given up");
        let mut got = 0;
        while got < count {
            got += usize::from(peer.frame().await.unwrap().opcode == TEXT);
        }
    };
    tokio::join!(send, pause_and_read);
}

#[tokio::test]
async fn while_we_do_not_read_silence_does_not_count() {
    let (mut ours, mut peer) = raw::accepted(quick()).await;
    let filler = vec![b'x'; 64 * 1024];
    let flood = async {
        for _ in 0..20 {
            peer.send(TEXT, &filler).await;
        }
    };
    timeout(Duration::from_secs(5), flood).await.expect("it fits into the buffers");
    // Our queue is full, so nothing of the peer is heard: its pongs would wait behind its messages.
    tokio::time::sleep(SILENCE * 3).await;
    for _ in 0..20 {
        assert_eq!(ours.receiver.recv().await.map(|message| message.len()), Ok(64 * 1024));
    }
    let start = Instant::now();
    assert_eq!(ours.receiver.recv().await, Err(Disconnect::Silent));
    assert!(start.elapsed() >= SILENCE / 2);
}

#[tokio::test]
async fn two_ends_of_ours_keep_each_other_alive_while_idle_and_while_paused() {
    let (client, mut server) = raw::both(quick()).await;
    for _ in 0..6 {
        client.sender.send("x".repeat(64 * 1024)).await.unwrap();
    }
    tokio::time::sleep(SILENCE * 4).await;
    for _ in 0..6 {
        assert!(server.receiver.recv().await.is_ok());
    }
    tokio::time::sleep(SILENCE * 3).await;
    client.sender.send("end").await.unwrap();
    assert_eq!(server.receiver.recv().await, Ok("end".into()));
}

/// The other side of the pause: the peer's machine is gone while we hold bytes for it, or do not read.
#[tokio::test]
#[ignore = "takes the loopback interface down: unshare -rn cargo test -p exedra-link --test sockets -- --ignored vanished"]
async fn a_vanished_machine_is_noticed_while_silence_is_excused() {
    let loopback = |state: &str| {
        let ip = std::process::Command::new("ip").args(["link", "set", "lo", state]).status();
        assert!(ip.unwrap().success());
    };
    for paused_by_us in [true, false] {
        loopback("up");
        let (ours, mut peer) = raw::accepted(quick()).await;
        let filler = "x".repeat(64 * 1024);
        let fill = async {
            for _ in 0..200 {
                if paused_by_us {
                    peer.send(TEXT, filler.as_bytes()).await;
                } else {
                    ours.sender.send(filler.clone()).await.unwrap();
                }
            }
        };
        assert!(timeout(SILENCE * 5, fill).await.is_err());
        assert_eq!(ours.sender.disconnect(), None, "a paused peer stays");
        loopback("down");
        let end = timeout(Duration::from_secs(60), ours.sender.ended()).await.expect("it is noticed");
        assert_eq!(end, Disconnect::Silent, "paused by us: {paused_by_us}");
    }
}
