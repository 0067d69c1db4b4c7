//! Relay frames the whole way: our executor behind a rendezvous for streams, our client on the other side of it.
#![expect(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use exedra_client::process::{Command, Event};
use exedra_client::{Executor as Client, connect};
use exedra_executor::daemon::{Daemon, DaemonConfig, TokenSource};
use exedra_executor::{Executor, ExecutorConfig};
use exedra_proto::process::OutputStream;
use exedra_proto::secret::Secret;
use exedra_testkit::streams::StreamPlane;
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

struct Rig {
    plane: StreamPlane,
    cancel: CancellationToken,
    daemon: JoinSet<()>,
}

impl Rig {
    async fn start(plane: StreamPlane) -> Self {
        let executor = Arc::new(Executor::new(ExecutorConfig::default()).unwrap());
        let token = TokenSource::Fixed(Secret::new("any"));
        let daemon =
            Daemon::new(DaemonConfig { token, ..DaemonConfig::new(&plane.registry, "box") }, executor).unwrap();
        let (cancel, mut tasks) = (CancellationToken::new(), JoinSet::new());
        let stop = cancel.clone();
        tasks.spawn(async move {
            daemon.run(stop, |_| {}).await;
        });
        let rig = Self { plane, cancel, daemon: tasks };
        rig.until("the executor is online", |plane| plane.is_online()).await;
        rig
    }

    async fn until(&self, what: &str, ready: impl Fn(&StreamPlane) -> bool) {
        let wait = async {
            while !ready(&self.plane) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("waited too long: {what}"));
    }

    async fn client(&self) -> Client {
        connect::listener(&self.plane.harness, None, PATIENCE, |_, _| {}).await.unwrap()
    }

    /// One that does not seek another connection.
    async fn fragile_client(&self) -> Client {
        let options = connect::Options { recovery: Duration::ZERO, ..connect::Options::default() };
        connect::listener_with(options, &self.plane.harness, None, PATIENCE, |_, _| {}).await.unwrap()
    }

    async fn stop(mut self) {
        self.cancel.cancel();
        while self.daemon.join_next().await.is_some() {}
    }
}

async fn run(client: &Client, script: &str) -> (BTreeMap<OutputStream, Vec<u8>>, i32) {
    let mut process = client.start(&Command::new(["sh", "-c", script])).await.unwrap();
    let mut output: BTreeMap<OutputStream, Vec<u8>> = BTreeMap::new();
    while let Some(event) = process.next().await.unwrap() {
        if let Event::Output { stream, bytes } = event {
            output.entry(stream).or_default().extend_from_slice(&bytes);
        }
    }
    (output, process.exit_code().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_clients_at_once_on_one_socket_of_the_executor() {
    let rig = Rig::start(StreamPlane::start().await.unwrap()).await;
    // Each one holds its connection until all have run: one after another would never end.
    let here = Arc::new(tokio::sync::Barrier::new(20));
    let clients = (0..20).map(|number| {
        let (rig, here) = (&rig, Arc::clone(&here));
        async move {
            let client = rig.client().await;
            here.wait().await;
            let script = format!("i=0; while [ $i -lt 200 ]; do echo {number} $i; i=$((i+1)); done; exit {number}");
            let (output, code) = run(&client, &script).await;
            let expected: String = (0..200).map(|i| format!("{number} {i}\n")).collect();
            assert_eq!(code, number);
            assert!(output[&OutputStream::Stdout] == expected.into_bytes(), "client {number}");
            here.wait().await;
            client.close().await;
        }
    });
    tokio::time::timeout(PATIENCE, futures_util::future::join_all(clients)).await.unwrap();
    assert_eq!((rig.plane.registrations(), rig.plane.dialled()), (1, 1));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn much_output_and_large_answers_arrive_whole_beside_small_ones() {
    let rig = Rig::start(StreamPlane::answering(json!({"id": "r", "transport": "relay"})).await.unwrap()).await;
    let (greedy, modest) = (rig.client().await, rig.client().await);
    let much = run(&greedy, "seq 1 3000000");
    let little = async {
        for number in 0..20 {
            let (output, _) = run(&modest, &format!("echo {number}")).await;
            assert_eq!(output[&OutputStream::Stdout], format!("{number}\n").into_bytes());
        }
    };
    let ((output, code), ()) = tokio::time::timeout(PATIENCE, async { tokio::join!(much, little) }).await.unwrap();
    let expected: String = (1..=3_000_000).map(|n| format!("{n}\n")).collect();
    assert_eq!(code, 0);
    assert!(output[&OutputStream::Stdout] == expected.into_bytes(), "{} bytes", output[&OutputStream::Stdout].len());
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_socket_costs_the_clients_their_connections_and_the_executor_no_registration() {
    let rig = Rig::start(StreamPlane::start().await.unwrap()).await;
    let (one, another) = (rig.fragile_client().await, rig.fragile_client().await);
    rig.plane.cut_executor();
    tokio::time::timeout(PATIENCE, async { tokio::join!(one.finished(), another.finished()) }).await.unwrap();
    rig.until("it is back", |plane| plane.dialled() == 2 && plane.is_online()).await;
    assert_eq!(run(&rig.client().await, "echo back").await.0[&OutputStream::Stdout], b"back\n");
    assert_eq!(rig.plane.registrations(), 1, "the ticket is good as long as it is taken");
    rig.plane.expire();
    rig.plane.cut_executor();
    rig.until("it has registered anew", |plane| plane.registrations() == 2 && plane.is_online()).await;
    assert_eq!(run(&rig.client().await, "echo again").await.0[&OutputStream::Stdout], b"again\n");
    rig.stop().await;
}
