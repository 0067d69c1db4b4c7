//! Every exchange recorded from stock 0.130 and 0.169, replayed against one and the same executor over a real websocket.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use exedra_executor::listen::{ListenOptions, ListenUrl, Listener};
use exedra_executor::{Executor, ExecutorConfig};
use exedra_testkit::pattern::Bindings;
use exedra_testkit::{replay, stage};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What one version answered.
struct Recording {
    cases: &'static str,
    /// How many there are.
    count: usize,
    /// What we answer otherwise on purpose.
    intended: &'static str,
    /// `session-expired` waits a little longer than a session lives; here one lives for a second.
    expiry_pace: f64,
}

const EARLY: Recording = Recording {
    cases: include_str!("../../proto/fixtures/codex-0.130.jsonl"),
    count: 141,
    intended: include_str!("../../proto/fixtures/intended-0.130.jsonl"),
    expiry_pace: 0.1,
};
const LATE: Recording = Recording {
    cases: include_str!("../../proto/fixtures/codex-0.169.jsonl"),
    count: 161,
    intended: include_str!("../../proto/fixtures/intended-0.169.jsonl"),
    expiry_pace: 0.0135,
};

/// Cases that tell events apart by when they happen; a machine under load may need another attempt.
const ATTEMPTS: usize = 3;

impl Recording {
    fn cases(&self) -> Vec<replay::Case> {
        let mut cases = replay::parse_lines(self.cases).unwrap();
        replay::amend(&mut cases, replay::parse_lines(self.intended).unwrap()).unwrap();
        cases
    }
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
    bindings.bind("<home>", std::env::var("HOME").unwrap());
    bindings.bind("<cwd>", std::env::current_dir().unwrap().to_str().unwrap());
    replay::run(case, address, bindings, pace).await
}

async fn replay(recording: &Recording) {
    let http = stage::HttpServer::start().await.unwrap();
    let (address, _listener) = listen(ExecutorConfig::default()).await;
    let short = ExecutorConfig { session_ttl: Duration::from_secs(1), ..ExecutorConfig::default() };
    let (short_lived, _other_listener) = listen(short).await;
    let mut failures = Vec::new();
    for case in recording.cases() {
        let expiry = case.case == "session-expired";
        let (address, pace) = if expiry { (&short_lived, recording.expiry_pace) } else { (&address, 1.0) };
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_reply_recorded_from_0_130_is_ours_or_improved_on_purpose() {
    replay(&EARLY).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_reply_recorded_from_0_169_is_ours_or_improved_on_purpose() {
    replay(&LATE).await;
}

#[test]
fn the_lists_of_differences_are_reasoned_and_name_recorded_cases() {
    for recording in [EARLY, LATE] {
        let intended: Vec<replay::Intended> = replay::parse_lines(recording.intended).unwrap();
        assert!(intended.iter().all(|item| !item.reason.is_empty()));
        let recorded: Vec<replay::Case> = replay::parse_lines(recording.cases).unwrap();
        assert_eq!(recorded.len(), recording.count);
        for item in &intended {
            let case = recorded.iter().find(|case| case.case == item.case).unwrap();
            assert_ne!(case.expect, item.expect, "{} is no difference", item.case);
        }
    }
}
