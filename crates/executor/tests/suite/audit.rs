//! The audit of a real executor: what is written down, what never is, and what an executor does that cannot write.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use exedra_executor::ExecutorConfig;
use exedra_executor::audit::log::{Verdict, each_line, verify};
use exedra_executor::audit::{Audit, AuditConfig, By, Findings, Record};
use exedra_proto::base64::Base64Text;
use exedra_proto::ids::{ProcessId, SessionId};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::bench::{Bench, Client, config, start, until};

fn audited(audit: &Audit) -> Bench {
    Bench::with(ExecutorConfig { audit: Some(audit.clone()), ..config() })
}

/// All lines of the audit in `dir`, in order.
pub fn lines(dir: &Path) -> Vec<Value> {
    let mut lines = Vec::new();
    each_line(dir, &mut |_, line| {
        lines.push(serde_json::from_slice(line).unwrap());
        true
    })
    .unwrap();
    lines
}

fn sound(dir: &Path) -> Findings {
    match verify(dir, vec![], None).unwrap() {
        Verdict::Sound(findings) => findings,
        faulty => panic!("{faulty:?}"),
    }
}

fn of_kind<'a>(lines: &'a [Value], kind: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["kind"] == kind).collect()
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn a_session_is_written_down_from_its_connection_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let audit = Audit::open(&AuditConfig::new(log.clone(), dir.path().join("identity"))).unwrap();
    let mut bench = audited(&audit);
    let mut client = bench.open().await;
    let session = client.session.clone();
    let mut params = start("p", &["sh", "-c", "printf out; printf err >&2; exit 7"]);
    params["env"]["MY_SECRET"] = json!("value-that-nobody-may-see");
    client.call("process/start", params).await;
    assert_eq!(client.follow("p").await.code, Some(7));
    let file = dir.path().join("f");
    let data = Base64Text::encode(b"content-that-is-not-kept").0;
    client.call("fs/writeFile", json!({"path": file, "dataBase64": data})).await;
    client.call("fs/remove", json!({"path": dir.path().join("none"), "force": false})).await;
    client.call("fs/readFile", json!({"path": file})).await;
    client.call("process/start", start("q", &["/no/such/program"])).await;
    client.vanish();
    bench.served().await;
    bench.executor.shutdown().await;
    audit.stop();

    assert_eq!(sound(&log).unsigned, 0);
    let lines = lines(&log);
    let kinds: Vec<&str> = lines.iter().map(|line| line["kind"].as_str().unwrap()).collect();
    for kind in ["opened", "connected", "session", "disconnected", "session-ended", "stopped"] {
        assert_eq!(of_kind(&lines, kind).len(), 1, "{kind}: {kinds:?}");
    }
    let started = of_kind(&lines, "start");
    assert_eq!(started[0]["argv"], json!(["sh", "-c", "printf out; printf err >&2; exit 7"]));
    assert_eq!((&started[0]["session"], &started[0]["cwd"]), (&json!(session), &json!("/")));
    assert!(started[0]["env"]["MY_SECRET"].as_str().unwrap().len() == 32);
    let exits = of_kind(&lines, "exit");
    assert_eq!((exits.len(), &exits[0]["code"]), (1, &json!(7)));
    let closed = of_kind(&lines, "closed");
    let output = closed.first().or(exits.first()).unwrap();
    assert_eq!(output["output"]["stdout"], json!({"bytes": 3, "sha256": hex(b"out")}));
    assert_eq!(output["output"]["stderr"], json!({"bytes": 3, "sha256": hex(b"err")}));
    let files = of_kind(&lines, "file");
    assert_eq!((files.len(), &files[0]["bytes"]), (2, &json!(24)));
    // What failed is told with the request that it belongs to.
    let refused = of_kind(&lines, "refused");
    assert_eq!(refused.len(), 2, "{refused:?}");
    assert_eq!((&refused[0]["request"], &refused[0]["code"]), (&files[1]["request"], &json!(-32004)));
    assert_eq!(refused[1]["request"], started[1]["request"]);
    assert!(of_kind(&lines, "disconnected")[0]["received"].as_u64().unwrap() > 100);
    let all = lines.iter().map(Value::to_string).collect::<String>();
    assert!(!all.contains("nobody-may-see") && !all.contains("not-kept"));
}

#[tokio::test]
async fn an_exit_names_the_limit_that_was_passed() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let audit = Audit::open(&AuditConfig::new(log.clone(), dir.path().join("identity"))).unwrap();
    let mut bench = audited(&audit);
    let mut client = bench.connect();
    client.handshake_with(json!({"clientName": "x", "extensions": {"exedra/1": {"limits": true}}})).await;
    let mut params = start("p", &["sleep", "600"]);
    params["limits"] = json!({"wallMs": 50});
    client.call("process/start", params).await;
    assert_eq!(client.follow("p").await.code, Some(137));
    client.start("q", &["true"]).await;
    client.follow("q").await;
    client.vanish();
    bench.served().await;
    bench.executor.shutdown().await;
    audit.stop();
    let lines = lines(&log);
    let exits = of_kind(&lines, "exit");
    assert_eq!((&exits[0]["process"], &exits[0]["limit"]), (&json!("p"), &json!("wallTime")));
    assert_eq!((&exits[1]["process"], exits[1].get("limit")), (&json!("q"), None));
}

#[tokio::test]
async fn output_is_kept_where_asked_for_with_its_secrets_masked() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let mut audit_config = AuditConfig::new(log.clone(), dir.path().join("identity"));
    audit_config.output = Some(vec!["hush[0-9]+".to_owned()]);
    let audit = Audit::open(&audit_config).unwrap();
    let mut bench = audited(&audit);
    let mut client = bench.open().await;
    let script = "echo token=abcdef123456 hush42; printf 'plain'; head -c 300000 /dev/zero | tr '\\0' x";
    client.start("p", &["sh", "-c", script]).await;
    let seen = client.follow("p").await;
    assert!(seen.stdout.starts_with(b"token=abcdef123456 hush42\n"), "the client gets all of it");
    client.vanish();
    bench.executor.shutdown().await;
    audit.stop();
    sound(&log);
    let lines = lines(&log);
    let kept = of_kind(&lines, "output");
    let text: String = kept.iter().map(|line| line["text"].as_str().unwrap()).collect();
    assert!(text.starts_with("[masked] [masked]\nplainxxx"), "{}", &text[..40]);
    assert_eq!(text.len(), "[masked] [masked]\nplain".len() + 300_000);
    assert_eq!(kept.iter().map(|line| line["masked"].as_u64().unwrap()).sum::<u64>(), 2);
}

/// A small file system of its own, mounted where only this test looks.
struct Small(tempfile::TempDir);

impl Small {
    fn mount(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size},mode=0700"), "none"]).arg(dir.path());
        mount.output().is_ok_and(|output| output.status.success()).then_some(Self(dir))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).output();
    }
}

/// Asks until `process` has exited; events of others may come meanwhile.
async fn exit_code(client: &mut Client, process: &str) -> i64 {
    loop {
        let read = client.call("process/read", json!({"processId": process})).await;
        if let Some(code) = read["result"]["exitCode"].as_i64() {
            return code;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn without_room_nothing_new_is_done_and_why_is_said_until_there_is_room_again() {
    let Some(disk) = Small::mount("256k") else { return eprintln!("not run: mounting needs root") };
    let dir = tempfile::tempdir().unwrap();
    let log = disk.0.path().join("log");
    let audit = Audit::open(&AuditConfig::new(log.clone(), dir.path().join("identity"))).unwrap();
    let mut bench = audited(&audit);
    let mut client = bench.open().await;
    client.start("old", &["cat"]).await;
    client.start("stubborn", &["sh", "-c", "trap '' INT TERM; while :; do sleep 1; done"]).await;
    let filler = disk.0.path().join("filler");
    let _ = std::fs::write(&filler, vec![0; 1 << 20]);
    // It is noticed by the next thing that is to be written down; that one may have begun already.
    let mut refused = Value::Null;
    for n in 0..2000 {
        refused = client.start(&format!("p{n}"), &["true"]).await;
        if refused["error"].is_object() {
            break;
        }
    }
    let why = refused["error"]["message"].as_str().unwrap();
    assert!(why.starts_with("the audit cannot be written: ") && why.contains("No space"), "{why}");
    let answer = client.call("fs/createDirectory", json!({"path": dir.path().join("new")})).await;
    assert!(answer["error"]["message"].as_str().unwrap().contains("the audit cannot be written"), "{answer}");
    assert!(!dir.path().join("new").exists());
    // No new session; what runs can still be read, come back to, and ended.
    let mut late = bench.connect();
    let answer = late.call("initialize", json!({"clientName": "late"})).await;
    assert!(answer["error"]["message"].as_str().unwrap().contains("the audit cannot be written"), "{answer}");
    let read = client.call("process/read", json!({"processId": "old"})).await;
    assert_eq!(read["result"]["exited"], false);
    let session = client.session.clone();
    client.vanish();
    bench.served().await;
    let mut client = bench.connect();
    let answer = client.resume(&session).await;
    assert_eq!(answer["result"]["sessionId"], json!(session), "{answer}");
    assert!(audit.check().is_err(), "nothing can be written still");
    let answer = client.call("process/signal", json!({"processId": "old", "signal": "interrupt"})).await;
    assert!(answer["result"].is_object(), "{answer}");
    assert_eq!(exit_code(&mut client, "old").await, 130);
    client.call("process/closeStdin", json!({"processId": "stubborn"})).await;
    let answer = client.call("process/terminate", json!({"processId": "stubborn"})).await;
    assert_eq!(answer["result"]["running"], true, "{answer}");
    assert_eq!(exit_code(&mut client, "stubborn").await, 137);

    std::fs::remove_file(&filler).unwrap();
    until("the audit can be written again", || audit.check().is_ok()).await;
    assert!(client.start("again", &["true"]).await["error"].is_null());
    assert!(late.call("initialize", json!({"clientName": "late"})).await["error"].is_null());
    bench.executor.shutdown().await;
    audit.stop();
    // Nothing that was let through is missing, nothing is there twice.
    sound(&log);
    let lines = lines(&log);
    let started = of_kind(&lines, "start");
    // What was ended meanwhile is in it, too.
    let signals: Vec<&Value> = of_kind(&lines, "signal").iter().map(|line| &line["process"]).collect();
    assert_eq!(signals, [&json!("old"), &json!("stubborn")]);
    assert!(of_kind(&lines, "session").iter().any(|line| line["resumed"] == true));
    assert!(
        started.iter().any(|line| line["process"] == "again") && started.iter().any(|line| line["process"] == "old")
    );
}

#[tokio::test]
async fn an_executor_whose_audit_has_ended_takes_no_session() {
    let dir = tempfile::tempdir().unwrap();
    let audit = Audit::open(&AuditConfig::new(dir.path().join("log"), dir.path().join("identity"))).unwrap();
    let mut bench = audited(&audit);
    audit.stop();
    let mut client = bench.connect();
    let answer = client.call("initialize", json!({"clientName": "t"})).await;
    assert_eq!(answer["error"]["code"], -32603);
    assert_eq!(answer["error"]["message"], "the audit cannot be written: its writer has ended");
}

/// What clients can cause without end does not fill the memory while the disk is full, and is counted.
#[tokio::test]
async fn what_was_not_kept_while_there_was_no_room_is_counted_in_one_line() {
    let Some(disk) = Small::mount("4m") else { return eprintln!("not run: mounting needs root") };
    let dir = tempfile::tempdir().unwrap();
    let log = disk.0.path().join("log");
    let audit = Audit::open(&AuditConfig::new(log.clone(), dir.path().join("identity"))).unwrap();
    let filler = disk.0.path().join("filler");
    let _ = std::fs::write(&filler, vec![0; 8 << 20]);
    let signal = |n: u64| {
        let by = By { session: SessionId::new("s"), connection: 1, request: n.into() };
        Record::Signal { by, process: ProcessId::new("p"), method: "process/terminate" }
    };
    let mut told = 0;
    while audit.check().is_ok() {
        audit.ending(signal(told)).await;
        told += 1;
    }
    for _ in 0..12_000 {
        audit.ending(signal(told)).await;
        told += 1;
    }
    std::fs::remove_file(&filler).unwrap();
    until("the audit can be written again", || audit.check().is_ok()).await;
    audit.ending(signal(told)).await;
    audit.stop();
    sound(&log);
    let lines = lines(&log);
    let kept = of_kind(&lines, "signal");
    let gaps = of_kind(&lines, "gap");
    assert_eq!(gaps.len(), 1);
    let missing = gaps[0]["lines"]["signal"].as_u64().unwrap();
    assert!(missing > 0 && gaps[0]["since"].as_u64().unwrap() > 0);
    assert_eq!(kept.len() as u64 + missing, told + 1);
    assert_eq!(kept.last().unwrap()["request"], json!(told), "what comes after is written again");
}
