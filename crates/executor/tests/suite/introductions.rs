//! Clients whom the server introduces: their labels, what they may do, and that none of them can say so itself.

use std::sync::Arc;

use exedra_executor::audit::log::each_line;
use exedra_executor::audit::{Audit, AuditConfig};
use exedra_executor::{Client as About, ExecutorConfig, Peer};
use exedra_host::policy::Current;
use exedra_link::{Connection, Message, memory};
use exedra_proto::close::CloseReason;
use exedra_proto::frame::{Body, StreamId, reset};
use exedra_proto::ids::TokenId;
use exedra_proto::introduction::{Client as Said, Introduction};
use exedra_proto::rights::Rights;
use serde_json::{Value, json};

use crate::bench::{Bench, Client, config, start, until, within};
use crate::daemon::{run_with, settings};
use crate::policy::{owned, policy, refusal};
use crate::relay::{Wire, for_streams};
use crate::script::{Registry, Rendezvous, registered};

const CI: &str = "[clients]\nlabels = [\"ci\"]\n";
const ALL: &str = "exec,files,http,pty";

fn introduction(token: &str, labels: &[&str], rights: &str) -> Introduction {
    let labels = labels.iter().map(|label| (*label).to_owned()).collect();
    let client = Said { name: format!("name of {token}"), labels, rights: Rights::parse(rights).unwrap() };
    Introduction { token: TokenId::new(token), client }
}

fn owned_by(text: &str) -> ExecutorConfig {
    let mut config = config();
    config.host.policy = Current::new(policy(text));
    config
}

/// A client of the bench that the server introduced like this.
fn introduced(bench: &mut Bench, rights: &str) -> Client {
    let (ours, theirs) = memory::pair();
    let (executor, cancel) = (Arc::clone(&bench.executor), bench.cancel.clone());
    let about = About::from(introduction("tok-a", &[], rights));
    bench.serving.spawn(async move { executor.serve_client(theirs, Peer::Rendezvous, about, &cancel).await });
    Client::new(ours)
}

async fn say(websocket: &Connection, text: String) {
    within("sending", websocket.sender.send(Message::text(text))).await.unwrap();
}

fn initialize() -> Value {
    json!({"clientName": "c"})
}

#[tokio::test]
async fn a_pair_serves_whom_the_first_message_introduces_and_takes_no_other_for_that() {
    let mut rendezvous = Rendezvous::start().await;
    let url = rendezvous.url.clone();
    let registry = Registry::start(move |_| registered(&url)).await;
    let running = run_with(settings(&registry), owned_by(CI));
    for (labels, welcome) in [(&["ci"][..], true), (&["dev"], false), (&[], false)] {
        let websocket = rendezvous.accept_promising().await;
        say(&websocket, introduction("tok-a", labels, ALL).encode(None)).await;
        let mut client = Client::new(websocket);
        if !welcome {
            // What the client says is a message like any other, whatever it looks like.
            client.text(&introduction("tok-b", &["ci"], ALL).encode(None)).await;
            assert!(refusal(&client.response(-1).await).starts_with("failed to parse"));
            let answer = client.call("initialize", initialize()).await;
            assert_eq!(refusal(&answer), "policy: clients: the client's token has no label of `labels`");
            continue;
        }
        client.handshake().await;
        assert!(client.call("process/start", start("p", &["true"])).await["result"].is_object());
    }
    running.stop().await;
}

#[tokio::test]
async fn a_pair_whose_server_breaks_its_promise_serves_nobody() {
    let mut rendezvous = Rendezvous::start().await;
    let url = rendezvous.url.clone();
    let registry = Registry::start(move |_| registered(&url)).await;
    let running = run_with(settings(&registry), config());
    let stream = StreamId::new("s").unwrap();
    let request = json!({"id": 1, "method": "initialize", "params": initialize()}).to_string();
    for first in [request, introduction("tok-a", &[], ALL).encode(Some(&stream)), String::new()] {
        let mut websocket = rendezvous.accept_promising().await;
        say(&websocket, first).await;
        let end = within("the end", websocket.receiver.recv()).await.unwrap_err();
        assert_eq!(end.reason(), Some(CloseReason::ProtocolError), "and no answer");
    }
    running.stop().await;
}

#[tokio::test]
async fn a_server_that_promises_nothing_has_its_clients_refused_where_labels_count() {
    let mut rendezvous = Rendezvous::start().await;
    let url = rendezvous.url.clone();
    let registry = Registry::start(move |_| registered(&url)).await;
    let running = run_with(settings(&registry), owned_by(CI));
    let mut client = rendezvous.accept().await;
    client.text(&introduction("tok-a", &["ci"], ALL).encode(None)).await;
    assert!(refusal(&client.response(-1).await).starts_with("failed to parse"));
    let answer = client.call("initialize", initialize()).await;
    let expected = "policy: clients: only clients whose token has a label of `labels` may come, and of this one's token \
                    nothing is told here";
    assert_eq!(refusal(&answer), expected);
    running.stop().await;
}

#[tokio::test]
async fn each_stream_is_its_own_clients() {
    let mut rendezvous = Rendezvous::start().await;
    let url = rendezvous.url.clone();
    let registry = Registry::start(move |_| for_streams(&url)).await;
    let running = run_with(settings(&registry), owned_by(CI));
    let mut wire = Wire(rendezvous.accept_promising().await);
    let hello = json!({"id": 1, "method": "initialize", "params": initialize()}).to_string();
    for (stream, labels) in [("a", &["ci"][..]), ("b", &["dev"])] {
        let id = StreamId::new(stream).unwrap();
        say(&wire.0, introduction("tok-a", labels, ALL).encode(Some(&id))).await;
    }
    wire.text("b", 0, &hello).await;
    assert_eq!(refusal(&wire.json("b", 0).await), "policy: clients: the client's token has no label of `labels`");
    let session = wire.handshake("a", None).await;
    // A client's text in its own stream introduces nobody, and a stream without an introduction is none.
    let id = StreamId::new("c").unwrap();
    let forged = introduction("tok-b", &["ci"], ALL).encode(Some(&id));
    wire.text("b", 1, &forged).await;
    assert!(refusal(&wire.json("b", 1).await).starts_with("failed to parse"));
    wire.text("c", 0, &hello).await;
    wire.reset("c", reset::NOT_INTRODUCED).await;
    // The name of a stream that is over is good for nobody else.
    wire.send("a", Body::Reset { reason: "over".into() }).await;
    wire.text("a", 0, &hello).await;
    wire.reset("a", reset::NOT_INTRODUCED).await;
    say(&wire.0, introduction("tok-c", &["dev"], ALL).encode(Some(&StreamId::new("a").unwrap()))).await;
    let resume = json!({"clientName": "c", "resumeSessionId": session});
    wire.text("a", 0, &json!({"id": 1, "method": "initialize", "params": resume}).to_string()).await;
    assert!(refusal(&wire.json("a", 0).await).starts_with("policy: clients: "), "the session is none of its business");
    running.stop().await;
}

#[tokio::test]
async fn a_client_does_what_its_token_gives_and_the_owner_hears_of_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let audit = Audit::open(&AuditConfig::new(log.clone(), dir.path().join("identity"))).unwrap();
    let (mut bench, _) = owned("", Some(audit));
    let mut client = introduced(&mut bench, "files");
    client.handshake().await;
    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    assert!(client.call("fs/readFile", json!({"path": file})).await["result"].is_object());
    let marker = dir.path().join("marker").display().to_string();
    let answer = client.call("process/start", start("p", &["touch", &marker])).await;
    assert_eq!(refusal(&answer), "rights: process/start needs the right exec; the client's token gives files alone");
    let fetch = json!({"requestId": "r", "method": "GET", "url": "http://127.0.0.1:9/"});
    let answer = client.call("http/request", fetch).await;
    assert_eq!(refusal(&answer), "rights: http/request needs the right http; the client's token gives files alone");

    let mut client = introduced(&mut bench, "exec");
    client.handshake().await;
    let mut params = start("p", &["touch", &marker]);
    params["tty"] = json!(true);
    let answer = client.call("process/start", params).await;
    assert!(refusal(&answer).starts_with("rights: process/start on a terminal needs the right pty; "), "{answer}");
    for (method, params) in [
        ("fs/readFile", json!({"path": file})),
        ("fs/writeFile", json!({"path": file, "dataBase64": ""})),
        ("capabilityRoots/discoverV1", json!({"roots": []})),
    ] {
        let answer = client.call(method, params).await;
        assert!(refusal(&answer).starts_with(&format!("rights: {method} needs the right files; ")), "{answer}");
    }
    client.start("q", &["true"]).await;
    assert_eq!(client.follow("q").await.code, Some(0));
    assert!(!std::path::Path::new(&marker).exists() && std::fs::read(&file).unwrap() == b"x");

    let lines = |kind: &str| {
        let mut lines: Vec<Value> = Vec::new();
        each_line(&log, &mut |_, line| {
            lines.push(serde_json::from_slice(line).unwrap());
            true
        })
        .unwrap();
        lines.retain(|line| line["kind"] == kind);
        lines
    };
    until("all refusals are in the audit", || lines("refused").len() == 6).await;
    assert!(lines("refused").iter().all(|line| line["message"].as_str().unwrap().starts_with("rights: ")));
    let connected = lines("connected");
    assert_eq!(connected[0]["token"], "tok-a");
    assert_eq!(connected[0]["name"], "name of tok-a");
    assert_eq!((&connected[0]["labels"], &connected[0]["rights"]), (&json!([]), &json!(["files"])));
}

#[tokio::test]
async fn a_session_is_resumed_by_nobody_who_may_do_less_than_those_who_used_it() {
    let mut bench = Bench::new();
    let mut client = introduced(&mut bench, "exec");
    client.handshake().await;
    let session = client.session.clone();
    client.start("p", &["sleep", "60"]).await;
    let expected = format!("rights: session {session} was used with rights that the client's token does not give");
    // Also while somebody holds it, who is not disturbed.
    for rights in ["files", "pty,http,files"] {
        let mut other = introduced(&mut bench, rights);
        assert_eq!(refusal(&other.resume(&session).await), expected, "{rights}");
    }
    assert!(client.call("process/list", json!({})).await["error"]["message"].as_str().is_some(), "not agreed on");
    client.vanish();
    bench.served().await;
    let mut other = introduced(&mut bench, "files");
    assert_eq!(refusal(&other.resume(&session).await), expected);
    let mut more = introduced(&mut bench, "exec,files");
    assert_eq!(more.resume(&session).await["result"]["sessionId"], session);
    more.vanish();
    let mut before = introduced(&mut bench, "exec");
    assert_eq!(refusal(&before.resume(&session).await), expected, "files may be open in it since");
    let mut all = introduced(&mut bench, ALL);
    assert_eq!(all.resume(&session).await["result"]["sessionId"], session);
    assert!(all.call("process/terminate", json!({"processId": "p"})).await["result"].is_object());
}
