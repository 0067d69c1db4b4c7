//! The owner's policy through a connection: refusals are ordinary errors that name the rule, and the owner learns of them.

use std::sync::Arc;

use exedra_executor::audit::log::each_line;
use exedra_executor::audit::{Audit, AuditConfig};
use exedra_executor::{Client as About, ExecutorConfig, Peer};
use exedra_host::policy::{Current, Policy};
use exedra_link::memory;
use serde_json::{Value, json};

use crate::bench::{Bench, Client, config, start, until};

/// A bench whose owner says `text`, and may say something else later.
pub fn owned(text: &str, audit: Option<Audit>) -> (Bench, Current) {
    let current = Current::new(policy(text));
    let mut config = ExecutorConfig { audit, ..config() };
    config.host.policy = current.clone();
    (Bench::with(config), current)
}

pub fn policy(text: &str) -> Policy {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("policy.toml");
    std::fs::write(&file, text).unwrap();
    Policy::load(&file).unwrap()
}

/// A client whose token has these labels.
fn labelled(bench: &mut Bench, labels: &[&str]) -> Client {
    let (ours, theirs) = memory::pair();
    let (executor, cancel) = (Arc::clone(&bench.executor), bench.cancel.clone());
    let labels = Some(labels.iter().map(|label| (*label).to_owned()).collect());
    let about = About { labels, ..About::default() };
    bench.serving.spawn(async move { executor.serve_client(theirs, Peer::Unix, about, &cancel).await });
    Client::new(ours)
}

pub fn refusal(answer: &Value) -> &str {
    assert_eq!(answer["error"]["code"], -32600, "{answer}");
    answer["error"]["message"].as_str().unwrap()
}

#[tokio::test]
async fn a_refusal_names_the_rule_and_is_written_down() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let audit = Audit::open(&AuditConfig::new(log.clone(), dir.path().join("identity"))).unwrap();
    let text =
        "[[roots]]\npath = \"/usr\"\naccess = \"read\"\n[egress]\nallow = []\n[[commands]]\npath = \"/bin/true\"\n";
    let (mut bench, current) = owned(text, Some(audit));
    let mut client = bench.open().await;
    let started = client.call("process/start", start("p", &["cat"])).await;
    assert!(refusal(&started).starts_with("policy: commands: ") && refusal(&started).ends_with("is not listed"));
    let read = client.call("fs/readFile", json!({"path": "/etc/passwd"})).await;
    assert_eq!(refusal(&read), "policy: `/etc/passwd` may not be read: no root holds it");
    let fetched =
        client.call("http/request", json!({"requestId": "r", "method": "GET", "url": "http://a.test/"})).await;
    assert_eq!(refusal(&fetched), "policy: egress: no rule of `allow` has a.test");
    current.set(policy("read_only = true\n"));
    let changed = client.call("fs/createDirectory", json!({"path": "/usr/x", "recursive": false})).await;
    assert_eq!(refusal(&changed), "policy: read_only: fs/createDirectory could change something");
    let refused = || {
        let mut lines: Vec<Value> = Vec::new();
        each_line(&log, &mut |_, line| {
            lines.push(serde_json::from_slice(line).unwrap());
            true
        })
        .unwrap();
        lines.retain(|line| line["kind"] == "refused");
        lines
    };
    until("all refusals are in the audit", || refused().len() == 4).await;
    let lines = refused();
    let methods: Vec<_> = lines.iter().map(|line| line["method"].as_str().unwrap()).collect();
    assert_eq!(methods, ["process/start", "fs/readFile", "http/request", "fs/createDirectory"]);
    assert!(lines.iter().all(|line| line["message"].as_str().unwrap().starts_with("policy: ")));
}

#[tokio::test]
async fn clients_come_by_their_labels_and_go_when_these_count_no_more() {
    let (mut bench, current) = owned("[clients]\nlabels = [\"ci\"]\n", None);
    let mut stranger = bench.connect();
    let answer = stranger.call("initialize", json!({"clientName": "c"})).await;
    assert!(refusal(&answer).starts_with("policy: clients: "), "{answer}");
    let mut other = labelled(&mut bench, &["x"]);
    let answer = other.call("initialize", json!({"clientName": "c"})).await;
    assert_eq!(refusal(&answer), "policy: clients: the client's token has no label of `labels`");
    let mut wanted = labelled(&mut bench, &["x", "ci"]);
    wanted.handshake().await;
    assert!(wanted.call("process/start", start("p", &["true"])).await["result"].is_object());
    current.set(policy("[clients]\nlabels = [\"ops\"]\n"));
    let answer = wanted.call("process/start", start("q", &["true"])).await;
    assert!(refusal(&answer).starts_with("policy: clients: "), "{answer}");
}

#[tokio::test]
async fn a_request_does_not_widen_the_owners_limits() {
    let (mut bench, _) = owned("[limits]\noutput_bytes = 5\n", None);
    let mut client = bench.connect();
    client.handshake_with(json!({"clientName": "x", "extensions": {"exedra/1": {"limits": true}}})).await;
    for limits in [json!(null), json!({"outputBytes": 100}), json!({"outputBytes": 100, "bestEffort": true})] {
        let name = limits.to_string();
        let mut params = start(&name, &["sh", "-c", "printf 0123456789; sleep 60"]);
        params["limits"] = limits;
        assert!(client.call("process/start", params).await["result"].is_object());
        assert_eq!(client.follow(&name).await.stdout, b"01234");
    }
}

#[tokio::test]
async fn who_did_not_agree_on_limits_hears_of_none_and_asks_for_none() {
    let (mut bench, _) = owned("[limits]\noutput_bytes = 5\n", None);
    let mut client = bench.open().await;
    client.start("p", &["sh", "-c", "printf 0123456789; sleep 60"]).await;
    assert_eq!(client.follow("p").await.stdout, b"01234", "the owner's hold all the same");
    let read = client.call("process/read", json!({"processId": "p"})).await;
    assert!(read["result"]["exited"] == true && read["result"].get("limit").is_none(), "{read}");
    let mut params = start("q", &["true"]);
    params["limits"] = json!({"wallMs": 100});
    let text = "`limits` needs the part `limits` of exedra/1, which was not agreed on";
    assert_eq!(client.call("process/start", params).await["error"], json!({"code": -32602, "message": text}));
}
