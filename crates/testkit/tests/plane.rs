//! The whole way round in one process: registry, ticket, rendezvous, executor, client, over a link that misbehaves.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::time::Duration;

use exedra_client::connect::Options;
use exedra_client::process::{Command, Event};
use exedra_client::{Error, Executor};
use exedra_proto::path::AbsolutePath;
use exedra_proto::process::OutputStream;
use exedra_proto::registry::Transport;
use exedra_registry::token::Role;
use exedra_testkit::faults::Faults;
use exedra_testkit::plane::{EXECUTOR, ExecutorSide, Plane, ServerConfig, ServerSide, connect};

/// How many seeds to run; more in `cargo xtask soak`.
fn seeds() -> u64 {
    std::env::var("EXEDRA_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(2)
}

/// Prints numbered lines on stdout and stderr, so that a lost, doubled or misplaced byte shows.
const NUMBERS: &str = "i=0; while [ $i -lt 2000 ]; do echo out $i; echo err $i >&2; i=$((i+1)); done; exit 7";

fn numbers(word: &str) -> Vec<u8> {
    (0..2000).flat_map(|i| format!("{word} {i}\n").into_bytes()).collect()
}

fn sh(script: &str) -> Command {
    Command::new(["sh", "-c", script])
}

/// Runs to the end; output by stream, and the exit code.
async fn run(executor: &Executor, command: &Command) -> Result<(BTreeMap<OutputStream, Vec<u8>>, i32), Error> {
    let mut process = executor.start(command).await?;
    let mut output: BTreeMap<OutputStream, Vec<u8>> = BTreeMap::new();
    while let Some(event) = process.next().await? {
        if let Event::Output { stream, bytes } = event {
            output.entry(stream).or_default().extend_from_slice(&bytes);
        }
    }
    Ok((output, process.exit_code().unwrap()))
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

async fn assert_numbers(executor: &Executor) {
    let (output, code) = run(executor, &sh(NUMBERS)).await.unwrap();
    assert_eq!(code, 7);
    assert!(output[&OutputStream::Stdout] == numbers("out"), "stdout differs");
    assert!(output[&OutputStream::Stderr] == numbers("err"), "stderr differs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_the_whole_way_round_and_one_client_after_another() {
    let plane = Plane::start(None).await.unwrap();
    for _ in 0..3 {
        let executor = plane.connect().await.unwrap();
        assert_numbers(&executor).await;
        executor.close().await;
    }
    // Several clients at once.
    let turns = (0..4).map(|_| async {
        let executor = plane.connect().await.unwrap();
        let (output, code) = run(&executor, &sh("echo here")).await.unwrap();
        executor.close().await;
        (output[&OutputStream::Stdout].clone(), code)
    });
    for turn in futures_util::future::join_all(turns).await {
        assert_eq!(turn, (b"here\n".to_vec(), 0));
    }
    plane.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_at_once_share_one_executor_or_wait_in_line() {
    for transport in [Transport::Relay, Transport::Direct] {
        let plane = Plane::start_over(&[transport], None).await.unwrap();
        let holder = plane.connect().await.unwrap();
        let mut cat = holder.start(&Command { stdin: true, ..Command::new(["cat"]) }).await.unwrap();
        let other = plane.connect();
        if transport == Transport::Relay {
            assert_numbers(&other.await.unwrap()).await;
            cat.controls().close_stdin().await.unwrap();
        } else {
            let end = async {
                cat.controls().close_stdin().await.unwrap();
                while cat.next().await.unwrap().is_some() {}
                holder.close().await;
            };
            let (other, ()) = tokio::join!(other, end);
            assert_numbers(&other.unwrap()).await;
        }
        plane.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delays_and_overtaking_change_nothing() {
    for seed in 0..seeds() {
        // Overtaking is for messages whose order the client mends; a stream of relay frames has its own numbers.
        let (transport, overtake_one_in) = if seed % 2 == 0 { (Transport::Direct, 5) } else { (Transport::Relay, 0) };
        let faults = Faults { seed, delay_ms: 0..2, overtake_one_in, cut_after: 0..0 };
        let plane = Plane::start_over(&[transport], Some(faults)).await.unwrap();
        let executor = plane.connect().await.unwrap();
        assert_numbers(&executor).await;
        let path = AbsolutePath::native(plane.scratch().join("f")).unwrap();
        let files = executor.files();
        files.write(&path, b"one").await.unwrap();
        assert_eq!(files.read(&path).await.unwrap(), b"one");
        executor.close().await;
        plane.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_is_told_as_a_cut_and_the_next_client_is_served() {
    for seed in 0..seeds() {
        let faults = Faults { seed, delay_ms: 0..1, overtake_one_in: 0, cut_after: 20..60 };
        let plane = Plane::start(Some(faults)).await.unwrap();
        let mut cuts = 0;
        while cuts < 3 {
            // A cut during the handshake is waited out by the client itself.
            let options = Options { recovery: Duration::ZERO, ..Options::default() };
            let Ok(executor) = plane.connect_with(options).await else { continue };
            match run(&executor, &sh(NUMBERS)).await {
                Err(Error::LostWhileRunning(_)) => cuts += 1,
                // Before the answer to the start, the client must not claim to know.
                Err(error) => assert!(!error.to_string().is_empty() && !error.is_not_found(), "{error}"),
                Ok((output, code)) => {
                    assert_eq!(code, 7);
                    assert!(output[&OutputStream::Stdout] == numbers("out"), "a whole run with a part of its output");
                }
            }
        }
        plane.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_outlives_its_connection_the_whole_way_round() {
    let plane = Plane::start(Some(Faults::none())).await.unwrap();
    for offer in [None, Options::default().offer] {
        let executor = plane.connect_with(Options { offer, ..Options::default() }).await.unwrap();
        let mut command = sh("echo ready; read x; echo got $x; exit 7");
        command.stdin = true;
        let mut process = executor.start(&command).await.unwrap();
        assert!(matches!(process.next().await, Ok(Some(Event::Output { .. }))));
        plane.server.cut();
        let controls = process.controls();
        controls.write(b"it\n").await.unwrap();
        let Ok(Some(Event::Output { bytes, .. })) = process.next().await else { panic!("the rest") };
        assert_eq!(&bytes[..], b"got it\n");
        while process.next().await.unwrap().is_some() {}
        assert_eq!(process.exit_code(), Some(7));
        executor.close().await;
    }
    plane.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_executor_outlives_its_server() {
    let dir = tempfile::tempdir().unwrap();
    let config = |listen| ServerConfig { data_dir: dir.path().join("data"), listen, faults: None, times: None };
    let server = ServerSide::start(config("127.0.0.1:0".parse().unwrap())).await.unwrap();
    let (url, address) = (server.url.clone(), server.address);
    let token = server.token(Role::Executor).await.unwrap();
    let client = server.token(Role::Client).await.unwrap();
    let mut executor = ExecutorSide::start(&url, token, exedra_executor::ExecutorConfig::default()).unwrap();
    executor.registered().await.unwrap();
    let handle = connect(&url, &client).await.unwrap();
    assert_numbers(&handle).await;
    // It would come back, too, and hold the executor.
    drop(handle);
    server.stop().await;
    let before = executor.registrations();
    let server = ServerSide::start(config(address)).await.unwrap();
    let handle = connect(&url, &client).await.unwrap();
    assert_numbers(&handle).await;
    assert_eq!(executor.registrations(), before, "its ticket is good for the restarted server too");
    handle.close().await;
    executor.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_executor_takes_over_and_the_older_ones_client_is_told() {
    let plane = Plane::start(None).await.unwrap();
    let held = plane.connect().await.unwrap();
    let mut process = held.start(&sh("echo ready; sleep 600")).await.unwrap();
    assert!(matches!(process.next().await, Ok(Some(Event::Output { .. }))));
    let config = exedra_executor::ExecutorConfig::default();
    let newer = ExecutorSide::start(&plane.server.url, plane.executor_token.clone(), config).unwrap();
    let error = process.next().await.unwrap_err();
    let chain = chain(&error);
    assert!(chain.contains("took over"), "{EXECUTOR}: {chain}");
    newer.stop().await;
    plane.stop().await.unwrap();
}
