//! A client's request to be connected, and what a registry may answer.

use std::time::Duration;

use exedra_link::LinkError;
use exedra_link::dial::registry::{HttpOptions, RegistryClient};
use exedra_link::error::ConnectError;
use exedra_proto::ids::ExecutorId;
use exedra_proto::registry::ConnectRequest;
use exedra_proto::secret::Secret;
use serde_json::{Value, json};

use crate::scripted::{Scripted, answer};

const TOKEN: &str = "s3cret-token-0123456789";

fn request(wait_ms: u64) -> ConnectRequest {
    ConnectRequest { public_key: None, transports: vec!["direct".into()], wait_ms }
}

fn client(server: &Scripted) -> RegistryClient {
    RegistryClient::new(&server.base, Some(&Secret::new(TOKEN)), &HttpOptions::default()).unwrap()
}

async fn failure(status: &str, body: &Value) -> ConnectError {
    let server = Scripted::start(vec![answer(status, &[], &body.to_string())]).await;
    let error = client(&server).connect(&ExecutorId::parse("box").unwrap(), &request(0)).await.unwrap_err();
    assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
    error
}

fn error(code: &str, more: &Value) -> Value {
    let mut members = json!({"code": code, "message": "m"});
    members.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"error": members})
}

#[tokio::test]
async fn the_request_and_the_ticket() {
    let reply = json!({"executor_id": "box", "registration_id": "reg-1", "transport": "direct",
        "url": "ws://127.0.0.1:9/rendezvous/reg-1?sig=s3cret", "expires_at": 60});
    let server = Scripted::start(vec![answer("200 OK", &[], &reply.to_string())]).await;
    let client = client(&server);
    let reply = client.connect(&ExecutorId::parse("box").unwrap(), &request(5)).await.unwrap();
    assert_eq!(reply.url.expose(), "ws://127.0.0.1:9/rendezvous/reg-1?sig=s3cret");
    assert!(!format!("{client:?} {reply:?}").contains("s3cret"));
    let asked = &server.asked()[0];
    assert_eq!(asked.line, "POST /v1/executors/box/connect HTTP/1.1");
    assert_eq!(asked.header("authorization"), Some(format!("Bearer {TOKEN}").as_str()));
    let body: Value = serde_json::from_str(&asked.body).unwrap();
    assert_eq!(body, json!({"public_key": null, "transports": ["direct"], "wait_ms": 5}));
}

#[tokio::test]
async fn refusals_say_what_is_the_matter() {
    let unknown = failure("404 Not Found", &error("executor_unknown", &json!({"near": ["box1", "../x", "bax"]}))).await;
    let near = vec!["box1".to_owned(), "bax".to_owned()];
    assert_eq!(unknown, ConnectError::Unknown { executor: "box".into(), near });
    assert_eq!(unknown.to_string(), "there is no executor `box`; did you mean box1, bax?");
    assert!(!unknown.is_retryable());

    let offline = failure("409 Conflict", &error("environment_offline", &json!({"last_seen": 7}))).await;
    assert_eq!(offline, ConnectError::Offline { executor: "box".into(), last_seen: Some(7) });
    let busy = failure("409 Conflict", &error("executor_busy", &json!({"held_since": 8}))).await;
    assert_eq!(busy, ConnectError::Busy { executor: "box".into(), held_since: Some(8) });
    assert!(offline.is_retryable() && busy.is_retryable());

    let denied = failure("403 Forbidden", &error("executor_unknown", &json!({}))).await;
    assert!(matches!(&denied, ConnectError::Auth { status: 403, .. }) && !denied.is_retryable());
    let limited = failure("503 Service Unavailable", &json!("odd s3cret-token-0123456789")).await;
    assert!(matches!(&limited, ConnectError::Status { status: 503, .. }) && limited.is_retryable());
    let odd = failure("404 Not Found", &json!({})).await;
    assert!(matches!(&odd, ConnectError::Status { status: 404, .. }) && !odd.is_retryable());
    for error in [unknown, offline, busy, denied] {
        assert!(error.hint().is_some() && LinkError::from(error).hint().is_some());
    }
}

#[tokio::test]
async fn replies_are_checked() {
    let reply = |executor: &str, url: &str| json!({"executor_id": executor, "registration_id": "r", "transport": "direct", "url": url, "expires_at": 1});
    for body in [
        reply("other", "ws://127.0.0.1/?s3cret"),
        reply("box", "ws://10.0.0.1/?s3cret"),
        reply("box", "http://127.0.0.1/?s3cret"),
        json!({"executor_id": "box"}),
        json!("s3cret"),
    ] {
        let error = failure("200 OK", &body).await;
        assert!(matches!(error, ConnectError::Undecodable(_)), "{error:?}");
        assert!(std::error::Error::source(&error).is_some());
    }
}

#[tokio::test]
async fn configuration_is_checked_before_anything_is_sent() {
    let new = |base: &str, token: &str, insecure_http| {
        let options = HttpOptions { insecure_http, connect_timeout: Duration::from_secs(1), ..HttpOptions::default() };
        RegistryClient::new(base, Some(&Secret::new(token)), &options).map(|_| ())
    };
    assert!(matches!(new(" ", " ", false), Err(ConnectError::Credential(_))));
    assert!(matches!(new(" ", TOKEN, false), Err(ConnectError::Config(_))));
    assert!(matches!(new("http://example.com", TOKEN, false), Err(ConnectError::Config(_))));
    assert_eq!(new("http://example.com", TOKEN, true), Ok(()));
    assert_eq!(new("https://example.com/", TOKEN, false), Ok(()));
}
