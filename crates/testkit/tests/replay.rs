//! Every exchange recorded from stock 0.130, replayed against our executor over a real websocket.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use exedra_executor::listen::{ListenOptions, ListenUrl, Listener};
use exedra_executor::{Executor, ExecutorConfig};
use exedra_testkit::pattern::Bindings;
use exedra_testkit::{replay, stage};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const RECORDED: &str = include_str!("../../proto/fixtures/codex-0.130.jsonl");
const INTENDED: &str = include_str!("../../proto/fixtures/intended-0.130.jsonl");

/// Cases that tell events apart by when they happen; a machine under load may need another attempt.
const ATTEMPTS: usize = 3;
/// `session-expired` waits 10.6 s for a session that lives 10 s; here both are a tenth.
const EXPIRY_PACE: f64 = 0.1;

fn cases() -> Vec<replay::Case> {
    let mut cases = replay::parse_lines(RECORDED).unwrap();
    replay::amend(&mut cases, replay::parse_lines(INTENDED).unwrap()).unwrap();
    cases
}

async fn listen(config: ExecutorConfig) -> (String, JoinSet<()>) {
    let executor = Arc::new(Executor::new(config).unwrap());
    let url = ListenUrl::Ws("127.0.0.1:0".parse().unwrap());
    let listener = Listener::bind(&url, ListenOptions::default()).await.unwrap();
    let address = listener.url().to_string().strip_prefix("ws://").unwrap().to_owned();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        listener.run(executor, CancellationToken::new()).await;
    });
    (address, tasks)
}

async fn run(case: &replay::Case, address: &str, http: &str, pace: f64) -> Result<(), String> {
    let dir = tempfile::tempdir().unwrap();
    stage::fill(dir.path()).unwrap();
    let mut bindings = Bindings::default();
    bindings.bind("<dir>", dir.path().to_str().unwrap());
    bindings.bind("<http-server>", http);
    replay::run(case, address, bindings, pace).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_recorded_reply_is_ours_or_improved_on_purpose() {
    let http = stage::HttpServer::start().await.unwrap();
    let (address, _listener) = listen(ExecutorConfig::default()).await;
    let short = ExecutorConfig { session_ttl: Duration::from_secs(1), ..ExecutorConfig::default() };
    let (short_lived, _other_listener) = listen(short).await;
    let mut failures = Vec::new();
    for case in cases() {
        let expiry = case.case == "session-expired";
        let (address, pace) = if expiry { (&short_lived, EXPIRY_PACE) } else { (&address, 1.0) };
        let mut last = Ok(());
        for _ in 0..ATTEMPTS {
            last = run(&case, address, &http.address, pace).await;
            if last.is_ok() {
                break;
            }
        }
        failures.extend(last.err().map(|difference| format!("{}: {difference}", case.case)));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn the_list_of_intended_differences_is_short_and_reasoned() {
    let intended: Vec<replay::Intended> = replay::parse_lines(INTENDED).unwrap();
    assert!(intended.iter().all(|item| !item.reason.is_empty()));
    let recorded: Vec<replay::Case> = replay::parse_lines(RECORDED).unwrap();
    assert_eq!(recorded.len(), 141);
    for item in &intended {
        let case = recorded.iter().find(|case| case.case == item.case).unwrap();
        assert_ne!(case.expect, item.expect, "{} is no difference", item.case);
    }
}
