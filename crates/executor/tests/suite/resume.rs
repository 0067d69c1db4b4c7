//! Sessions across connections: detached, resumed, held by another, expired, too many.

use std::path::Path;
use std::time::Duration;

use exedra_executor::ExecutorConfig;
use serde_json::json;

use crate::bench::{Bench, config, until};

fn alive(pid_file: &Path) -> bool {
    let pid = std::fs::read_to_string(pid_file).unwrap();
    Path::new("/proc").join(pid.trim()).exists()
}

#[tokio::test]
async fn output_of_the_detached_time_is_read_and_new_output_is_notified() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let script = format!(
        "cd {}; echo one; while [ ! -e go ]; do sleep 0.01; done; echo away; touch said; \
         while [ ! -e back ]; do sleep 0.01; done; echo two",
        dir.path().display()
    );
    let mut bench = Bench::new();
    let mut client = bench.open().await;
    let session = client.session.clone();
    client.start("p", &["sh", "-c", &script]).await;
    assert_eq!(client.event().await["params"]["seq"], 1);
    client.vanish();
    bench.served().await;
    std::fs::write(at("go"), "").unwrap();
    until("output while detached", || at("said").exists()).await;
    // What is still in the pipe now would be new after the resumption.
    tokio::time::sleep(Duration::from_millis(200)).await;

    let mut client = bench.connect();
    assert_eq!(client.resume(&session).await["result"]["sessionId"], session);
    let read = client.call("process/read", json!({"processId": "p", "afterSeq": 1})).await;
    assert_eq!(read["result"]["chunks"], json!([{"seq": 2, "stream": "stdout", "chunk": "YXdheQo="}]));
    assert_eq!(read["result"]["nextSeq"], 3);
    std::fs::write(at("back"), "").unwrap();
    let rest = client.follow("p").await;
    assert_eq!((rest.stdout.as_slice(), rest.code), (&b"two\n"[..], Some(0)));
    assert_eq!(rest.seqs, [3, 4, 5]);
}

#[tokio::test]
async fn notifications_flow_right_behind_the_answer_to_a_resumption() {
    let mut bench = Bench::new();
    let mut client = bench.open().await;
    let session = client.session.clone();
    client.start("p", &["sh", "-c", "while :; do echo tick; sleep 0.02; done"]).await;
    client.vanish();
    bench.served().await;
    let mut client = bench.connect();
    client.call("initialize", json!({"clientName": "x", "resumeSessionId": session})).await;
    // Without `initialized`.
    assert_eq!(client.event().await["method"], "process/output");
}

#[tokio::test]
async fn an_attached_session_is_not_taken_and_a_lost_one_is() {
    let mut bench = Bench::new();
    let first = bench.open().await;
    let session = first.session.clone();
    let mut second = bench.connect();
    let answer = second.resume(&session).await;
    let text = format!("session {session} is already attached to another connection");
    assert_eq!(answer["error"], json!({"code": -32010, "message": text}));
    // The client is back before the news that its connection is gone.
    first.vanish();
    assert_eq!(second.resume(&session).await["result"]["sessionId"], session);
    let mut third = bench.connect();
    assert_eq!(third.resume(&session).await["error"]["code"], -32010);
}

#[tokio::test]
async fn an_expired_session_is_unknown_and_its_processes_were_asked_to_end_first() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let mut bench = Bench::with(ExecutorConfig { session_ttl: Duration::from_millis(200), ..config() });
    let mut client = bench.open().await;
    let session = client.session.clone();
    let polite = "trap 'echo asked > asked; exit 0' TERM; echo $$ > polite; while :; do sleep 0.01; done";
    let stubborn = "trap '' TERM; echo $$ > stubborn; while :; do sleep 0.01; done";
    for script in [polite, stubborn] {
        let mut params = crate::bench::start(script, &["sh", "-c", script]);
        params["cwd"] = json!(dir.path());
        client.call("process/start", params).await;
    }
    for name in ["polite", "stubborn"] {
        let written = |path: &Path| std::fs::read_to_string(path).is_ok_and(|pid| pid.ends_with('\n'));
        until("the traps", || written(&at(name))).await;
    }
    client.vanish();
    until("SIGTERM", || at("asked").exists()).await;
    until("the end of both", || !alive(&at("polite")) && !alive(&at("stubborn"))).await;
    let answer = bench.connect().resume(&session).await;
    assert_eq!(answer["error"], json!({"code": -32600, "message": format!("unknown session id {session}")}));
    assert_eq!(bench.executor.sessions(), 0);
}

#[tokio::test]
async fn a_resumed_session_does_not_expire() {
    let mut bench = Bench::with(ExecutorConfig { session_ttl: Duration::from_millis(300), ..config() });
    let client = bench.open().await;
    let session = client.session.clone();
    client.vanish();
    bench.served().await;
    let mut client = bench.connect();
    client.resume(&session).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    client.start("p", &["true"]).await;
    assert_eq!(client.follow("p").await.code, Some(0));
}

#[tokio::test]
async fn of_too_many_detached_sessions_the_oldest_idle_one_goes() {
    let mut bench = Bench::with(ExecutorConfig { max_detached: 2, ..config() });
    let mut sessions = Vec::new();
    for n in 0..4 {
        let mut client = bench.open().await;
        sessions.push(client.session.clone());
        if n == 0 {
            client.start("p", &["sleep", "600"]).await;
        }
        client.vanish();
        bench.served().await;
    }
    until("two of four", || bench.executor.sessions() == 2).await;
    for (session, kept) in sessions.iter().zip([true, false, false, true]) {
        let answer = bench.connect().resume(session).await;
        assert_eq!(answer["result"].is_object(), kept, "{answer}");
    }
}

#[tokio::test]
async fn a_shutdown_waits_for_what_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let pid_file = dir.path().join("pid");
    let script = format!("trap '' TERM; echo $$ > {}; while :; do sleep 0.01; done", pid_file.display());
    let mut bench = Bench::with(config());
    let mut client = bench.open().await;
    client.start("p", &["sh", "-c", &script]).await;
    until("the trap", || std::fs::read_to_string(&pid_file).is_ok_and(|pid| pid.ends_with('\n'))).await;
    bench.executor.shutdown().await;
    assert!(!alive(&pid_file));
}
