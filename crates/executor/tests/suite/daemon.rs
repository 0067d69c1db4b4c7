//! The daemon against a scripted registry and rendezvous: every class of answer, with short pauses.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use exedra_executor::daemon::verdict::{Pauses, Reason};
use exedra_executor::daemon::{Daemon, DaemonConfig, Event, Exit, TokenSource};
use exedra_executor::{Executor, ExecutorConfig, ExecutorError};
use exedra_link::dial::backoff::Backoff;
use exedra_proto::close::CloseReason;
use exedra_proto::secret::Secret;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::bench::{config, until, within};
use crate::script::{Registry, Rendezvous, answer, refused, registered};

const SHORT: Duration = Duration::from_millis(10);
/// A pause that a test notices.
const LONG: Duration = Duration::from_secs(60);

pub struct Running {
    pub events: Arc<Mutex<Vec<Event>>>,
    pub cancel: CancellationToken,
    task: JoinSet<Exit>,
}

pub fn settings(registry: &Registry) -> DaemonConfig {
    let passing = Backoff::with_times(SHORT, 2 * SHORT);
    let pauses = Pauses { passing: passing.clone(), refused: passing, ..Pauses::default() };
    let token = TokenSource::Fixed(Secret::new("SECRET-TOKEN"));
    DaemonConfig { token, pauses, ..DaemonConfig::new(registry.url.clone(), " box ") }
}

pub fn run(config: DaemonConfig) -> Running {
    run_with(config, crate::bench::config())
}

pub fn run_with(config: DaemonConfig, executor: ExecutorConfig) -> Running {
    let executor = Arc::new(Executor::new(executor).unwrap());
    let daemon = Daemon::new(config, executor).unwrap();
    let (events, cancel) = (Arc::new(Mutex::new(Vec::new())), CancellationToken::new());
    let (seen, stop) = (Arc::clone(&events), cancel.clone());
    let mut task = JoinSet::new();
    task.spawn(async move { daemon.run(stop, move |event| seen.lock().unwrap().push(event)).await });
    Running { events, cancel, task }
}

impl Running {
    pub async fn exit(&mut self) -> Exit {
        within("the daemon's end", self.task.join_next()).await.unwrap().unwrap()
    }

    pub async fn stop(mut self) {
        self.cancel.cancel();
        assert_eq!(self.exit().await, Exit::Cancelled);
    }

    /// Why attempts ended so far.
    pub fn reasons(&self) -> Vec<String> {
        let events = self.events.lock().unwrap();
        let reason = |event: &Event| match event {
            Event::Waiting { reason, .. } => Some(reason.clone()),
            _ => None,
        };
        events.iter().filter_map(reason).collect()
    }
}

#[tokio::test]
async fn registers_as_the_seed_does_and_serves() {
    let mut rendezvous = Rendezvous::start().await;
    let url = rendezvous.url.clone();
    let registry = Registry::start(move |_| registered(&url)).await;
    let running = run(settings(&registry));
    let mut client = rendezvous.accept().await;
    client.handshake().await;
    client.start("p", &["echo", "hi"]).await;
    assert_eq!(client.follow("p").await.stdout, b"hi\n");
    let request = registry.requests.lock().unwrap()[0].clone();
    assert!(request.head.starts_with("POST /cloud/executor/box/register HTTP/1.1\r\n"), "{}", request.head);
    assert_eq!(request.header("authorization"), Some("Bearer SECRET-TOKEN"));
    let body: Value = serde_json::from_str(&request.body).unwrap();
    assert_eq!((&body["executor_id"], &body["name"]), (&json!("box"), &json!("codex-exec-server")));
    let expected = Event::Registered { id: "reg-1".into(), executor_id: "box".into() };
    assert_eq!(running.events.lock().unwrap()[..2], [expected, Event::Connected]);
    running.stop().await;
    assert_eq!(client.ended().await.reason(), Some(CloseReason::GoingAway));
}

#[tokio::test]
async fn what_is_wrong_is_told_before_anything_is_sent() {
    let executor = Arc::new(Executor::new(config()).unwrap());
    let token = TokenSource::Fixed(Secret::new("t"));
    let fails = |config: DaemonConfig| match Daemon::new(config, Arc::clone(&executor)).unwrap_err() {
        ExecutorError::Registration(error) => error.to_string(),
        other => panic!("{other}"),
    };
    let unset = TokenSource::Env("EXEDRA_TEST_THIS_IS_NOT_SET".into());
    let text = fails(DaemonConfig { token: unset, ..DaemonConfig::new("", "") });
    assert!(text.starts_with("executor registry authentication error: "), "{text}");
    let text = fails(DaemonConfig { token: token.clone(), ..DaemonConfig::new(" / ", " ") });
    let expected = "executor registry configuration error: executor id is required for remote exec-server registration";
    assert_eq!(text, expected);
    let text = fails(DaemonConfig { token, ..DaemonConfig::new(" / ", "box") });
    assert_eq!(text, "executor registry configuration error: executor registry base URL is required");
}

#[tokio::test]
async fn failures_that_pass_are_retried_until_they_do() {
    let mut rendezvous = Rendezvous::start().await;
    let url = rendezvous.url.clone();
    let script = [
        refused("503 Service Unavailable"),
        refused("500 Internal Server Error"),
        refused("408 Request Timeout"),
        refused("409 Conflict"),
        refused("425 Too Early"),
        refused("429 Too Many Requests"),
        answer("200 OK", "", "<html>garbage</html>"),
        answer("200 OK", "", r#"{"id":"reg-1"}"#),
        answer("200 OK", "", &json!({"id": "r", "executor_id": "box", "url": "not a url"}).to_string()),
        "HTTP/9 nonsense\r\n\r\n".to_owned(),
        String::new(),
    ];
    let count = script.len();
    let registry = Registry::start(move |n| script.get(n).cloned().unwrap_or_else(|| registered(&url))).await;
    let running = run(settings(&registry));
    rendezvous.accept().await.handshake().await;
    let reasons = running.reasons();
    assert_eq!((registry.count(), reasons.len()), (count + 1, count));
    assert_eq!(reasons[0], "executor registry request failed (503 Service Unavailable, c): because");
    let log = format!("{reasons:?}");
    assert!(!log.contains("SECRET"), "{log}");
    running.stop().await;
}

#[tokio::test]
async fn a_registry_that_is_not_there_is_waited_for() {
    let mut rendezvous = Rendezvous::start().await;
    let registry = {
        let url = rendezvous.url.clone();
        let registry = Registry::start(move |_| registered(&url)).await;
        // Only its port is needed: nobody listens there now.
        settings(&registry)
    };
    let address = registry.base_url.trim_start_matches("http://").to_owned();
    let running = run(registry);
    until("three attempts", || running.reasons().len() >= 3).await;
    assert!(running.reasons()[0].starts_with("executor registry request failed: "));
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let (mut stream, _) = within("the next attempt", listener.accept()).await.unwrap();
    stream.write_all(registered(&rendezvous.url).as_bytes()).await.unwrap();
    rendezvous.accept().await.handshake().await;
    running.stop().await;
}

#[tokio::test]
async fn who_does_not_answer_in_time_is_tried_again() {
    let mut rendezvous = Rendezvous::start().await;
    // Takes connections, and never says a word.
    let mute = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = rendezvous.url.clone();
    let registry = Registry::start(move |_| registered(&url)).await;
    let mut config = settings(&registry);
    config.http.request_timeout = Duration::from_millis(100);
    config.dial.timeout = Duration::from_millis(100);
    let mut nowhere = config.clone();
    nowhere.base_url = format!("http://{}", mute.local_addr().unwrap());
    let running = run(nowhere);
    until("two attempts", || running.reasons().len() >= 2).await;
    running.stop().await;
    let running = run(config);
    let _unanswered = rendezvous.arrival().await;
    rendezvous.accept().await.handshake().await;
    assert!(running.reasons()[0].contains("no answer within"), "{:?}", running.reasons());
    running.stop().await;
}

#[tokio::test]
async fn retry_after_is_honoured() {
    let registry = Registry::start(|_| answer("429 Too Many Requests", "retry-after: 86400\r\n", "{}")).await;
    let running = run(settings(&registry));
    until("the pause", || !running.events.lock().unwrap().is_empty()).await;
    let events = running.events.lock().unwrap().clone();
    let Event::Waiting { pause, .. } = events[0] else { panic!("{events:?}") };
    assert_eq!(pause, Duration::from_secs(300));
    running.stop().await;
}

#[tokio::test]
async fn a_refused_token_ends_it_after_five_retries_with_the_token_read_anew() {
    for status in ["401 Unauthorized", "403 Forbidden"] {
        let registry = Registry::start(move |_| refused(status)).await;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, "first\n").unwrap();
        let token = TokenSource::File(file.clone());
        let mut running = run(DaemonConfig { token, ..settings(&registry) });
        until("an attempt", || registry.count() > 0).await;
        std::fs::write(&file, "second\n").unwrap();
        let exit = running.exit().await;
        let Exit::GaveUp { reason: Reason::Auth, text, .. } = exit else { panic!("{exit:?}") };
        let words = "executor registry authentication error: executor registry authentication failed";
        assert_eq!(text, format!("{words} ({status}): because"));
        let requests = registry.requests.lock().unwrap();
        assert_eq!(requests.len(), 6);
        assert_eq!(requests[0].header("authorization"), Some("Bearer first"));
        assert_eq!(requests[5].header("authorization"), Some("Bearer second"));
    }
}

#[tokio::test]
async fn other_refusals_end_it_at_once() {
    for status in ["400 Bad Request", "404 Not Found", "410 Gone", "422 Unprocessable Entity"] {
        let registry = Registry::start(move |_| refused(status)).await;
        let exit = run(settings(&registry)).exit().await;
        let Exit::GaveUp { reason: Reason::Refused, text, .. } = exit else { panic!("{exit:?}") };
        assert_eq!(text, format!("executor registry request failed ({status}, c): because"));
        assert_eq!(registry.count(), 1);
    }
}

#[tokio::test]
async fn after_a_success_no_refusal_ends_it() {
    let mut rendezvous = Rendezvous::start().await;
    let url = rendezvous.url.clone();
    let statuses = ["401 Unauthorized", "403 Forbidden", "404 Not Found", "400 Bad Request", "410 Gone"];
    let registry = Registry::start(move |n| match n {
        1..=20 => refused(statuses[n % statuses.len()]),
        _ => registered(&url),
    })
    .await;
    let running = run(settings(&registry));
    rendezvous.accept().await.vanish();
    rendezvous.accept().await.handshake().await;
    assert_eq!(registry.count(), 22);
    running.stop().await;
}

#[tokio::test]
async fn a_rendezvous_that_refuses_is_tried_again_with_a_new_registration() {
    let mut rendezvous = Rendezvous::start().await;
    let url = rendezvous.url.clone();
    let registry = Registry::start(move |_| registered(&url)).await;
    let running = run(settings(&registry));
    let statuses = ["401 Unauthorized", "403 Forbidden", "409 Conflict", "404 Not Found", "503 Service Unavailable"];
    for status in statuses {
        rendezvous.refuse(status).await;
    }
    let (mut stream, _) = rendezvous.arrival().await;
    stream.write_all(b"\x00\xff garbage\r\n\r\n").await.unwrap();
    drop(stream);
    rendezvous.accept().await.handshake().await;
    assert_eq!(registry.count(), statuses.len() + 2);
    let log = format!("{:?}", running.events.lock().unwrap());
    assert!(log.contains("refused the websocket: 409 Conflict") && !log.contains("SECRET"), "{log}");
    running.stop().await;
}

#[tokio::test]
async fn a_client_that_is_done_is_followed_by_the_next_at_once() {
    let mut rendezvous = Rendezvous::start().await;
    let url = rendezvous.url.clone();
    let registry = Registry::start(move |_| registered(&url)).await;
    let pauses = Pauses { passing: Backoff::with_times(LONG, LONG), ..Pauses::default() };
    let running = run(DaemonConfig { pauses, ..settings(&registry) });
    let began = Instant::now();
    for reason in [CloseReason::PeerDone, CloseReason::PeerLost, CloseReason::PeerDone] {
        let mut client = rendezvous.accept().await;
        client.handshake().await;
        client.sender.close(reason);
    }
    rendezvous.accept().await.handshake().await;
    assert!(began.elapsed() < LONG / 4);
    running.stop().await;
}

#[tokio::test]
async fn good_order_without_a_word_from_a_client_is_no_hot_loop() {
    let mut rendezvous = Rendezvous::start().await;
    let url = rendezvous.url.clone();
    let registry = Registry::start(move |_| registered(&url)).await;
    let running = run(settings(&registry));
    for _ in 0..3 {
        rendezvous.accept().await.sender.close(CloseReason::PeerDone);
    }
    until("three pauses", || running.reasons().len() >= 3).await;
    let events = running.events.lock().unwrap().clone();
    let pauses = events.iter().filter_map(|event| match event {
        Event::Waiting { pause, .. } => Some(*pause),
        _ => None,
    });
    assert!(pauses.clone().all(|pause| pause >= SHORT / 2), "{events:?}");
    running.stop().await;
}

#[tokio::test]
async fn a_session_is_resumed_over_the_next_connection() {
    let mut rendezvous = Rendezvous::start().await;
    let url = rendezvous.url.clone();
    let registry = Registry::start(move |_| registered(&url)).await;
    let running = run(settings(&registry));
    let mut client = rendezvous.accept().await;
    client.handshake().await;
    let session = client.session.clone();
    client.start("p", &["cat"]).await;
    client.vanish();
    let mut client = rendezvous.accept().await;
    assert_eq!(client.resume(&session).await["result"]["sessionId"], session);
    client.call("process/write", crate::bench::write("p", b"still here\n")).await;
    assert_eq!(client.event().await["params"]["chunk"], "c3RpbGwgaGVyZQo=");
    running.stop().await;
}

#[tokio::test]
async fn garbage_from_the_client_behind_the_rendezvous_is_answered() {
    let mut rendezvous = Rendezvous::start().await;
    let url = rendezvous.url.clone();
    let registry = Registry::start(move |_| registered(&url)).await;
    let running = run(settings(&registry));
    let mut client = rendezvous.accept().await;
    client.text("\u{0} garbage").await;
    let text = client.response(-1).await["error"]["message"].as_str().unwrap().to_owned();
    let label = "failed to parse websocket JSON-RPC message from remote exec-server websocket: ";
    assert!(text.starts_with(label), "{text}");
    client.handshake().await;
    running.stop().await;
}

#[tokio::test]
async fn a_stop_in_any_state_is_heard_and_ends_the_processes() {
    // Waiting between attempts.
    let registry = Registry::start(|_| refused("503 Service Unavailable")).await;
    let pauses = Pauses { passing: Backoff::with_times(LONG, LONG), ..Pauses::default() };
    let running = run(DaemonConfig { pauses, ..settings(&registry) });
    until("the pause", || !running.reasons().is_empty()).await;
    running.stop().await;
    // Waiting for the rendezvous to answer.
    let mut rendezvous = Rendezvous::start().await;
    let url = rendezvous.url.clone();
    let registry = Registry::start(move |_| registered(&url)).await;
    let running = run(settings(&registry));
    let _unanswered = rendezvous.arrival().await;
    running.stop().await;
    // Serving.
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    let running = run(settings(&registry));
    let mut client = rendezvous.accept().await;
    client.handshake().await;
    let script = format!("echo $$ > {}; exec sleep 600", pid.display());
    client.start("p", &["sh", "-c", &script]).await;
    until("the process", || std::fs::read_to_string(&pid).is_ok_and(|text| text.ends_with('\n'))).await;
    running.stop().await;
    let pid = std::fs::read_to_string(&pid).unwrap();
    assert!(!Path::new("/proc").join(pid.trim()).exists());
    assert!(!rendezvous.has_arrival());
}
