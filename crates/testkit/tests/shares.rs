//! One client that takes all streams of an executor, through a real server, and others that work there nevertheless.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use exedra_client::Executor;
use exedra_client::process::{Command, Event};
use exedra_link::dial::registry::{HttpOptions, RegistryClient};
use exedra_proto::frame::{Body, Frame, StreamId};
use exedra_proto::ids::ExecutorId;
use exedra_proto::registry::ConnectRequest;
use exedra_rendezvous::limits::MAX_STREAMS;
use exedra_testkit::plane::{EXECUTOR, Plane};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio_tungstenite::tungstenite::Message;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap()
}

async fn said(executor: &Executor, words: &str) -> Vec<u8> {
    let mut process = executor.start(&Command::new(["echo", words])).await.unwrap();
    let mut output = Vec::new();
    while let Some(event) = process.next().await.unwrap() {
        if let Event::Output { bytes, .. } = event {
            output.extend_from_slice(&bytes);
        }
    }
    output
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_has_all_streams_of_an_executor_gives_one_to_each_who_comes() {
    let plane = Plane::start(None).await.unwrap();
    let before = plane.connect().await.unwrap();
    assert_eq!(within(said(&before, "before")).await, b"before\n");
    let registry = RegistryClient::new(&plane.server.url, Some(&plane.client_token), &HttpOptions::default()).unwrap();
    let request = ConnectRequest { public_key: None, transports: vec!["relay".to_owned()], wait_ms: 0 };
    let ticket = registry.connect(&ExecutorId::parse(EXECUTOR).unwrap(), &request).await.unwrap();
    let (mut greedy, _) = tokio_tungstenite::connect_async(ticket.url.expose()).await.unwrap();
    let hello = r#"{"id":1,"method":"initialize","params":{"clientName":"greedy"}}"#;
    for _ in 1..MAX_STREAMS {
        let frame = Frame { stream: StreamId::fresh(), body: Body::Data { seq: 0, payload: hello.into() } };
        greedy.send(Message::Binary(frame.encode())).await.unwrap();
    }
    // Each is a connection of the executor's, which answers in it.
    let mut answers = 0;
    while answers < MAX_STREAMS - 1 {
        let Message::Binary(bytes) = within(greedy.next()).await.unwrap().unwrap() else { continue };
        match Frame::decode(bytes).unwrap().body {
            Body::Data { .. } => answers += 1,
            other => assert_eq!(other, Body::Ack, "none was refused"),
        }
    }
    let mut newcomers = Vec::new();
    for number in 0..5 {
        let newcomer = within(plane.connect()).await.unwrap();
        assert_eq!(within(said(&newcomer, &number.to_string())).await, format!("{number}\n").into_bytes());
        assert_eq!(within(said(&before, "still")).await, b"still\n", "who has but one keeps it");
        newcomers.push(newcomer);
    }
    for _ in &newcomers {
        let reset = loop {
            let Message::Binary(bytes) = within(greedy.next()).await.unwrap().unwrap() else { continue };
            break Frame::decode(bytes).unwrap().body;
        };
        assert_eq!(reset, Body::Reset { reason: "gave_way".to_owned() });
    }
    for newcomer in newcomers {
        assert_eq!(within(said(&newcomer, "again")).await, b"again\n");
        newcomer.close().await;
    }
    before.close().await;
    plane.stop().await.unwrap();
}
