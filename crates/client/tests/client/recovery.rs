//! A lost connection: the session is resumed on another, and every byte comes once, in and out.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use exedra_client::line::Change;
use exedra_client::process::{Command, Event, Process};
use exedra_client::recover::Recovery;
use exedra_client::{Error, Executor};
use exedra_link::connection::Connection;
use exedra_link::error::Disconnect;
use exedra_link::memory;
use exedra_proto::session::ExedraOne;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::peer::{Peer, drain, start};

/// Where connections come from: what is put in here is dialled.
struct Door(mpsc::UnboundedSender<Connection>);

impl Door {
    /// The next connection, as the executor sees it.
    fn next(&self) -> Peer {
        let (ours, theirs) = memory::pair();
        self.0.send(ours).unwrap();
        Peer::new(theirs)
    }
}

/// An executor handle that recovers, the peer behind it, and where the next connections come from.
async fn open(parts: Value) -> (Executor, Peer, Door) {
    let (sender, connections) = mpsc::unbounded_channel::<Connection>();
    let connections = Arc::new(tokio::sync::Mutex::new(connections));
    let redial = move |_| -> exedra_client::recover::Dialling {
        let connections = Arc::clone(&connections);
        Box::pin(
            async move { connections.lock().await.recv().await.ok_or(Error::LostBeforeSession(Disconnect::Dropped)) },
        )
    };
    let recovery = Recovery { budget: Duration::from_secs(30), redial: Box::new(redial), direct: false };
    let (ours, theirs) = memory::pair();
    let mut peer = Peer::new(theirs);
    let offer = (parts != json!(null)).then_some(ExedraOne::SUPPORTED);
    let opened = Executor::open_with(ours, "test", offer, Some(recovery));
    let (executor, ()) = tokio::join!(opened, async {
        let call = peer.call("initialize").await;
        assert_eq!(call.params["extensions"].is_null(), parts.is_null(), "{}", call.params);
        answer_opening(&mut peer, &call, &parts).await;
        if parts.is_null() || parts == json!({}) {
            peer.asked_for_paths().await;
        }
    });
    (executor.unwrap(), peer, Door(sender))
}

async fn answer_opening(peer: &mut Peer, call: &crate::peer::Call, parts: &Value) {
    let mut result = json!({"sessionId": "6a0c"});
    if !parts.is_null() {
        result["extensions"] = json!({"exedra/1": parts});
    }
    peer.answer(call, result).await;
    assert_eq!(peer.message().await["method"], "initialized");
}

/// Answers a resumption.
async fn resumed(peer: &mut Peer, parts: &Value) {
    let call = peer.call("initialize").await;
    assert_eq!(call.params["resumeSessionId"], "6a0c");
    answer_opening(peer, &call, parts).await;
}

/// A process of which one event was given before the connection vanished.
async fn broken(parts: &Value) -> (Executor, Process, Door) {
    let (executor, mut peer, door) = open(parts.clone()).await;
    let (mut process, id) = start(&executor, &mut peer).await;
    peer.output(&id, 1, "stdout", b"one").await;
    process.next().await.unwrap();
    peer.vanish();
    (executor, process, door)
}

/// What a read answers.
fn snapshot(chunks: &[(u64, &str)], next_seq: u64, exit_code: Option<i32>, closed: bool) -> Value {
    let chunk = |(seq, text): &(u64, &str)| {
        let chunk = exedra_proto::base64::Base64Text::encode(text.as_bytes());
        json!({"seq": seq, "stream": "stdout", "chunk": chunk})
    };
    let chunks: Vec<Value> = chunks.iter().map(chunk).collect();
    json!({"chunks": chunks, "nextSeq": next_seq, "exited": exit_code.is_some(), "exitCode": exit_code,
        "closed": closed, "failure": null})
}

fn texts(output: Vec<(&'static str, String)>) -> String {
    output.into_iter().map(|(_, text)| text).collect()
}

#[tokio::test]
async fn by_the_rules_for_stock_executors_what_was_missed_is_read() {
    let stock = json!(null);
    let (executor, mut peer, door) = open(stock.clone()).await;
    let mut changes = executor.changes();
    let (mut process, id) = start(&executor, &mut peer).await;
    peer.output(&id, 1, "stdout", b"one").await;
    assert!(matches!(process.next().await.unwrap(), Some(Event::Output { .. })));
    peer.output(&id, 2, "stdout", b"two").await;
    peer.vanish();
    let script = async {
        let mut peer = door.next();
        resumed(&mut peer, &stock).await;
        let read = peer.call("process/read").await;
        // What has come and was not given yet may be asked for again.
        assert!(read.params["afterSeq"] == 1 || read.params["afterSeq"] == 2, "{}", read.params);
        assert!(read.params["maxBytes"].is_null());
        // Far more than is held behind a gap that nobody fills.
        for seq in 7..2_000 {
            peer.output(&id, seq, "stdout", b".").await;
        }
        let early = snapshot(&[(2, "two"), (3, "three"), (5, "five"), (6, "six")], 7, Some(3), false);
        peer.answer(&read, early).await;
        // It ended with a piece: was that all?
        let read = peer.call("process/read").await;
        assert_eq!(read.params["afterSeq"], 6);
        peer.answer(&read, snapshot(&[], 7, Some(3), false)).await;
        peer.closed(&id, 2_000).await;
        peer
    };
    let ((output, code), _peer) = tokio::join!(drain(&mut process), script);
    assert_eq!((texts(output), code), (format!("twothreefivesix{}", ".".repeat(1_993)), 3));
    assert_eq!(changes.next().await, Some(Change::Resumed), "the latest state");
}

#[tokio::test]
async fn the_end_is_found_in_a_read_and_a_second_break_begins_again() {
    let stock = json!(null);
    let (_executor, mut process, door) = broken(&stock).await;
    let script = async {
        let mut peer = door.next();
        resumed(&mut peer, &stock).await;
        peer.call("process/read").await;
        peer.vanish();
        let mut peer = door.next();
        resumed(&mut peer, &stock).await;
        let read = peer.call("process/read").await;
        peer.answer(&read, snapshot(&[(2, "two")], 5, Some(7), true)).await;
        peer
    };
    let ((output, code), _peer) = tokio::join!(drain(&mut process), script);
    assert_eq!((texts(output).as_str(), code), ("two", 7));
}

#[tokio::test]
async fn what_was_read_before_another_break_is_kept_for_asking_for_more_has_confirmed_it() {
    let stock = json!(null);
    let (_executor, mut process, door) = broken(&stock).await;
    let script = async {
        let mut peer = door.next();
        resumed(&mut peer, &stock).await;
        let read = peer.call("process/read").await;
        assert_eq!(read.params["afterSeq"], 1);
        peer.answer(&read, snapshot(&[(2, "two"), (3, "three")], 4, Some(7), false)).await;
        // It ended with a piece though the process has exited, so more is asked for.
        let read = peer.call("process/read").await;
        assert_eq!(read.params["afterSeq"], 3);
        peer.vanish();
        let mut peer = door.next();
        resumed(&mut peer, &stock).await;
        let read = peer.call("process/read").await;
        assert_eq!(read.params["afterSeq"], 3, "the executor has nothing before it any more");
        peer.answer(&read, snapshot(&[(4, "four")], 7, Some(7), true)).await;
        peer
    };
    let ((output, code), _peer) = tokio::join!(drain(&mut process), script);
    assert_eq!((texts(output).as_str(), code), ("twothreefour", 7));
}

#[tokio::test]
async fn what_is_not_there_any_more_is_a_loss_that_is_told() {
    let stock = json!(null);
    for (answer, unknown) in [(snapshot(&[(9, "nine")], 10, None, false), false), (json!(null), true)] {
        let (_executor, mut process, door) = broken(&stock).await;
        let script = async {
            let mut peer = door.next();
            resumed(&mut peer, &stock).await;
            let read = peer.call("process/read").await;
            match unknown {
                true => peer.refuse(&read, -32600, "unknown process id 1").await,
                false => peer.answer(&read, answer).await,
            }
            peer
        };
        let (lost, _peer) = tokio::join!(process.next(), script);
        assert!(matches!(lost, Err(Error::NotRecovered(_))), "{lost:?}");
    }
}

#[tokio::test]
async fn a_session_that_is_gone_ends_it_and_the_cause_is_told() {
    let (executor, mut peer, door) = open(json!({})).await;
    let (mut process, _id) = start(&executor, &mut peer).await;
    peer.vanish();
    let script = async {
        // Held for a moment by a connection that is not known to be gone.
        let mut peer = door.next();
        let call = peer.call("initialize").await;
        peer.refuse(&call, -32010, "session 6a0c is already attached to another connection").await;
        let mut peer = door.next();
        let call = peer.call("initialize").await;
        peer.refuse(&call, -32600, "unknown session id 6a0c").await;
        peer
    };
    let (lost, _peer) = tokio::join!(process.next(), script);
    let error = lost.unwrap_err();
    let chain: Vec<String> = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source())
        .map(ToString::to_string)
        .collect();
    assert!(chain[0].contains("may still be running") && chain.join("\n").contains("unknown session id"), "{chain:?}");
    assert!(matches!(executor.start(&Command::new(["prog"])).await, Err(Error::NotSent { .. })));
    executor.finished().await;
}

#[tokio::test]
async fn where_it_is_confirmed_what_comes_twice_is_given_once() {
    let parts = json!({"ack": true});
    let (executor, mut peer, door) = open(parts.clone()).await;
    let (mut process, id) = start(&executor, &mut peer).await;
    let large = vec![b'x'; 100 * 1024];
    let ours = async {
        for _ in 0..4 {
            process.next().await.unwrap();
        }
    };
    let script = async {
        for seq in 1..=4 {
            peer.output(&id, seq, "stdout", &large).await;
        }
        let ack = peer.message().await;
        // The third was not asked for yet when the second was found to be enough.
        assert_eq!(ack, json!({"method": "process/ack", "params": {"processId": id, "seq": 2}}));
        peer
    };
    let ((), peer) = tokio::join!(ours, script);
    peer.vanish();
    let script = async {
        let mut peer = door.next();
        resumed(&mut peer, &parts).await;
        let ack = peer.message().await;
        assert_eq!(ack, json!({"method": "process/ack", "params": {"processId": id, "seq": 4}}), "all that was given");
        for (seq, text) in [(3, "again"), (4, "again"), (5, "five"), (6, "six")] {
            peer.output(&id, seq, "stdout", text.as_bytes()).await;
        }
        peer.exited(&id, 7, 0).await;
        peer.closed(&id, 8).await;
        let ack = peer.message().await;
        assert_eq!(ack["params"], json!({"processId": id, "seq": 8}), "the end at once");
        peer
    };
    let ((output, code), mut peer) = tokio::join!(drain(&mut process), script);
    assert_eq!((texts(output).as_str(), code), ("fivesix", 0));
    drop(process);
    // Nobody follows this one, and it must not wait for that.
    let (dropped, other) = start(&executor, &mut peer).await;
    drop(dropped);
    let ack = peer.message().await;
    assert_eq!(ack["params"], json!({"processId": other, "seq": u64::MAX}));
    peer.output(&other, 1, "stdout", b"x").await;
    assert_eq!(peer.message().await["params"], json!({"processId": other, "seq": 1}));
}

#[tokio::test]
async fn stdin_is_written_again_in_order_with_the_same_ids() {
    let stock = json!(null);
    let (executor, mut peer, door) = open(stock.clone()).await;
    let (process, _id) = start(&executor, &mut peer).await;
    let (queue, source) = mpsc::channel(40);
    for n in 0..40u8 {
        queue.try_send(Bytes::from(vec![n])).unwrap();
    }
    drop(queue);
    let accepted = Mutex::new(Vec::new());
    let note = |call: &crate::peer::Call| accepted.lock().unwrap().push(call.params["writeId"].clone());
    let script = async {
        let mut first = Vec::new();
        // Sixteen are under way; each of the first three that is answered lets another follow.
        for n in 0..19 {
            let call = peer.call("process/write").await;
            first.push(call.params.clone());
            if n < 3 {
                note(&call);
                peer.answer(&call, json!({"status": "accepted"})).await;
            }
        }
        peer.vanish();
        let mut peer = door.next();
        resumed(&mut peer, &stock).await;
        let mut again = Vec::new();
        let mut reads = 0;
        while again.len() < 37 {
            let message = peer.message().await;
            let call = crate::peer::Call {
                id: message["id"].clone(),
                method: message["method"].as_str().unwrap().to_owned(),
                params: message["params"].clone(),
            };
            if call.method == "process/read" {
                reads += 1;
                peer.answer(&call, snapshot(&[], 1, None, false)).await;
                continue;
            }
            note(&call);
            peer.answer(&call, json!({"status": "accepted"})).await;
            again.push(call.params);
        }
        assert_eq!(reads, 1);
        (first, again, peer)
    };
    let controls = process.controls();
    let (fed, (first, again, _peer)) = tokio::join!(controls.feed(source), script);
    fed.unwrap();
    assert_eq!(again[..16], first[3..], "the same again, ids included");
    let bytes = |params: &Value| params["chunk"].as_str().unwrap().to_owned();
    let expected: Vec<String> = (3..40u8).map(|n| exedra_proto::base64::Base64Text::encode(&[n]).0).collect();
    assert_eq!(again.iter().map(bytes).collect::<Vec<_>>(), expected);
    assert_eq!(accepted.lock().unwrap().len(), 40);
}

#[tokio::test]
async fn a_start_without_an_answer_is_asked_after_and_never_repeated() {
    for there in [true, false] {
        let parts = json!({"ack": true});
        let (executor, mut peer, door) = open(parts.clone()).await;
        let command = Command::new(["prog"]);
        let script = async {
            peer.call("process/start").await;
            peer.vanish();
            let mut peer = door.next();
            resumed(&mut peer, &parts).await;
            let read = peer.call("process/read").await;
            match there {
                true => peer.answer(&read, snapshot(&[], 1, None, false)).await,
                false => peer.refuse(&read, -32600, "unknown process id 1").await,
            }
            peer
        };
        let (started, _peer) = tokio::join!(executor.start(&command), script);
        match started {
            Ok(_) => assert!(there),
            Err(error) => assert!(!there && matches!(error, Error::Unanswered { .. }), "{error}"),
        }
    }
}
