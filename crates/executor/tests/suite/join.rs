//! The daemon joins before it registers: with a scripted registry that loses answers, is away, or refuses.

use std::path::Path;

use exedra_executor::credential::Credential;
use exedra_executor::daemon::verdict::Reason;
use exedra_executor::daemon::{DaemonConfig, Exit, Join, TokenSource};
use exedra_proto::secret::Secret;
use serde_json::{Value, json};

use crate::bench::until;
use crate::daemon::{Running, run, settings};
use crate::script::{Registry, Rendezvous, Request, answer, refused, registered};

const JOIN_TOKEN: &str = "JOIN-TOKEN";

/// With a credential that is kept in `dir`, and not traded for yet.
fn joining(registry: &Registry, dir: &Path) -> DaemonConfig {
    let credential = Credential::load_or_create(&dir.join("credential")).unwrap();
    let token = TokenSource::Fixed(credential.secret().clone());
    let join = Some(Join { token: Secret::new(JOIN_TOKEN), credential });
    DaemonConfig { token, join, ..settings(registry) }
}

fn kept(dir: &Path) -> Credential {
    Credential::load(&dir.join("credential")).unwrap().unwrap()
}

fn joined() -> String {
    answer("200 OK", "", r#"{"executor_id":"box","token_id":"tok-1","expires_at":null}"#)
}

fn requests(registry: &Registry) -> Vec<Request> {
    registry.requests.lock().unwrap().clone()
}

#[tokio::test]
async fn one_trade_however_many_answers_are_lost_and_then_it_registers_with_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let mut rendezvous = Rendezvous::start().await;
    let url = rendezvous.url.clone();
    let registry = Registry::start(move |n| match n {
        0 => String::new(),
        1 => refused("503 Service Unavailable"),
        2 => refused("429 Too Many Requests"),
        3 => answer("200 OK", "", "<html>log in</html>"),
        4 => joined(),
        _ => registered(&url),
    })
    .await;
    let running = run(joining(&registry, dir.path()));
    rendezvous.accept().await.handshake().await;
    let requests = requests(&registry);
    let own = kept(dir.path());
    assert!(own.is_joined());
    for request in &requests[..5] {
        assert!(request.head.starts_with("POST /v1/join HTTP/1.1\r\n"), "{}", request.head);
        assert_eq!(request.header("authorization"), Some("Bearer JOIN-TOKEN"));
        let body: Value = serde_json::from_str(&request.body).unwrap();
        assert_eq!(body, json!({"executor_id": "box", "credential_sha256": own.sha256()}), "the same each time");
        assert!(!request.body.contains(own.secret().expose()));
    }
    let bearer = format!("Bearer {}", own.secret().expose());
    assert_eq!(requests[5].header("authorization"), Some(bearer.as_str()));
    running.stop().await;
}

async fn refusal(status: &str) -> (Exit, usize) {
    let dir = tempfile::tempdir().unwrap();
    let status = status.to_owned();
    let registry = Registry::start(move |_| refused(&status)).await;
    let mut running: Running = run(joining(&registry, dir.path()));
    let exit = running.exit().await;
    assert!(!kept(dir.path()).is_joined(), "the credential stays, for another join token");
    (exit, registry.count())
}

#[tokio::test]
async fn a_refusal_is_final_and_says_what_to_do() {
    for (status, expected, word) in [
        ("401 Unauthorized", Reason::Auth, "used up"),
        ("403 Forbidden", Reason::Auth, "other names"),
        ("404 Not Found", Reason::Refused, "knows join tokens"),
        ("409 Conflict", Reason::Refused, "--executor-id"),
    ] {
        let (exit, asked) = refusal(status).await;
        let Exit::GaveUp { reason, text, hint } = exit else { panic!("{exit:?}") };
        assert_eq!((reason, asked), (expected, 1), "{status}");
        assert!(text.contains("not joined") && text.contains("because"), "{text}");
        assert!(hint.unwrap().contains(word), "{hint:?}");
        assert!(!text.contains(JOIN_TOKEN));
    }
}

#[tokio::test]
async fn it_can_be_stopped_while_it_tries_to_join() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::start(|_| refused("503 Service Unavailable")).await;
    let running = run(joining(&registry, dir.path()));
    until("some attempts", || registry.count() > 2).await;
    running.stop().await;
}
