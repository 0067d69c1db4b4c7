//! Nothing secret is logged: the main job with logging at trace level, and every secret in play looked for.
//!
//! The subscriber is the process's own, hence one test in a file of its own.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io;
use std::sync::{Arc, Mutex};

use exedra_client::connect::Server;
use exedra_client::process::Command;
use exedra_proto::ids::ExecutorId;
use exedra_proto::secret::Secret;
use exedra_testkit::plane::{EXECUTOR, Plane};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_logged_even_at_trace_level() {
    let log = Log::default();
    let writer = log.clone();
    let filter = tracing_subscriber::EnvFilter::new(
        "exedra_proto=trace,exedra_link=trace,exedra_host=trace,exedra_executor=trace,exedra_client=trace,exedra_registry=trace,exedra_rendezvous=trace,exedra=trace,info",
    );
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(move || writer.clone()).with_ansi(false).init();

    let plane = Plane::start(None).await.unwrap();
    let executor = plane.connect().await.unwrap();
    let mut process = executor.start(&Command::new(["echo", "hi"])).await.unwrap();
    while process.next().await.unwrap().is_some() {}
    executor.close().await;
    let stranger = Secret::new("exedra_c_this-is-a-wrong-token-of-a-stranger");
    let server = Server::new(&plane.server.url, &stranger, false).unwrap();
    let id = ExecutorId::parse(EXECUTOR).unwrap();
    server.executor(&id, std::time::Duration::ZERO, |_, _| {}).await.unwrap_err();

    let keys = std::fs::read_to_string(plane.data_dir().join("signing-keys.json")).unwrap();
    let keys: serde_json::Value = serde_json::from_str(&keys).unwrap();
    let mut secrets = vec![plane.client_token.expose().to_owned(), plane.executor_token.expose().to_owned()];
    secrets.push(stranger.expose().to_owned());
    collect_secrets(&keys, &mut secrets);
    assert_eq!(secrets.len(), 4, "one signing key");
    plane.stop().await.unwrap();

    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("TRACE") || log.contains("DEBUG"), "the log has no detail");
    for secret in &secrets {
        assert!(!log.contains(secret.as_str()), "a secret is in the log");
    }
    assert!(!log.contains("sig="), "a ticket is in the log");
}

fn collect_secrets(value: &serde_json::Value, out: &mut Vec<String>) {
    match value {
        serde_json::Value::Array(items) => items.iter().for_each(|item| collect_secrets(item, out)),
        serde_json::Value::Object(members) => {
            out.extend(members.get("secret").and_then(|s| s.as_str()).map(str::to_owned));
            members.values().for_each(|member| collect_secrets(member, out));
        }
        _ => {}
    }
}
