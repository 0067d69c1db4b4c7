//! What waits for what, and above all what does not.

use serde_json::json;

use crate::bench::{Bench, start, write};

/// A write that no pipe takes at once.
const TOO_MUCH: usize = 1 << 20;

#[tokio::test]
async fn a_blocked_write_blocks_neither_terminate_nor_anything_else() {
    let mut bench = Bench::new();
    let mut client = bench.open().await;
    client.start("deaf", &["sleep", "600"]).await;
    let mut writes = Vec::new();
    for _ in 0..300 {
        writes.push(client.post("process/write", write("deaf", &[b'x'; 4096])).await);
    }
    client.post("process/write", write("deaf", &vec![b'x'; TOO_MUCH])).await;
    assert_eq!(client.call("fs/getMetadata", json!({"path": "/"})).await["result"]["isDirectory"], true);
    client.start("other", &["true"]).await;
    assert_eq!(client.follow("other").await.code, Some(0));
    let last = *writes.last().unwrap();
    assert!(client.seen.iter().all(|m| m["id"] != last), "the last write must still be waiting");
    let answer = client.call("process/terminate", json!({"processId": "deaf"})).await;
    assert_eq!(answer["result"]["running"], true);
    assert_eq!(client.follow("deaf").await.code, Some(137));
    // The writes that waited are answered, too.
    assert_eq!(client.response(last).await["error"]["code"], -32603);
}

#[tokio::test]
async fn a_long_poll_blocks_nobody() {
    let mut bench = Bench::new();
    let mut client = bench.open().await;
    client.start("cat", &["cat"]).await;
    let poll = client.post("process/read", json!({"processId": "cat", "waitMs": 600_000})).await;
    let wrote = client.call("process/write", write("cat", b"hello\n")).await;
    assert_eq!(wrote["result"]["status"], "accepted");
    let read = client.response(poll).await;
    assert_eq!(read["result"]["chunks"][0]["chunk"], "aGVsbG8K");
}

#[tokio::test]
async fn a_process_is_started_before_it_is_written_to() {
    let mut bench = Bench::new();
    let mut client = bench.open().await;
    for round in 0..50 {
        let process = format!("p{round}");
        client.post("process/start", start(&process, &["cat"])).await;
        let first = client.post("process/write", write(&process, b"a")).await;
        let second = client.post("process/write", write(&process, b"b\n")).await;
        let poll = client.post("process/read", json!({"processId": process, "waitMs": 0})).await;
        assert_eq!(client.response(first).await["result"]["status"], "accepted");
        assert_eq!(client.response(second).await["result"]["status"], "accepted");
        assert!(client.response(poll).await["result"].is_object());
        let mut line = Vec::new();
        while line.len() < 3 {
            let event = client.event().await;
            let chunk = event["params"]["chunk"].as_str().unwrap().to_owned();
            line.extend(exedra_proto::base64::Base64Text(chunk).decode().unwrap());
        }
        assert_eq!(line, b"ab\n");
        client.call("process/terminate", json!({"processId": process})).await;
        client.follow(&process).await;
    }
}

#[tokio::test]
async fn what_changes_a_file_keeps_its_order_and_reads_see_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f").display().to_string();
    let mut bench = Bench::new();
    let mut client = bench.open().await;
    let mut reads = Vec::new();
    for n in 0..200 {
        let text = exedra_proto::base64::Base64Text::encode(format!("{n}").as_bytes()).0;
        client.post("fs/writeFile", json!({"path": path, "dataBase64": text})).await;
        reads.push((client.post("fs/readFile", json!({"path": path})).await, text));
        if n % 10 == 0 {
            client.post("fs/remove", json!({"path": path})).await;
            let id = client.post("fs/readFile", json!({"path": path})).await;
            assert_eq!(client.response(id).await["error"]["code"], -32004);
        }
    }
    for (id, text) in reads {
        assert_eq!(client.response(id).await["result"]["dataBase64"], text);
    }
}

#[tokio::test]
async fn a_command_sees_the_file_written_before_its_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f").display().to_string();
    let mut bench = Bench::new();
    let mut client = bench.open().await;
    for n in 0..20 {
        let text = exedra_proto::base64::Base64Text::encode(format!("{n}").as_bytes()).0;
        client.post("fs/writeFile", json!({"path": path, "dataBase64": text})).await;
        let process = format!("p{n}");
        client.post("process/start", start(&process, &["cat", &path])).await;
        assert_eq!(client.follow(&process).await.stdout, format!("{n}").into_bytes());
    }
}

#[tokio::test]
async fn the_answer_to_a_start_comes_before_its_events() {
    let mut bench = Bench::new();
    let mut client = bench.open().await;
    for n in 0..200 {
        let process = format!("p{n}");
        let id = client.post("process/start", start(&process, &["echo", "hi"])).await;
        let output = client.follow(&process).await;
        assert_eq!((output.stdout.as_slice(), output.code), (&b"hi\n"[..], Some(0)));
        assert_eq!(output.seqs, [1, 2, 3]);
        let answered = client.seen.iter().position(|m| m["id"] == id).expect("answered before closed");
        let told = client.seen.iter().position(|m| m["params"]["processId"] == *process).unwrap();
        assert!(answered < told);
    }
}
