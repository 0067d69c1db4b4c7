//! Who is let in, and how the others are told.

use exedra_proto::close::CloseReason;
use exedra_proto::ids::{RegistrationId, TokenId};
use exedra_proto::plane::Cutoff as _;
use exedra_proto::problem::ProblemBody;
use exedra_proto::ticket::{Claims, KeyRing, Role, Shape, SigningKey};
use futures_util::SinkExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::stage::{Stage, claims, message, now, within};

async fn refusal(stage: &Stage, url: &str) -> (u16, String) {
    let (status, reason, body) = stage.refused(url).await;
    let code = serde_json::from_str::<ProblemBody>(&body).unwrap().error.code.unwrap();
    assert_problem(body.as_bytes(), status, &code);
    assert!(!body.contains("sig="), "{body}");
    (status, reason)
}

#[tokio::test]
async fn a_ticket_that_is_not_good_is_refused_with_the_reason() {
    // An executor with one client at a time gets 409 for any of them: a stock one registers anew on that alone.
    let stage = Stage::start().await;
    let good = stage.sign(&claims(Role::Executor));
    let forged = KeyRing::new(vec![SigningKey::generate(0).unwrap()]);
    let forged = forged.sign(&format!("ws://{}", stage.address), &claims(Role::Executor)).unwrap();
    let expired = Claims { issued_at: now() - 100, expires_at: now(), ..claims(Role::Executor) };
    let clock_is_off = Claims { issued_at: now() + 300, expires_at: now() + 360, ..claims(Role::Executor) };
    for (url, status, reason) in [
        (forged.expose().to_owned(), 409, "invalid_signature"),
        (good.replace("role=executor", "role=harness"), 403, "invalid_signature"),
        (good.replace("epoch=1", "epoch=2"), 409, "invalid_signature"),
        (good.replace("/rendezvous/r?", "/rendezvous/s?"), 409, "invalid_signature"),
        (stage.sign(&expired), 409, "expired"),
        (stage.sign(&clock_is_off), 409, "invalid_expiry"),
        (stage.sign(&Claims { shape: Shape::Streams, ..expired }), 401, "expired"),
        (good.replace("shape=pair", "shape=streams"), 403, "invalid_signature"),
        (good.replace("role=executor&", ""), 401, "missing_role"),
        (format!("{good}&more=1"), 409, "extra_query_param"),
        (format!("{good}&sig=x"), 409, "malformed_query"),
        (format!("{good}&x={}", "y".repeat(9_000)), 409, "malformed_query"),
        (good.split_once("&sig=").unwrap().0.to_owned(), 409, "missing_signature"),
    ] {
        assert_eq!(refusal(&stage, &url).await, (status, reason.to_owned()));
    }
    assert_eq!(stage.rendezvous.connections(), 0);
    stage.dial(&good).await.unwrap();
}

#[tokio::test]
async fn a_clients_ticket_opens_one_websocket_and_one_from_before_the_start_none() {
    let stage = Stage::start().await;
    let _executor = stage.executor().await;
    stage.presence.told(1).await;
    let before = Claims { issued_at: now() - 5, ..claims(Role::Harness) };
    assert_eq!(refusal(&stage, &stage.sign(&before)).await, (403, "ticket_used".into()));
    let url = stage.sign(&claims(Role::Harness));
    let client = stage.dial(&url).await.unwrap();
    assert_eq!(refusal(&stage, &url).await, (403, "ticket_used".into()));
    drop(client);
    stage.presence.told(3).await;
    assert_eq!(refusal(&stage, &url).await, (403, "ticket_used".into()));
}

#[tokio::test]
async fn an_executors_ticket_opens_websockets_until_its_registration_is_fenced() {
    let stage = Stage::start().await;
    let url = stage.sign(&Claims { issued_at: now() - 5, expires_at: now() + 60, ..claims(Role::Executor) });
    for told in [1, 3] {
        let executor = stage.dial(&url).await.unwrap();
        stage.presence.told(told).await;
        drop(executor);
        stage.presence.told(told + 1).await;
    }
    stage.rendezvous.registration(&RegistrationId::new("r"), CloseReason::Replaced);
    assert_eq!(refusal(&stage, &url).await, (409, "unexpected_executor_registration_id".into()));
    let client = stage.sign(&claims(Role::Harness));
    assert_eq!(refusal(&stage, &client).await, (401, "unexpected_executor_registration_id".into()));
}

#[tokio::test]
async fn tickets_of_a_cut_token_and_of_a_lower_epoch_are_refused() {
    let stage = Stage::start().await;
    let cut = Claims { token: TokenId::new("tok-x"), ..claims(Role::Executor) };
    stage.rendezvous.token(&TokenId::new("tok-x"), CloseReason::Revoked);
    assert_eq!(refusal(&stage, &stage.sign(&cut)).await.0, 409);
    let _newer = stage.dial(&stage.sign(&Claims { epoch: 2, ..claims(Role::Executor) })).await.unwrap();
    assert_eq!(refusal(&stage, &stage.sign(&claims(Role::Executor))).await.0, 409);
}

#[tokio::test]
async fn a_client_whose_executor_is_away_or_held_is_told_so_and_keeps_its_ticket() {
    let stage = Stage::start().await;
    let url = stage.sign(&claims(Role::Harness));
    let (status, reason, body) = stage.refused(&url).await;
    assert_eq!((status, reason.as_str()), (409, "route_unavailable"));
    assert!(body.contains(r#""code":"environment_offline""#), "{body}");
    let (executor, client) = stage.pair().await;
    let (status, reason, body) = stage.refused(&url).await;
    assert_eq!((status, reason.as_str()), (409, "executor_busy"));
    assert!(body.contains(r#""code":"executor_busy""#), "{body}");
    drop((executor, client));
    stage.presence.told(3).await;
    let _executor = stage.executor().await;
    stage.presence.told(4).await;
    stage.dial(&url).await.unwrap();
}

#[tokio::test]
async fn a_full_or_draining_rendezvous_answers_503() {
    let stage = Stage::with(|config| config.max_connections = 1).await;
    let _executor = stage.executor().await;
    stage.presence.told(1).await;
    let url = stage.sign(&claims(Role::Harness));
    assert_eq!(refusal(&stage, &url).await, (503, "overloaded".into()));
    stage.rendezvous.drain();
    assert_eq!(refusal(&stage, &url).await, (503, "pod_draining".into()));
    let expired = Claims { issued_at: now() - 100, expires_at: now(), ..claims(Role::Executor) };
    let stage = Stage::with(|config| config.max_connections = 1).await;
    let _executor = stage.executor().await;
    stage.presence.told(1).await;
    assert_eq!(refusal(&stage, &stage.sign(&expired)).await, (409, "expired".into()), "never a 5xx for an expired one");
}

/// The body is a problem's, in the shape that all have.
fn assert_problem(body: &[u8], status: u16, code: &str) {
    let body: ProblemBody = serde_json::from_slice(body).unwrap();
    assert_eq!((body.status, body.kind), (status, format!("urn:exedra:problem:{code}")));
    assert_eq!((body.error.code.as_deref(), body.error.message), (Some(code), Some(body.detail)));
}

#[tokio::test]
async fn a_request_from_a_browser_is_refused() {
    let stage = Stage::start().await;
    let mut request = stage.sign(&claims(Role::Executor)).into_client_request().unwrap();
    request.headers_mut().insert("origin", "https://example.org".parse().unwrap());
    match stage.dial_with(request).await {
        Err(Error::Http(response)) => {
            assert_eq!(response.status(), 403);
            assert_problem(response.body().as_deref().unwrap(), 403, "forbidden");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(stage.rendezvous.connections(), 0);
}

#[tokio::test]
async fn a_request_that_is_no_upgrade_is_told_what_is_served() {
    let stage = Stage::start().await;
    let url = stage.sign(&claims(Role::Executor));
    let path = url.split_once(&stage.address.to_string()).unwrap().1;
    for (upgrade, version) in [("", "13"), ("upgrade: websocket\r\nconnection: upgrade\r\n", "8")] {
        let mut stream = TcpStream::connect(stage.address).await.unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\n{upgrade}sec-websocket-version: {version}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        // Nothing comes behind it, and so the end of it is looked for.
        let mut answer = Vec::new();
        while !answer.ends_with(b"}}") {
            assert_ne!(within(stream.read_buf(&mut answer)).await.unwrap(), 0);
        }
        assert!(answer.starts_with(b"HTTP/1.1 426"));
        let body = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
        assert_problem(&answer[body..], 426, "upgrade_required");
    }
    let mut stream = TcpStream::connect(stage.address).await.unwrap();
    stream.write_all(format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    within(stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 405");
    assert_eq!(stage.rendezvous.connections(), 0);
}

#[tokio::test]
async fn offered_extensions_and_protocols_are_ignored() {
    let stage = Stage::start().await;
    let mut request = stage.sign(&claims(Role::Executor)).into_client_request().unwrap();
    let offer = "permessage-deflate; client_max_window_bits".parse().unwrap();
    request.headers_mut().insert("sec-websocket-extensions", offer);
    request.headers_mut().insert("x-request-id", "req_0".parse().unwrap());
    let (mut executor, response) = stage.dial_with(request).await.unwrap();
    assert!(response.headers().get("sec-websocket-extensions").is_none());
    stage.presence.told(1).await;
    let mut client = stage.client().await;
    client.send(Message::text("hello")).await.unwrap();
    assert_eq!(message(&mut executor).await, Message::text("hello"));

    let mut request = stage.sign(&Claims { registration: RegistrationId::new("s"), ..claims(Role::Executor) });
    request = request.replace("ws://", "http://");
    let path = request.split_once(&stage.address.to_string()).unwrap().1;
    let mut stream = TcpStream::connect(stage.address).await.unwrap();
    let head = format!(
        "GET {path} HTTP/1.1\r\nhost: x\r\nupgrade: WebSocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: chat\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(within(stream.read_u8()).await.unwrap());
    }
    let answer = String::from_utf8(answer).unwrap().to_lowercase();
    assert!(answer.starts_with("http/1.1 101 ") && !answer.contains("protocol: chat"), "{answer}");
}

#[tokio::test]
async fn a_client_that_gives_up_before_its_upgrade_frees_the_place() {
    let stage = Stage::start().await;
    let _executor = stage.executor().await;
    stage.presence.told(1).await;
    for _ in 0..20 {
        let url = stage.sign(&claims(Role::Harness));
        let path = url.split_once(&stage.address.to_string()).unwrap().1;
        let mut stream = TcpStream::connect(stage.address).await.unwrap();
        let head = format!(
            "GET {path} HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        drop(stream);
    }
    within(async {
        while stage.rendezvous.connections() > 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let _executor = stage.executor().await;
    within(async {
        while stage.dial(&stage.sign(&claims(Role::Harness))).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
