//! What differs by what the client of a connection has shown to speak.

use exedra_proto::base64::Base64Text;
use serde_json::{Value, json};

use crate::bench::{Bench, Client, start};

/// One piece of output, then an exit and an end: three events.
async fn run(client: &mut Client, cwd: &str) {
    let mut params = start("p", &["sh", "-c", "printf x"]);
    params["cwd"] = json!(cwd);
    client.post("process/start", params).await;
    assert_eq!(client.follow("p").await.seqs, [1, 2, 3]);
}

async fn next_seq(client: &mut Client, params: Value) -> Value {
    client.call("process/read", params).await["result"]["nextSeq"].clone()
}

#[tokio::test]
async fn a_read_without_a_limit_counts_as_the_client_expects() {
    let mut bench = Bench::new();
    let (mut early, mut late) = (bench.open().await, bench.open().await);
    run(&mut early, "/").await;
    run(&mut late, "file:///").await;
    assert_eq!(next_seq(&mut early, json!({"processId": "p"})).await, 2);
    assert_eq!(next_seq(&mut late, json!({"processId": "p"})).await, 4);
    for client in [&mut early, &mut late] {
        assert_eq!(next_seq(client, json!({"processId": "p", "maxBytes": 9})).await, 2);
        assert_eq!(next_seq(client, json!({"processId": "p", "afterSeq": 1})).await, 4);
    }
}

#[tokio::test]
async fn a_client_that_resumes_and_reads_is_taken_for_a_new_one() {
    let mut bench = Bench::new();
    let mut client = bench.open().await;
    run(&mut client, "/").await;
    let session = client.session.clone();
    drop(client);
    bench.served().await;
    let mut client = bench.connect();
    client.resume(&session).await;
    assert_eq!(next_seq(&mut client, json!({"processId": "p"})).await, 4);
}

#[tokio::test]
async fn words_are_those_of_the_clients_own_server() {
    let mut bench = Bench::new();
    let (mut early, mut late) = (bench.open().await, bench.open().await);
    early.call("fs/getMetadata", json!({"path": "/"})).await;
    late.call("fs/getMetadata", json!({"path": "file:///"})).await;
    for (client, odd, relative) in [
        (
            &mut early,
            "data did not match any variant of untagged enum JSONRPCMessage",
            "AbsolutePathBuf deserialized without a base path",
        ),
        (&mut late, "expected a JSON-RPC object", "invalid URI: relative URL without a base"),
    ] {
        client.text("5").await;
        let answer = client.response(-1).await;
        assert!(answer["error"]["message"].as_str().unwrap().ends_with(odd), "{answer}");
        let answer = client.call("fs/getMetadata", json!({"path": "x"})).await;
        assert_eq!(answer["error"], json!({"code": -32602, "message": relative}));
    }
}

#[tokio::test]
async fn a_write_needs_an_id_of_a_client_that_knows_of_them() {
    let mut bench = Bench::new();
    let mut client = bench.open().await;
    let bare = json!({"processId": "p", "chunk": ""});
    assert_eq!(client.call("process/write", bare.clone()).await["result"]["status"], "unknownProcess");
    let empty = json!({"processId": "p", "chunk": "", "writeId": ""});
    let answer = client.call("process/write", empty).await;
    assert_eq!(answer["error"], json!({"code": -32602, "message": "writeId must not be empty"}));
    let answer = client.call("process/write", bare).await;
    assert_eq!(answer["error"], json!({"code": -32602, "message": "missing field `writeId`"}));
}

#[tokio::test]
async fn an_interrupt_reaches_the_whole_group_and_the_absent_are_no_error() {
    let mut bench = Bench::new();
    let mut client = bench.open().await;
    // Not a shell, which may take the signal before it forks what it then waits for.
    let ready = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&ready, "ready\n").unwrap();
    let script = "trap 'echo caught; exit 3' INT; tail -f \"$0\"; exit 9";
    client.start("p", &["bash", "-c", script, ready.path().to_str().unwrap()]).await;
    assert_eq!(client.event().await["params"]["chunk"], Base64Text::encode(b"ready\n").0);
    let interrupt = |id: &str| json!({"processId": id, "signal": "interrupt"});
    assert_eq!(client.call("process/signal", interrupt("p")).await["result"], json!({}));
    let output = client.follow("p").await;
    assert_eq!((output.stdout.as_slice(), output.code), (&b"caught\n"[..], Some(3)));
    for absent in ["p", "never"] {
        assert_eq!(client.call("process/signal", interrupt(absent)).await["result"], json!({}));
    }
    let answer = client.call("process/signal", json!({"processId": "p", "signal": "kill"})).await;
    assert_eq!(answer["error"], json!({"code": -32602, "message": "unknown variant `kill`, expected `interrupt`"}));
}
