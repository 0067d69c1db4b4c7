//! How connections end, what the other side is told, and what the registry hears.

use std::sync::{Arc, RwLock};
use std::time::Duration;

use exedra_proto::close::CloseReason;
use exedra_proto::ids::{RegistrationId, TokenId};
use exedra_proto::plane::{Cutoff, Presence};
use exedra_proto::ticket::{Claims, KeyRing, Role, Shape, SigningKey};
use exedra_rendezvous::Rendezvous;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::AsyncWriteExt as _;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use crate::raw::{RawPeer, masked};
use crate::stage::{Peer, Stage, claims, closed, message, within};

/// Says close, and waits for the answer.
async fn close(peer: &mut Peer, code: u16) -> u16 {
    peer.close(Some(CloseFrame { code: code.into(), reason: "enough".into() })).await.unwrap();
    closed(peer).await.0
}

#[tokio::test]
async fn a_client_that_is_done_ends_its_executors_connection_in_good_order() {
    let stage = Stage::start().await;
    let (mut executor, mut client) = stage.pair().await;
    client.send(Message::text("four")).await.unwrap();
    executor.send(Message::text("sixsix")).await.unwrap();
    message(&mut client).await;
    assert_eq!(close(&mut client, 1000).await, 1000);
    assert_eq!(closed(&mut executor).await, (1000, b"four".to_vec()));
    assert_eq!(stage.presence.told(3).await, ["online r 1", "held r", "offline r 10"]);
    let (_executor, _client) = stage.pair().await;
    assert_eq!(stage.presence.told(5).await[3..], ["online r 1", "held r"]);
}

#[tokio::test]
async fn both_ends_of_a_pair_have_the_bytes_that_went_through_it() {
    let stage = Stage::start().await;
    let (mut executor, mut client) = stage.pair().await;
    client.send(Message::text("four")).await.unwrap();
    message(&mut executor).await;
    executor.send(Message::text("sixsix")).await.unwrap();
    message(&mut client).await;
    let present = Cutoff::connections(&*stage.rendezvous);
    let bytes: Vec<_> = present.iter().map(|one| one.bytes).collect();
    assert_eq!(bytes, [10, 10], "{present:?}");
    assert_eq!(stage.rendezvous.figures().bytes, 10, "and are relayed once");
    drop((executor, client));
    stage.presence.told(3).await;
    within(stage.rendezvous.emptied()).await;
    assert_eq!(stage.rendezvous.figures().bytes, 10);
}

#[tokio::test]
async fn a_client_that_is_lost_ends_it_with_another_code() {
    let stage = Stage::start().await;
    let (mut executor, client) = stage.pair().await;
    drop(client);
    assert_eq!(closed(&mut executor).await.0, CloseReason::PeerLost.code());
    stage.presence.told(3).await;
}

#[tokio::test]
async fn a_client_is_told_how_its_executor_ended() {
    let stage = Stage::start().await;
    let (mut executor, mut client) = stage.pair().await;
    assert_eq!(close(&mut executor, 1000).await, 1000);
    assert_eq!(closed(&mut client).await.0, 1000);
    stage.presence.told(3).await;
    let (executor, mut client) = stage.pair().await;
    drop(executor);
    assert_eq!(closed(&mut client).await.0, CloseReason::PeerLost.code());
    assert_eq!(stage.presence.told(6).await[5], "offline r 0");
    for (code, told) in
        [(1001, CloseReason::PeerLeaving), (1007, CloseReason::InvalidUtf8), (3999, CloseReason::PeerLost)]
    {
        let (mut executor, mut client) = stage.pair().await;
        assert_eq!(close(&mut executor, code).await, code);
        assert_eq!(closed(&mut client).await.0, told.code());
    }
}

#[tokio::test]
async fn an_executor_that_waits_may_leave() {
    let stage = Stage::start().await;
    let mut executor = stage.executor().await;
    stage.presence.told(1).await;
    assert_eq!(close(&mut executor, 1000).await, 1000);
    assert_eq!(stage.presence.told(2).await, ["online r 1", "offline r 0"]);
}

#[tokio::test]
async fn all_that_came_before_a_close_frame_arrives_however_slow_the_reader() {
    let stage = Stage::with(|config| config.times.close_deadline = Duration::from_millis(200)).await;
    let (mut executor, mut client) = stage.pair().await;
    let chunk = vec![7; 1024 * 1024];
    let mut sent = 0;
    // Until the client's side is full to the brim.
    while tokio::time::timeout(Duration::from_millis(300), executor.send(Message::binary(chunk.clone()))).await.is_ok()
    {
        sent += 1;
    }
    let finish = async {
        executor.flush().await.unwrap();
        executor.send(Message::text("the end")).await.unwrap();
        executor.close(None).await.unwrap();
        closed(&mut executor).await.0
    };
    let read = async {
        let mut data = Vec::new();
        while data.len() <= sent * chunk.len() {
            data.extend(message(&mut client).await.into_data());
        }
        // The executor has left by now, and the registry knows; its last words are still on their way.
        stage.presence.told(2).await;
        let (code, rest) = closed(&mut client).await;
        data.extend(rest);
        (code, data)
    };
    let (answered, (code, data)) = tokio::join!(finish, read);
    assert_eq!((answered, code), (1005, 1000));
    assert!(data.ends_with(b"the end"));
    assert_eq!(data.len(), (sent + 1) * chunk.len() + 7);
}

#[tokio::test]
async fn an_executor_that_left_is_offline_while_its_last_words_wait_for_a_slow_client() {
    let stage = Stage::with(|config| config.times.close_deadline = Duration::from_millis(200)).await;
    let executor = RawPeer::dial(&stage, &claims(Role::Executor)).await;
    stage.presence.told(1).await;
    let mut client = RawPeer::dial(&stage, &claims(Role::Harness)).await;
    stage.presence.told(2).await;
    let frame = masked(0x82, &[7; 60_000]);
    let mut sent = 0usize;
    // One frame at a time, each taken whole before the next, so that the close frame follows the last one.
    loop {
        executor.stream.writable().await.unwrap();
        let mut at = 0;
        let whole = async {
            while at < frame.len() {
                executor.stream.writable().await.unwrap();
                if let Ok(written) = executor.stream.try_write(&frame[at..]) {
                    at += written;
                }
            }
        };
        if tokio::time::timeout(Duration::from_millis(300), whole).await.is_err() {
            break;
        }
        sent += 1;
        if sent > 2_000 {
            panic!("nothing holds the executor back");
        }
    }
    drop(executor);
    let mut got = 0;
    loop {
        let frame = client.frame().await.expect("a close frame");
        match frame.first {
            0x88 => break assert_eq!(frame.payload[..2], CloseReason::PeerLost.code().to_be_bytes()),
            0x89 => {}
            _ => got += frame.payload.len(),
        }
    }
    assert!(got >= sent * 60_000, "{got} of {}", sent * 60_000);
}

#[tokio::test]
async fn a_newer_connection_of_an_executor_replaces_the_older_and_its_client_is_told() {
    let stage = Stage::start().await;
    let (mut older, mut client) = stage.pair().await;
    let _newer = stage.executor().await;
    assert_eq!(closed(&mut older).await.0, CloseReason::Replaced.code());
    assert_eq!(closed(&mut client).await.0, CloseReason::Replaced.code());
    assert_eq!(stage.presence.told(4).await, ["online r 1", "held r", "offline r 0", "online r 1"]);
    let _client = stage.client().await;
    stage.presence.told(5).await;
}

#[tokio::test]
async fn a_cut_registration_closes_both_at_once_also_a_client_that_reads_nothing() {
    let stage = Stage::with(|config| config.times.close_deadline = Duration::from_millis(300)).await;
    let (mut executor, mut client) = stage.pair().await;
    let chunk = vec![7; 1024 * 1024];
    while tokio::time::timeout(Duration::from_millis(300), executor.send(Message::binary(chunk.clone()))).await.is_ok()
    {
    }
    let registration = RegistrationId::new("r");
    stage.rendezvous.registration(&registration, CloseReason::Revoked);
    assert!(stage.presence.told(3).await[2].starts_with("offline r "));
    assert_eq!(closed(&mut executor).await.0, CloseReason::Revoked.code());
    within(async {
        while stage.rendezvous.connections() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    while within(client.next()).await.is_some_and(|message| message.is_ok()) {}
}

#[tokio::test]
async fn a_cut_token_closes_its_connections_and_leaves_the_executor_ready() {
    let stage = Stage::start().await;
    let (mut executor, mut client) = stage.pair().await;
    stage.rendezvous.token(&TokenId::new("tok-other"), CloseReason::Revoked);
    stage.rendezvous.token(&TokenId::new("tok-c"), CloseReason::Revoked);
    assert_eq!(closed(&mut client).await.0, CloseReason::Revoked.code());
    let code = closed(&mut executor).await.0;
    assert!(CloseReason::from_code(code).is_some_and(CloseReason::is_good_order), "{code}");
    let mut executor = stage.executor().await;
    stage.presence.told(4).await;
    stage.rendezvous.token(&TokenId::new("tok-e"), CloseReason::Revoked);
    assert_eq!(closed(&mut executor).await.0, CloseReason::Revoked.code());
    assert_eq!(stage.presence.told(5).await[4], "offline r 0");
}

/// A stage with two signing keys, each as a ring of its own.
async fn two_keys() -> (Stage, KeyRing, KeyRing) {
    let (old, new) = (SigningKey::generate(0).unwrap(), SigningKey::generate(1).unwrap());
    let both = KeyRing::new(vec![old.clone(), new.clone()]);
    let stage = Stage::with(|config| config.key_ring = Arc::new(RwLock::new(both))).await;
    (stage, KeyRing::new(vec![old]), KeyRing::new(vec![new]))
}

fn signed(stage: &Stage, ring: &KeyRing, claims: &Claims) -> String {
    ring.sign(&format!("ws://{}", stage.address), claims).unwrap().expose().to_owned()
}

#[tokio::test]
async fn a_cut_key_closes_what_its_tickets_opened_and_lets_nobody_in() {
    let (stage, old, new) = two_keys().await;
    let mut executor = stage.dial(&signed(&stage, &old, &claims(Role::Executor))).await.unwrap();
    stage.presence.told(1).await;
    let mut client = stage.dial(&signed(&stage, &old, &claims(Role::Harness))).await.unwrap();
    stage.presence.told(2).await;
    stage.rendezvous.key("k0-another", CloseReason::KeyRevoked);
    stage.rendezvous.key(&old.keys()[0].id, CloseReason::KeyRevoked);
    assert_eq!(closed(&mut client).await.0, CloseReason::KeyRevoked.code());
    assert_eq!(closed(&mut executor).await.0, CloseReason::KeyRevoked.code());
    // The ring still has it, as for somebody who was looked at a moment too early.
    for (claims, status) in [
        (claims(Role::Executor), 409),
        (Claims { shape: Shape::Streams, ..claims(Role::Executor) }, 403),
        (claims(Role::Harness), 403),
    ] {
        let (found, reason, _) = stage.refused(&signed(&stage, &old, &claims)).await;
        assert_eq!((found, reason.as_str()), (status, "invalid_signature"));
    }
    let _executor = stage.dial(&signed(&stage, &new, &claims(Role::Executor))).await.unwrap();
    stage.presence.told(4).await;
    stage.dial(&signed(&stage, &new, &claims(Role::Harness))).await.unwrap();
}

#[tokio::test]
async fn a_cut_key_spares_what_another_key_signed() {
    let (stage, old, new) = two_keys().await;
    let other = |role| Claims { registration: RegistrationId::new("s"), ..claims(role) };
    let mut executor = stage.dial(&signed(&stage, &old, &claims(Role::Executor))).await.unwrap();
    let mut spared = stage.dial(&signed(&stage, &new, &other(Role::Executor))).await.unwrap();
    stage.presence.told(2).await;
    let mut cut = stage.dial(&signed(&stage, &old, &other(Role::Harness))).await.unwrap();
    stage.presence.told(3).await;
    stage.rendezvous.key(&old.keys()[0].id, CloseReason::KeyRevoked);
    assert_eq!(closed(&mut executor).await.0, CloseReason::KeyRevoked.code());
    assert_eq!(closed(&mut cut).await.0, CloseReason::KeyRevoked.code());
    // Its client is gone, and it is in good order for the next.
    let code = closed(&mut spared).await.0;
    assert!(CloseReason::from_code(code).is_some_and(CloseReason::is_good_order), "{code}");
    let mut spared = stage.dial(&signed(&stage, &new, &other(Role::Executor))).await.unwrap();
    stage.presence.told(6).await;
    let mut client = stage.dial(&signed(&stage, &new, &other(Role::Harness))).await.unwrap();
    client.send(Message::text("hi")).await.unwrap();
    assert_eq!(message(&mut spared).await, Message::text("hi"));
}

#[tokio::test]
async fn a_drain_sends_all_away_within_its_window() {
    let stage = Stage::with(|config| config.times.drain_window = Duration::from_millis(100)).await;
    let (mut executor, mut client) = stage.pair().await;
    let other = Claims { registration: RegistrationId::new("s"), ..claims(Role::Executor) };
    let mut waiting = stage.dial(&stage.sign(&other)).await.unwrap();
    stage.presence.told(3).await;
    let (_, e, c, w) =
        tokio::join!(stage.rendezvous.shutdown(), closed(&mut executor), closed(&mut client), closed(&mut waiting));
    assert_eq!((e.0, c.0, w.0), (1001, 1001, 1001));
    let mut told = stage.presence.told(5).await;
    told.sort();
    assert_eq!(told, ["held r", "offline r 0", "offline s 0", "online r 1", "online s 1"]);
    assert_eq!(stage.rendezvous.connections(), 0);
}

#[tokio::test]
async fn a_shutdown_waits_for_nobody_longer_than_the_close_deadline() {
    let stage = Stage::with(|config| {
        config.times.drain_window = Duration::ZERO;
        config.times.close_deadline = Duration::from_millis(100);
    })
    .await;
    let _deaf = RawPeer::dial(&stage, &claims(Role::Executor)).await;
    stage.presence.told(1).await;
    within(stage.rendezvous.shutdown()).await;
    assert_eq!(stage.rendezvous.connections(), 0);
    assert_eq!(stage.presence.told(2).await[1], "offline r 0");
}

#[tokio::test]
async fn a_dropped_rendezvous_cuts_all_and_reports_each_once() {
    let stage = Stage::start().await;
    let (mut executor, mut client) = stage.pair().await;
    let presence = stage.drop_rendezvous().await;
    assert_eq!(presence.told(3).await, ["online r 1", "held r", "offline r 0"]);
    while within(executor.next()).await.is_some_and(|message| message.is_ok()) {}
    while within(client.next()).await.is_some_and(|message| message.is_ok()) {}
}

#[tokio::test]
async fn presence_stays_in_order_through_a_storm() {
    let stage = Stage::start().await;
    let storm = async |seed: u64| {
        let mut rng = fastrand::Rng::with_seed(seed);
        for _ in 0..30 {
            let role = if rng.bool() { Role::Executor } else { Role::Harness };
            let Ok(mut peer) = stage.dial(&stage.sign(&claims(role))).await else { continue };
            match rng.u8(..3) {
                0 => drop(peer),
                1 => drop(peer.close(None).await),
                _ => drop(tokio::time::timeout(Duration::from_millis(rng.u64(..5)), peer.next()).await),
            }
        }
    };
    tokio::join!(storm(1), storm(2), storm(3), storm(4));
    within(async {
        while stage.rendezvous.connections() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let told = stage.presence.told(1).await;
    let mut state = "offline";
    for line in &told {
        let word = line.split(' ').next().unwrap();
        let fits =
            matches!((state, word), ("offline", "online") | ("online", "held" | "offline") | ("held", "offline"));
        assert!(fits, "{word} after {state} in {told:?}");
        state = word;
    }
    assert_eq!(state, "offline", "{told:?}");
}

#[tokio::test]
async fn the_last_words_of_a_client_that_hangs_up_while_it_is_written_to_arrive() {
    let stage = Stage::start().await;
    for _ in 0..10 {
        let told = stage.presence.told(0).await.len();
        let (executor, client) = stage.pair().await;
        let (mut sink, mut stream) = executor.split();
        let flood = async {
            let chunk = Message::binary(vec![7; 64 * 1024]);
            while sink.send(chunk.clone()).await.is_ok() {}
        };
        let hang_up = async {
            let mut tcp = client.into_inner();
            tcp.readable().await.unwrap();
            tcp.write_all(&[masked(0x81, b"last words"), masked(0x88, &[0x03, 0xe8])].concat()).await.unwrap();
            // Closed with data unread: the kernel resets the connection.
            drop(tcp);
        };
        let listen = async {
            let mut heard = Vec::new();
            while let Some(Ok(message)) = within(stream.next()).await {
                if !message.is_ping() {
                    heard.push(message);
                }
            }
            heard
        };
        let (_, _, heard) = tokio::join!(flood, hang_up, listen);
        assert_eq!(heard[0], Message::text("last words"));
        assert!(matches!(&heard[1], Message::Close(Some(frame)) if u16::from(frame.code) == 1000), "{heard:?}");
        stage.presence.told(told + 3).await;
    }
}

/// A registry that cuts the older registration from within the report of the newer one.
struct Cutting(std::sync::OnceLock<std::sync::Weak<Rendezvous>>);

impl Presence for Cutting {
    fn online(&self, registration: &RegistrationId, _epoch: u64) {
        if registration.as_str() == "newer" {
            let rendezvous = self.0.get().and_then(std::sync::Weak::upgrade).unwrap();
            rendezvous.registration(&RegistrationId::new("r"), CloseReason::Replaced);
        }
    }

    fn held(&self, _registration: &RegistrationId) {}

    fn offline(&self, _registration: &RegistrationId, _bytes: u64) {}
}

#[tokio::test]
async fn the_registry_may_cut_from_within_a_report() {
    let cutting = Arc::new(Cutting(std::sync::OnceLock::new()));
    let stage = Stage::with(|config| config.presence = cutting.clone()).await;
    cutting.0.set(Arc::downgrade(&stage.rendezvous)).unwrap();
    let mut older = stage.executor().await;
    let newer = Claims { registration: RegistrationId::new("newer"), epoch: 2, ..claims(Role::Executor) };
    let _newer = stage.dial(&stage.sign(&newer)).await.unwrap();
    assert_eq!(closed(&mut older).await.0, CloseReason::Replaced.code());
    assert_eq!(stage.refused(&stage.sign(&claims(Role::Executor))).await.0, 409);
}

#[derive(Clone, Default)]
struct Log(Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_log_says_who_came_and_left_and_no_secret() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    // Where there is one subscriber alone, a test beside this one that comes to a line first switches it off for all.
    tracing::subscriber::set_global_default(tracing_subscriber::registry()).unwrap();
    let _guard = tracing::subscriber::set_default(subscriber);
    let stage = Stage::start().await;
    let (ticket, other) = (stage.sign(&claims(Role::Executor)), stage.sign(&claims(Role::Harness)));
    let mut executor = stage.dial(&ticket).await.unwrap();
    stage.presence.told(1).await;
    let mut client = stage.dial(&other).await.unwrap();
    client.send(Message::text("private words")).await.unwrap();
    message(&mut executor).await;
    stage.refused(&other).await;
    stage.refused(&ticket.replace("role=executor", "role=harness")).await;
    close(&mut client, 1000).await;
    closed(&mut executor).await;
    within(stage.rendezvous.shutdown()).await;
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    for part in ["opened", "joined", "left", "closed by the peer with code 1000", "bytes=13", "ticket_used"] {
        assert!(log.contains(part), "no {part:?} in {log}");
    }
    for url in [&ticket, &other] {
        let query = url.split_once('?').unwrap().1;
        for secret in [query, query.split_once("&sig=").unwrap().1, "sig=", "jti", "private words"] {
            assert!(!log.contains(secret), "{secret} in {log}");
        }
    }
}
