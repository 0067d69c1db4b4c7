//! Floods, clients that do not read, answers that are too large: memory stays bounded, and others do not notice.

use std::time::Duration;

use exedra_link::Message;
use serde_json::json;
use tokio::time::timeout;

use crate::bench::{Bench, PATIENCE, until, within};

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_tiny_requests_is_answered_completely() {
    const COUNT: usize = 100_000;
    let mut bench = Bench::new();
    let mut client = bench.open().await;
    let sender = client.sender.clone();
    let send = async move {
        for id in 0..COUNT {
            let text = format!(r#"{{"id":"{id}","method":"process/terminate","params":{{"processId":"none"}}}}"#);
            sender.send(Message::text(text)).await.unwrap();
        }
    };
    let receive = async {
        let mut answered = vec![false; COUNT];
        for _ in 0..COUNT {
            let answer = client.message().await.unwrap();
            let text = answer.as_text().unwrap().strip_suffix(r#"","result":{"running":false}}"#).unwrap();
            let id: usize = text.strip_prefix(r#"{"id":""#).unwrap().parse().unwrap();
            assert!(!std::mem::replace(&mut answered[id], true), "{id} is answered twice");
        }
    };
    timeout(4 * PATIENCE, async { tokio::join!(send, receive) }).await.unwrap();
}

#[tokio::test]
async fn who_never_reads_is_not_read_either_and_stalls_nobody_else() {
    let mut bench = Bench::new();
    let (mut deaf, mut other) = (bench.open().await, bench.open().await);
    let mut sent = 0_i64;
    let text = |id: i64| format!(r#"{{"id":{id},"method":"process/terminate","params":{{"processId":"none"}}}}"#);
    while let Ok(result) = timeout(Duration::from_millis(300), deaf.sender.send(Message::text(text(100 + sent)))).await
    {
        result.unwrap();
        sent += 1;
        assert!(sent < 5_000, "requests of a client that does not read pile up");
    }
    other.start("p", &["echo", "quick"]).await;
    assert_eq!(other.follow("p").await.stdout, b"quick\n");
    // Once it reads, nothing was lost.
    for id in 100..100 + sent {
        assert_eq!(deaf.response(id).await["result"]["running"], false);
    }
}

#[tokio::test]
async fn output_for_a_client_that_does_not_read_makes_the_command_wait() {
    let mut bench = Bench::new();
    let (mut deaf, mut other) = (bench.open().await, bench.open().await);
    let dir = tempfile::tempdir().unwrap();
    let mark = dir.path().join("written");
    let script = format!("head -c 200000000 /dev/zero; touch {}", mark.display());
    deaf.post("process/start", crate::bench::start("p", &["sh", "-c", &script])).await;
    for n in 0..20 {
        let process = format!("p{n}");
        other.start(&process, &["echo", "quick"]).await;
        assert_eq!(other.follow(&process).await.stdout, b"quick\n");
    }
    assert!(!mark.exists(), "200 MB went into a connection that nobody reads");
    let answer = deaf.call("process/terminate", json!({"processId": "p"})).await;
    assert_eq!(answer["result"]["running"], true);
    assert_eq!(deaf.follow("p").await.code, Some(137));
}

#[tokio::test]
async fn more_requests_than_may_be_in_flight_wait_their_turn() {
    let mut bench = Bench::new();
    let mut client = bench.open().await;
    client.start("cat", &["cat"]).await;
    let mut polls = Vec::new();
    for _ in 0..1_024 {
        polls.push(client.post("process/read", json!({"processId": "cat", "waitMs": 600_000})).await);
    }
    // The last place is for whoever cleans up.
    let kill = client.post("process/terminate", json!({"processId": "cat"})).await;
    assert_eq!(client.response(kill).await["result"]["running"], true);
    for poll in polls {
        assert_eq!(client.response(poll).await["result"]["exited"], true);
    }
}

#[tokio::test]
async fn a_connection_that_ended_while_it_was_not_read_is_noticed() {
    let mut bench = Bench::new();
    let mut client = bench.open().await;
    let session = client.session.clone();
    client.start("cat", &["cat"]).await;
    for _ in 0..1_100 {
        client.post("process/read", json!({"processId": "cat", "waitMs": 600_000})).await;
    }
    client.vanish();
    bench.served().await;
    let mut next = bench.connect();
    assert_eq!(next.resume(&session).await["result"]["sessionId"], session);
}

#[tokio::test]
async fn a_file_that_no_message_can_carry_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("large");
    std::fs::File::create(&path).unwrap().set_len(49 << 20).unwrap();
    let mut bench = Bench::new();
    let mut client = bench.open().await;
    let answer = within("the refusal", client.call("fs/readFile", json!({"path": path}))).await;
    assert!(answer["error"]["message"].as_str().unwrap().contains("too large"), "{answer:.200}");
    std::fs::File::create(&path).unwrap().set_len(5 << 20).unwrap();
    let answer = client.call("fs/readFile", json!({"path": path})).await;
    assert_eq!(answer["result"]["dataBase64"].as_str().unwrap().len(), (5_usize << 20).div_ceil(3) * 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_files_for_a_client_that_does_not_read_stay_on_the_disk() {
    const COUNT: usize = 24;
    const SIZE: u64 = 9 << 20;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("large");
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(SIZE).unwrap();
    let mut bench = Bench::new();
    let (mut deaf, mut other) = (bench.open().await, bench.open().await);
    for _ in 0..COUNT {
        deaf.post("fs/readFile", json!({"path": path})).await;
    }
    // What is small on the same connection is served meanwhile, and what is large on another.
    let mark = dir.path().join("mark");
    deaf.post("process/start", crate::bench::start("p", &["touch", mark.to_str().unwrap()])).await;
    until("the command", || mark.exists()).await;
    let read = other.call("fs/readFile", json!({"path": path})).await;
    assert!(read["result"]["dataBase64"].as_str().unwrap().len() > SIZE as usize);
    // What was not read from the disk by now finds the file empty.
    file.set_len(0).unwrap();
    let (mut answered, mut large) = (0, 0);
    while answered < COUNT {
        let message = deaf.message().await.unwrap();
        answered += usize::from(message.as_text().unwrap().contains("dataBase64"));
        large += usize::from(message.len() > SIZE as usize);
    }
    // Five are what one connection may have; a few more are in the queues of both ends and on the wire.
    assert!((1..=12).contains(&large), "{large} files were read for a client that does not read");
}
