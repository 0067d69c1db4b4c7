//! Who comes to an executor through a real server, by which labels, and what they may do there, on either transport.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::time::Duration;

use exedra_client::Executor;
use exedra_client::process::Command;
use exedra_executor::ExecutorConfig;
use exedra_executor::audit::log::each_line;
use exedra_executor::audit::{Audit, AuditConfig};
use exedra_host::policy::{Current, Policy};
use exedra_proto::path::AbsolutePath;
use exedra_proto::registry::{RegisterReply, Transport};
use exedra_proto::secret::Secret;
use exedra_registry::NewToken;
use exedra_registry::token::{Labels, Rights, Role};
use exedra_testkit::plane::{EXECUTOR, ExecutorSide, ServerConfig, ServerSide, connect};
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

const TRANSPORTS: [Transport; 2] = [Transport::Direct, Transport::Relay];

async fn server(dir: &std::path::Path) -> ServerSide {
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    ServerSide::start(ServerConfig { data_dir: dir.join("data"), listen, faults: None, times: None }).await.unwrap()
}

async fn token(server: &ServerSide, role: Role, name: &str, labels: &[(&str, &str)], rights: Rights) -> Secret {
    let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let new = NewToken { labels: Labels::new(labels).unwrap(), name: name.to_owned(), rights, ..NewToken::of(role) };
    server.registry.tokens().create(new).await.unwrap().secret
}

fn owned_by(text: &str) -> ExecutorConfig {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("policy.toml");
    std::fs::write(&file, text).unwrap();
    let mut config = ExecutorConfig::default();
    config.host.policy = Current::new(Policy::load(&file).unwrap());
    config
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

async fn code(executor: &Executor) -> i32 {
    let mut process = executor.start(&Command::new(["true"])).await.unwrap();
    while process.next().await.unwrap().is_some() {}
    process.exit_code().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn labels_of_the_clients_token_let_it_in_or_not() {
    for transport in TRANSPORTS {
        let dir = tempfile::tempdir().unwrap();
        let server = server(dir.path()).await;
        let labels = [("team", "ml"), ("ci", "")];
        let own = token(&server, Role::Executor, "", &labels, Rights::ALL).await;
        let audit = Audit::open(&AuditConfig::new(dir.path().join("log"), dir.path().join("identity"))).unwrap();
        let config = ExecutorConfig { audit: Some(audit), ..owned_by("[clients]\nlabels = [\"ci\", \"team=web\"]\n") };
        let mut executor = ExecutorSide::start_over(&[transport], &server.url, own, config).unwrap();
        executor.registered().await.unwrap();
        let ci = token(&server, Role::Client, "the build", &labels, Rights::ALL).await;
        let ml = token(&server, Role::Client, "", &labels[..1], Rights::ALL).await;
        let none = token(&server, Role::Client, "", &[], Rights::ALL).await;
        for stranger in [&ml, &none] {
            let error = connect(&server.url, stranger).await.unwrap_err();
            let text = chain(error.as_ref());
            assert!(text.contains("policy: clients: the client's token has no label of `labels`"), "{text}");
        }
        let client = connect(&server.url, &ci).await.unwrap();
        assert_eq!(code(&client).await, 0, "{transport:?}");
        client.close().await;
        executor.stop().await;
        let mut names = Vec::new();
        each_line(&dir.path().join("log"), &mut |_, line| {
            let line: Value = serde_json::from_slice(line).unwrap();
            if line["kind"] == "connected" {
                names.push((line["name"].clone(), line["labels"].clone()));
                assert!(line["token"].as_str().unwrap().starts_with("tok-"), "{line}");
            }
            true
        })
        .unwrap();
        assert!(names.contains(&(json!("the build"), json!(["ci", "team=ml"]))), "{names:?}");
        assert!(names.contains(&(Value::Null, json!(["team=ml"]))), "{names:?}");
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_clients_that_reach_one_executor_its_policy_lets_in_the_one_that_it_names() {
    for transport in TRANSPORTS {
        let dir = tempfile::tempdir().unwrap();
        let server = server(dir.path()).await;
        let own = token(&server, Role::Executor, "", &[("gpu", "yes")], Rights::ALL).await;
        let config = owned_by("[clients]\nlabels = [\"team=a\"]\n");
        let mut executor = ExecutorSide::start_over(&[transport], &server.url, own, config).unwrap();
        executor.registered().await.unwrap();
        let client = async |labels: &[(&str, &str)], told: &[(&str, &str)]| {
            let checked = |pairs: &[(&str, &str)]| {
                Labels::new(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))).unwrap()
            };
            let (labels, client_labels) = (checked(labels), Some(checked(told)));
            let new = NewToken { labels, client_labels, ..NewToken::of(Role::Client) };
            server.registry.tokens().create(new).await.unwrap().secret
        };
        let let_in = client(&[("gpu", "yes")], &[("team", "a")]).await;
        let connected = connect(&server.url, &let_in).await.unwrap();
        assert_eq!(code(&connected).await, 0, "{transport:?}");
        connected.close().await;
        for told in [&[("team", "b")][..], &[]] {
            let error = connect(&server.url, &client(&[("gpu", "yes")], told).await).await.unwrap_err();
            let text = chain(error.as_ref());
            assert!(text.contains("policy: clients: the client's token has no label of `labels`"), "{told:?}: {text}");
        }
        // Who it is opens no executor to it, and what it reaches does not say who it is.
        let error = connect(&server.url, &client(&[("team", "a")], &[("gpu", "yes")]).await).await.unwrap_err();
        assert!(chain(error.as_ref()).contains("other labels"), "{}", chain(error.as_ref()));
        executor.stop().await;
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_may_do_what_its_token_gives() {
    for transport in TRANSPORTS {
        let dir = tempfile::tempdir().unwrap();
        let server = server(dir.path()).await;
        let own = token(&server, Role::Executor, "", &[], Rights::ALL).await;
        let config = ExecutorConfig::default();
        let mut executor = ExecutorSide::start_over(&[transport], &server.url, own, config).unwrap();
        executor.registered().await.unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "text").unwrap();
        let path = AbsolutePath::native(&file).unwrap();

        let files = token(&server, Role::Client, "", &[], Rights::parse("files").unwrap()).await;
        let client = connect(&server.url, &files).await.unwrap();
        assert_eq!(client.files().read(&path).await.unwrap(), b"text");
        let text = chain(&client.start(&Command::new(["true"])).await.unwrap_err());
        assert!(text.contains("rights: process/start needs the right exec"), "{transport:?}: {text}");
        client.close().await;

        let exec = token(&server, Role::Client, "", &[], Rights::parse("exec").unwrap()).await;
        let client = connect(&server.url, &exec).await.unwrap();
        assert_eq!(code(&client).await, 0);
        let text = chain(&client.files().read(&path).await.unwrap_err());
        assert!(text.contains("rights: fs/readFile needs the right files"), "{transport:?}: {text}");
        client.close().await;
        executor.stop().await;
        server.stop().await;
    }
}

/// An executor as a stock one: it asks for nothing beyond the protocol, and sends back what it gets.
async fn stock(server: &ServerSide, token: &Secret) -> RegisterReply {
    let host = server.address;
    let body = json!({
        "idempotency_id": "i", "executor_id": EXECUTOR, "name": "codex-exec-server", "labels": {}, "metadata": {}
    })
    .to_string();
    let request = format!(
        "POST /cloud/executor/{EXECUTOR}/register HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        token.expose(),
        body.len()
    );
    let mut stream = tokio::net::TcpStream::connect(host).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut answer).await.unwrap();
    let start = answer.find('{').unwrap();
    let end = answer.rfind('}').unwrap();
    serde_json::from_str(&answer[start..=end]).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stock_executor_is_told_nothing_and_reached_by_nobody_who_may_do_less_than_all() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(dir.path()).await;
    let own = token(&server, Role::Executor, "", &[], Rights::ALL).await;
    let reply = stock(&server, &own).await;
    let (mut websocket, answer) = tokio_tungstenite::connect_async(reply.url.expose()).await.unwrap();
    assert!(answer.headers().get("exedra-introductions").is_none());
    let some = token(&server, Role::Client, "", &[], Rights::parse("exec,files,http").unwrap()).await;
    let error = connect(&server.url, &some).await.unwrap_err();
    let text = chain(error.as_ref());
    assert!(
        text.contains("the token's rights are exec,files,http alone, and this executor cannot be told so"),
        "{text}"
    );
    let all = token(&server, Role::Client, "", &[], Rights::ALL).await;
    let (mut coming, url) = (JoinSet::new(), server.url.clone());
    coming.spawn(async move { connect(&url, &all).await.map(drop).map_err(|error| error.to_string()) });
    let first = tokio::time::timeout(Duration::from_secs(30), async {
        loop {
            match websocket.next().await.unwrap().unwrap() {
                Message::Text(text) => break text.to_string(),
                Message::Binary(bytes) => break String::from_utf8(bytes.to_vec()).unwrap(),
                _ => {}
            }
        }
    })
    .await
    .unwrap();
    let first: Value = serde_json::from_str(&first).unwrap();
    assert_eq!(first["method"], "initialize", "the client's own words come first: {first}");
    websocket.close(None).await.unwrap();
    coming.shutdown().await;
    server.stop().await;
}
