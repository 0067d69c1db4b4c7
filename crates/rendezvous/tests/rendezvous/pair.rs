//! What passes between an executor and its client.

use std::time::Duration;

use bytes::Bytes;
use exedra_proto::ticket::Role;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame as WsFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use crate::raw::{Frame, RawPeer, head, masked};
use crate::stage::{LONG, Peer, Stage, claims, closed, message, within};

const MIB: usize = 1024 * 1024;

fn pattern(len: usize, seed: u64) -> Bytes {
    let mut bytes = vec![0; len];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes.into()
}

async fn raw_pair(stage: &Stage) -> (RawPeer, RawPeer) {
    let executor = RawPeer::dial(stage, &claims(Role::Executor)).await;
    stage.presence.told(1).await;
    let client = RawPeer::dial(stage, &claims(Role::Harness)).await;
    stage.presence.told(2).await;
    (executor, client)
}

#[tokio::test]
async fn messages_pass_both_ways_as_they_came() {
    let stage = Stage::start().await;
    let (mut executor, mut client) = stage.pair().await;
    let messages = [
        Message::text("{\"id\":1}"),
        Message::binary(vec![1, 0, 255]),
        Message::text(""),
        Message::binary(vec![]),
        Message::text("ä".repeat(40_000)),
        Message::binary(pattern(300_000, 1)),
    ];
    for sent in &messages {
        client.send(sent.clone()).await.unwrap();
        assert!(message(&mut executor).await == *sent);
        executor.send(sent.clone()).await.unwrap();
        assert!(message(&mut client).await == *sent);
    }
    for sent in &messages {
        client.feed(sent.clone()).await.unwrap();
    }
    client.flush().await.unwrap();
    for sent in &messages {
        assert!(message(&mut executor).await == *sent);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_conversation_of_small_messages_loses_none_of_them() {
    let stage = Stage::start().await;
    let (mut executor, mut client) = stage.pair().await;
    let mut echo = JoinSet::new();
    echo.spawn(async move {
        while let Some(Ok(Message::Binary(number))) = executor.next().await {
            // Some answers come later than a look of the relay takes.
            if number[0] == 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            executor.send(Message::Binary(number)).await.unwrap();
        }
    });
    for number in 0..3_000_u64 {
        let sent = Message::binary(number.to_le_bytes().to_vec());
        client.send(sent.clone()).await.unwrap();
        assert!(message(&mut client).await == sent, "{number}");
    }
    drop(client);
    within(echo.join_next()).await.unwrap().unwrap();
}

#[tokio::test]
async fn random_messages_in_random_fragments_pass_both_ways_at_once() {
    let stage = Stage::start().await;
    let (executor, client) = stage.pair().await;
    let talk = async |peer: Peer, own: u64, other: u64| {
        let messages = |seed: u64| {
            let mut rng = fastrand::Rng::with_seed(seed);
            let sizes = [5, 200, 20_000, 150_000];
            (0..150).map(move |i| pattern(rng.usize(..sizes[i % 4]), seed + i as u64)).collect::<Vec<_>>()
        };
        let (mut sink, mut stream) = peer.split();
        let send = async {
            let mut rng = fastrand::Rng::with_seed(own);
            for message in messages(own) {
                let cuts = rng.usize(..4);
                let mut rest = message;
                for part in 0..=cuts {
                    let bit = rest.split_to(if part == cuts { rest.len() } else { rng.usize(..=rest.len()) });
                    let opcode = if part == 0 { Data::Binary } else { Data::Continue };
                    let frame = WsFrame::message(bit, OpCode::Data(opcode), part == cuts);
                    sink.send(Message::Frame(frame)).await.unwrap();
                    if rng.u8(..) < 30 {
                        sink.send(Message::Ping(Bytes::from_static(b"between"))).await.unwrap();
                    }
                }
            }
        };
        let receive = async {
            for expected in messages(other) {
                loop {
                    match within(stream.next()).await.unwrap().unwrap() {
                        Message::Binary(got) => break assert!(got == expected),
                        Message::Pong(payload) => assert_eq!(payload, "between"),
                        other => panic!("{other:?}"),
                    }
                }
            }
        };
        tokio::join!(send, receive);
    };
    tokio::join!(talk(executor, 1, 1_000), talk(client, 1_000, 1));
}

#[tokio::test]
async fn a_message_of_64_mib_passes_and_a_larger_one_is_refused_to_its_sender() {
    // Nobody waits for this deadline: the rest of the message is read to find the sender's answer behind it.
    let stage = Stage::with(|config| config.times.close_deadline = 10 * LONG).await;
    let (executor, client) = stage.pair().await;
    let ((mut to_client, mut from_client), (mut to_executor, mut from_executor)) = (executor.split(), client.split());
    let whole = pattern(64 * MIB, 7);
    for (sink, stream) in [(&mut to_executor, &mut from_client), (&mut to_client, &mut from_executor)] {
        let (sent, got) = tokio::join!(sink.send(Message::binary(whole.clone())), within(stream.next()));
        sent.unwrap();
        assert!(got.unwrap().unwrap().into_data() == whole);
    }
    let (mut executor, mut client) =
        (from_client.reunite(to_client).unwrap(), from_executor.reunite(to_executor).unwrap());
    let larger = Message::binary(vec![7; 65 * MIB]);
    let (sent, told) = tokio::join!(client.send(larger), closed(&mut executor));
    drop(sent);
    assert_eq!(told, (4400, vec![]), "the executor is not to blame");
    assert_eq!(closed(&mut client).await.0, 1009);
    assert_eq!(stage.presence.told(3).await[2], format!("offline r {}", 2 * 64 * MIB));
}

#[tokio::test]
async fn the_limit_counts_over_the_frames_of_a_message() {
    let stage = Stage::start().await;
    let (mut executor, mut client) = stage.pair().await;
    let send = async {
        for i in 0..33 {
            let opcode = if i == 0 { Data::Binary } else { Data::Continue };
            let part = WsFrame::message(vec![0; 2 * MIB], OpCode::Data(opcode), false);
            if client.send(Message::Frame(part)).await.is_err() {
                break;
            }
        }
        closed(&mut client).await.0
    };
    let (sender, other) = tokio::join!(send, closed(&mut executor));
    assert_eq!((sender, other.0), (1009, 4400));
}

#[tokio::test]
async fn a_slow_reader_slows_its_sender_and_loses_nothing() {
    const CHUNKS: u64 = 1_000;
    let stage = Stage::start().await;
    let (executor, mut client) = stage.pair().await;
    let (mut sink, _stream) = executor.split();
    let (sent, progress) = tokio::sync::watch::channel(0);
    let send = async {
        for i in 0..CHUNKS {
            sink.send(Message::binary(pattern(64 * 1024, i))).await.unwrap();
            sent.send_replace(i + 1);
        }
    };
    let read = async {
        let mut progress = progress.clone();
        // Until the sender makes no headway: what it has sent by then lies in the kernel's buffers and our one.
        loop {
            let seen = *progress.borrow_and_update();
            if tokio::time::timeout(std::time::Duration::from_millis(500), progress.changed()).await.is_err() {
                assert!(seen < CHUNKS, "everything was swallowed");
                break;
            }
        }
        for i in 0..CHUNKS {
            assert!(message(&mut client).await.into_data() == pattern(64 * 1024, i), "chunk {i}");
        }
    };
    tokio::join!(send, read);
}

#[tokio::test]
async fn what_an_executor_says_before_its_client_is_there_is_kept() {
    let stage = Stage::start().await;
    let mut executor = stage.executor().await;
    stage.presence.told(1).await;
    executor.send(Message::text("early")).await.unwrap();
    let mut client = stage.client().await;
    assert_eq!(message(&mut client).await, Message::text("early"));
}

#[tokio::test]
async fn text_is_not_judged_and_small_frames_stay_single() {
    let stage = Stage::start().await;
    let (mut executor, mut client) = raw_pair(&stage).await;
    client.send(&[masked(0x01, &[0xff, 0xfe]), masked(0x80, &[0xc0])].concat()).await;
    assert_eq!(executor.frame().await.unwrap(), Frame { first: 0x01, payload: vec![0xff, 0xfe] });
    assert_eq!(executor.frame().await.unwrap(), Frame { first: 0x80, payload: vec![0xc0] });
    let bytes = masked(0x82, &[5; 9_000]);
    for bit in bytes.chunks(1_000) {
        client.send(bit).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(executor.frame().await.unwrap(), Frame { first: 0x82, payload: vec![5; 9_000] });
}

#[tokio::test]
async fn a_large_frame_passes_as_it_arrives_with_control_frames_between() {
    let stage = Stage::start().await;
    let (mut executor, mut client) = raw_pair(&stage).await;
    client.send(&head(0x82, 50 * MIB as u64)).await;
    client.send(&[0; 100_000]).await;
    let mut arrived = 0;
    while arrived < 100_000 {
        let frame = executor.frame().await.unwrap();
        assert_eq!(frame.first, if arrived == 0 { 0x02 } else { 0x00 });
        assert!(frame.payload.len() <= 64 * 1024);
        arrived += frame.payload.len();
    }
    executor.send(&masked(0x89, b"now?")).await;
    assert_eq!(executor.frame().await.unwrap(), Frame { first: 0x8a, payload: b"now?".to_vec() });
    executor.send(&masked(0x81, b"answer")).await;
    assert_eq!(client.frame().await.unwrap(), Frame { first: 0x81, payload: b"answer".to_vec() });
}

#[tokio::test]
async fn pings_are_answered_by_the_rendezvous_and_not_passed_on() {
    let stage = Stage::start().await;
    let (mut executor, mut client) = raw_pair(&stage).await;
    client.send(&masked(0x89, b"a")).await;
    assert_eq!(client.frame().await.unwrap(), Frame { first: 0x8a, payload: b"a".to_vec() });
    client.send(&[masked(0x8a, b"nobody asked"), masked(0x81, b"x")].concat()).await;
    assert_eq!(executor.frame().await.unwrap(), Frame { first: 0x81, payload: b"x".to_vec() });
    // Of many pings at once the last is answered; the flood neither queues nor stops the messages behind it.
    let flood: Vec<u8> = (0..10_000u32).flat_map(|i| masked(0x89, &i.to_be_bytes())).collect();
    client.send(&[flood, masked(0x81, b"y")].concat()).await;
    assert_eq!(executor.frame().await.unwrap(), Frame { first: 0x81, payload: b"y".to_vec() });
    loop {
        let pong = client.frame().await.unwrap();
        assert_eq!(pong.first, 0x8a);
        if pong.payload == 9_999u32.to_be_bytes() {
            break;
        }
    }
}

#[tokio::test]
async fn a_broken_rule_ends_the_pair_with_1002_after_what_came_before() {
    let mut long = vec![0x89, 0x80 | 126, 0, 126];
    long.extend([0; 130]);
    for broken in [
        vec![0x81, 0x01, b'x'],
        masked(0xc1, b"x"),
        masked(0x83, b"x"),
        masked(0x80, b"x"),
        masked(0x09, b"x"),
        [masked(0x01, b"x"), masked(0x81, b"y")].concat(),
        long,
    ] {
        for from_client in [true, false] {
            let stage = Stage::start().await;
            let (executor, client) = raw_pair(&stage).await;
            let (mut offender, mut other) = if from_client { (client, executor) } else { (executor, client) };
            offender.send(&[masked(0x81, b"before"), broken.clone()].concat()).await;
            assert_eq!(offender.close_code().await, 1002, "{broken:02x?}");
            assert_eq!(other.frame().await.unwrap(), Frame { first: 0x81, payload: b"before".to_vec() });
            let mut next = other.frame().await.unwrap();
            if next.first == 0x01 {
                next = other.frame().await.unwrap();
            }
            // A client learns what its executor did; an executor learns that its client is lost.
            let code: u16 = if from_client { 4400 } else { 1002 };
            assert_eq!((next.first, &next.payload[..2]), (0x88, &code.to_be_bytes()[..]));
            assert_eq!(stage.presence.told(3).await.len(), 3);
        }
    }
}

#[tokio::test]
async fn a_frame_of_an_impossible_length_is_refused_at_its_head() {
    let stage = Stage::start().await;
    let (mut executor, mut client) = raw_pair(&stage).await;
    client.send(&head(0x82, 1 << 40)).await;
    assert_eq!(client.close_code().await, 1009);
    assert_eq!(executor.close_code().await, 4400);
}

#[tokio::test]
async fn a_frame_sent_together_with_the_request_arrives() {
    let stage = Stage::start().await;
    let mut executor = stage.executor().await;
    stage.presence.told(1).await;
    let early = [masked(0x81, b"early"), masked(0x82, &[7; 30_000])].concat();
    let _client = RawPeer::dial_with(&stage, &claims(Role::Harness), &early).await;
    assert_eq!(message(&mut executor).await, Message::text("early"));
    assert_eq!(message(&mut executor).await, Message::binary(vec![7; 30_000]));
}

#[tokio::test]
async fn a_connection_that_is_no_tcp_stream_is_served_too() {
    let stage = Stage::start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let app = stage.rendezvous.router();
    let mut server = tokio::task::JoinSet::new();
    server.spawn(async move { axum::serve(listener, app).await.unwrap() });
    let dial = async |role| {
        let stream = tokio::net::UnixStream::connect(&path).await.unwrap();
        within(tokio_tungstenite::client_async(stage.sign(&claims(role)), stream)).await.unwrap().0
    };
    let mut executor = dial(Role::Executor).await;
    stage.presence.told(1).await;
    let mut client = dial(Role::Harness).await;
    let sent = Message::binary(pattern(3 * MIB, 3));
    let (done, got) = tokio::join!(client.send(sent.clone()), within(executor.next()));
    done.unwrap();
    assert!(got.unwrap().unwrap() == sent);
}
