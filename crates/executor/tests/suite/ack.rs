//! `process/ack`: what was not confirmed is kept, comes again after a break, and holds up the command that wrote it.

use serde_json::{Value, json};

use crate::bench::{Bench, Client, until};

fn offer(session: Option<&str>) -> Value {
    json!({"clientName": "x", "resumeSessionId": session, "extensions": {"exedra/1": {"ack": true}}})
}

async fn ack(client: &Client, process: &str, seq: u64) {
    client.text(&json!({"method": "process/ack", "params": {"processId": process, "seq": seq}}).to_string()).await;
}

#[tokio::test]
async fn what_was_not_confirmed_comes_again_the_end_included() {
    let mut bench = Bench::new();
    let mut client = bench.connect();
    client.handshake_with(offer(None)).await;
    let session = client.session.clone();
    client.start("p", &["sh", "-c", "echo one; read x; echo two; exit 7"]).await;
    assert_eq!(client.event().await["params"]["seq"], 1);
    ack(&client, "p", 1).await;
    client.call("process/write", crate::bench::write("p", b"\n")).await;
    let rest = client.follow("p").await;
    assert_eq!((rest.stdout.as_slice(), rest.code, rest.seqs.as_slice()), (&b"two\n"[..], Some(7), &[2, 3, 4][..]));
    // Not confirmed: handed out to whoever comes next, and once more.
    for last in [false, true] {
        client.vanish();
        bench.served().await;
        client = bench.connect();
        client.handshake_with(offer(Some(&session))).await;
        let again = client.follow("p").await;
        assert_eq!((again.code, again.seqs.as_slice()), (Some(7), &[2, 3, 4][..]));
        if last {
            ack(&client, "p", 4).await;
        }
    }
    // Behind the confirmation on the same connection.
    client.call("process/read", json!({"processId": "p", "afterSeq": 4})).await;
    client.vanish();
    bench.served().await;
    client = bench.connect();
    client.handshake_with(offer(Some(&session))).await;
    client.start("q", &["true"]).await;
    assert_eq!(client.follow("q").await.code, Some(0), "and nothing more of the other");
}

#[tokio::test]
async fn without_confirmation_the_command_waits_and_others_go_on() {
    let mut bench = Bench::new();
    let mut client = bench.connect();
    client.handshake_with(offer(None)).await;
    let dir = tempfile::tempdir().unwrap();
    let done = dir.path().join("done");
    let script = format!("head -c 4194304 /dev/zero; touch {}", done.display());
    client.start("p", &["sh", "-c", &script]).await;
    let mut taken = 0;
    let mut last = 0;
    // It may hand out its window and no more.
    while let Ok(event) = tokio::time::timeout(std::time::Duration::from_millis(500), client.event()).await {
        taken += event["params"]["chunk"].as_str().map_or(0, |chunk| chunk.len() / 4 * 3);
        last = event["params"]["seq"].as_u64().unwrap();
    }
    assert!((512 * 1024..2 * 1024 * 1024).contains(&taken), "{taken} bytes without a confirmation");
    assert!(!done.exists());
    client.start("q", &["true"]).await;
    assert_eq!(client.follow("q").await.code, Some(0));
    while !done.exists() {
        ack(&client, "p", last).await;
        last = client.event().await["params"]["seq"].as_u64().unwrap();
    }
    until("the end", || done.exists()).await;
}

#[tokio::test]
async fn a_stock_client_may_follow_one_that_confirms_and_the_other_way_round() {
    let mut bench = Bench::new();
    let mut client = bench.connect();
    client.handshake_with(offer(None)).await;
    let session = client.session.clone();
    client.start("p", &["sh", "-c", "echo one; read x; echo two; exit 7"]).await;
    assert_eq!(client.event().await["params"]["seq"], 1);
    client.vanish();
    bench.served().await;
    let mut client = bench.connect();
    client.resume(&session).await;
    let read = client.call("process/read", json!({"processId": "p", "afterSeq": 0})).await;
    assert_eq!((&read["result"]["chunks"][0]["seq"], &read["result"]["nextSeq"]), (&json!(1), &json!(2)));
    client.vanish();
    bench.served().await;
    let mut client = bench.connect();
    client.handshake_with(offer(Some(&session))).await;
    client.call("process/write", crate::bench::write("p", b"\n")).await;
    let all = client.follow("p").await;
    assert_eq!((all.stdout.as_slice(), all.code), (&b"one\ntwo\n"[..], Some(7)));
}
