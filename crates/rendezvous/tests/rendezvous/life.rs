//! Signs of life: who is cut for silence, and who is not.

use std::time::Duration;

use exedra_proto::close::CloseReason;
use exedra_proto::ids::RegistrationId;
use exedra_proto::plane::Cutoff as _;
use exedra_proto::ticket::Role;
use exedra_rendezvous::Times;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio_tungstenite::tungstenite::Message;

use crate::raw::{RawPeer, masked};
use crate::stage::{Peer, Stage, claims, closed, message, within};

const QUICK: Times = Times {
    ping_interval: Duration::from_millis(40),
    silence_limit: Duration::from_millis(200),
    close_deadline: Duration::from_millis(200),
    upgrade_deadline: Duration::from_secs(10),
    drain_window: Duration::ZERO,
    challenge: Duration::from_secs(5),
    stall: Duration::from_secs(10),
};

/// Where somebody has to be in time, also on a machine that does much else.
const STEADY: Times = Times {
    ping_interval: Duration::from_millis(100),
    silence_limit: Duration::from_secs(2),
    close_deadline: Duration::from_secs(2),
    challenge: Duration::from_secs(2),
    ..QUICK
};
/// So many pings are more than a silence that is too long.
const PINGS: usize = 30;

async fn quick() -> Stage {
    Stage::with(|config| config.times = QUICK).await
}

async fn steady() -> Stage {
    Stage::with(|config| config.times = STEADY).await
}

/// Answers pings until there were so many that a silent peer would be long gone.
async fn outlive(peer: &mut Peer) {
    for _ in 0..PINGS {
        loop {
            match within(peer.next()).await.expect("an end").expect("a message") {
                Message::Ping(_) => break,
                Message::Pong(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_waiting_executor_is_pinged_and_stays_while_it_answers() {
    let stage = steady().await;
    let mut executor = stage.executor().await;
    outlive(&mut executor).await;
    assert_eq!(stage.presence.told(1).await, ["online r 1"]);
}

#[tokio::test]
async fn a_silent_waiting_executor_is_cut() {
    let stage = quick().await;
    let mut executor = RawPeer::dial(&stage, &claims(Role::Executor)).await;
    assert_eq!(stage.presence.told(2).await, ["online r 1", "offline r 0"]);
    assert_eq!(executor.close_code().await, CloseReason::Silent.code());
}

#[tokio::test]
async fn a_silent_client_is_cut_and_its_executor_told() {
    let stage = steady().await;
    let mut executor = stage.executor().await;
    stage.presence.told(1).await;
    let claims = claims(Role::Harness);
    let (mut client, (told, _)) = tokio::join!(RawPeer::dial(&stage, &claims), closed(&mut executor));
    assert_eq!(told, CloseReason::PeerLost.code());
    assert_eq!(client.close_code().await, CloseReason::Silent.code());
}

#[tokio::test]
async fn whoever_has_an_executor_that_others_want_gives_a_sign_of_life_or_has_it_no_longer() {
    let stage = Stage::with(|config| config.times.challenge = STEADY.challenge).await;
    // Neither silence limit nor ping interval comes into it: they are a minute away.
    let mut executor = stage.executor().await;
    stage.presence.told(1).await;
    let mut alive = stage.client().await;
    stage.presence.told(2).await;
    for _ in 0..3 {
        stage.rendezvous.wanted(&RegistrationId::new("r"));
        let Some(Ok(Message::Ping(_))) = within(alive.next()).await else { panic!("it is asked") };
        // The answer is on its way before this message is.
        alive.send("alive".into()).await.unwrap();
        assert_eq!(message(&mut executor).await, "alive".into());
    }
    alive.close(None).await.unwrap();
    closed(&mut executor).await;
    let mut executor = stage.executor().await;
    stage.presence.told(4).await;
    let mut silent = RawPeer::dial(&stage, &claims(Role::Harness)).await;
    stage.presence.told(5).await;
    stage.rendezvous.wanted(&RegistrationId::new("r"));
    assert_eq!(closed(&mut executor).await.0, CloseReason::PeerLost.code());
    assert_eq!(silent.close_code().await, CloseReason::Silent.code());
}

#[tokio::test]
async fn a_silent_executor_is_cut_and_its_client_told() {
    let stage = steady().await;
    let _executor = RawPeer::dial(&stage, &claims(Role::Executor)).await;
    stage.presence.told(1).await;
    let mut client = stage.client().await;
    assert_eq!(closed(&mut client).await.0, CloseReason::PeerLost.code());
}

#[tokio::test]
async fn a_paused_reader_stays_with_full_buffers_and_with_almost_empty_ones() {
    for size in [5usize, 64 * 1024 * 1024] {
        let stage = steady().await;
        let (executor, mut client) = stage.pair().await;
        outlive_once(&mut client).await;
        let (mut sink, mut stream) = executor.split();
        let sent = vec![7; size];
        let send = async {
            sink.send(Message::binary(sent.clone())).await.unwrap();
            sink
        };
        let live = async {
            // The executor is not paused and answers its pings: by its own count of them time passes.
            for _ in 0..PINGS {
                if size > 1_000 {
                    tokio::time::sleep(STEADY.ping_interval).await;
                } else {
                    let ping = within(stream.next()).await.expect("cut").expect("cut");
                    assert!(matches!(ping, Message::Ping(_)), "{ping:?}");
                }
            }
            assert_eq!(stage.presence.told(2).await.len(), 2, "the pair is no more");
            let got = message(&mut client).await.into_data();
            assert!(got == sent);
            client
        };
        let (_sink, mut client) = tokio::join!(send, live);
        outlive_once(&mut client).await;
    }
}

/// Answers pings for a while.
async fn outlive_once(peer: &mut Peer) {
    while !matches!(within(peer.next()).await.expect("an end").expect("a message"), Message::Ping(_)) {}
    peer.flush().await.unwrap();
}

#[tokio::test]
async fn a_peer_whose_counterpart_is_slow_is_not_read_and_not_cut() {
    let stage = steady().await;
    let mut executor = RawPeer::dial(&stage, &claims(Role::Executor)).await;
    stage.presence.told(1).await;
    let mut client = RawPeer::dial(&stage, &claims(Role::Harness)).await;
    stage.presence.told(2).await;
    let frame = masked(0x82, &[7; 60_000]);
    let mut sent = 0usize;
    let mut at = 0;
    let mut idle = 0;
    // The executor writes until nothing is taken for longer than any silence, and never answers a ping.
    while idle < PINGS {
        match executor.stream.try_write(&frame[at..]) {
            Ok(written) => {
                at = (at + written) % frame.len();
                sent += usize::from(at == 0);
                idle = 0;
            }
            Err(_) => {
                tokio::time::sleep(STEADY.ping_interval).await;
                idle += 1;
            }
        }
    }
    assert_eq!(stage.presence.told(2).await.len(), 2, "the pair is no more");
    executor.send(&frame[at..]).await_with(&mut client, (sent + 1) * 60_000).await;
}

/// A send that needs the other side to read.
trait AwaitWith: Future<Output = ()> + Sized {
    async fn await_with(self, reader: &mut RawPeer, bytes: usize) {
        let read = async {
            let mut got = 0;
            while got < bytes {
                let frame = reader.frame().await.expect("an end");
                if frame.first & 0x08 == 0 {
                    got += frame.payload.len();
                }
            }
            assert_eq!(got, bytes);
        };
        tokio::join!(self, read);
    }
}

impl<F: Future<Output = ()>> AwaitWith for F {}
