//! Registration, against what a stock executor sent and printed, and against odd registries.

use std::time::Duration;

use exedra_link::dial::registry::{Description, HttpOptions, Registration, RegistrationConfig};
use exedra_link::error::{Class, RegisterError};
use exedra_proto::secret::Secret;
use serde_json::Value;
use uuid::Uuid;

use crate::scripted::{Scripted, answer};

const TOKEN: &str = "s3cret-token-0123456789";
const OK: &str =
    r#"{"id":"reg-1","executor_id":"exec-1","url":"ws://127.0.0.1:9/ws?role=executor&sig=s3cret-sig","zz":1}"#;

fn config(base: &str) -> RegistrationConfig {
    RegistrationConfig {
        base_url: base.to_owned(),
        executor_id: "exec-1".into(),
        name: None,
        bearer: Some(Secret::new(TOKEN)),
        instance: Uuid::from_u128(1),
        about: Description::default(),
        http: HttpOptions::default(),
    }
}

async fn register(answers: Vec<String>) -> (Result<String, RegisterError>, Scripted) {
    let server = Scripted::start(answers).await;
    let registration = Registration::new(&config(&server.base)).unwrap();
    let result = registration.register().await.map(|reply| reply.id);
    if let Err(error) = &result {
        let text = format!("{error} {error:?}");
        assert!(!text.contains("s3cret"), "{text}");
    }
    (result, server)
}

async fn failure(answers: Vec<String>) -> RegisterError {
    register(answers).await.0.expect_err("it must fail")
}

#[tokio::test]
async fn requests_and_texts_are_those_of_stock() {
    let fixture = include_str!("../../../proto/fixtures/registry-0.130.jsonl");
    let mut cases = 0;
    for line in fixture.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let name = case["case"].as_str().unwrap();
        let response = &case["response"];
        let status = response["status"].as_u64().unwrap();
        let reason = http::StatusCode::from_u16(status.try_into().unwrap()).unwrap().canonical_reason().unwrap();
        let body = match response["text"].as_str() {
            Some(text) => text.to_owned(),
            None => response["body"].to_string().replace("<registry>", "127.0.0.1:9"),
        };
        let server = Scripted::start(vec![answer(&format!("{status} {reason}"), &[], &body)]).await;
        let mut config = config(&server.base);
        config.base_url += "/";
        config.bearer = Some(Secret::new("tok"));
        config.name = case["request"]["body"]["name"].as_str().map(str::to_owned);
        let result = Registration::new(&config).unwrap().register().await;

        let asked = server.asked();
        assert_eq!(asked.len(), 1, "{name}");
        let (asked, expected) = (&asked[0], &case["request"]);
        let line = format!("{} {} HTTP/1.1", expected["method"].as_str().unwrap(), expected["path"].as_str().unwrap());
        assert_eq!(asked.line, line, "{name}");
        let mut names: Vec<&str> = asked.headers.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        let of_stock = ["accept", "authorization", "content-length", "content-type", "host"];
        assert_eq!(names, [&of_stock[..], &["traceparent"]].concat(), "{name}");
        for (header, value) in expected["headers"].as_object().unwrap() {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            assert_eq!(asked.header(header), Some(value.as_str()), "{name}");
        }
        let mut body: Value = serde_json::from_str(&asked.body).unwrap();
        let id = body["idempotency_id"].as_str().unwrap().strip_prefix("codex-exec-server-").unwrap();
        assert!(id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{name}");
        body["idempotency_id"] = "codex-exec-server-<sha256 hex>".into();
        assert_eq!(body, expected["body"], "{name}");

        match (result, case["then"]["exit_code"].as_i64()) {
            (Ok(reply), None) => {
                let line = case["then"]["stderr"][0].as_str().unwrap();
                let printed = format!(
                    "codex exec-server remote executor {} registered with executor_id {}",
                    reply.id, reply.executor_id
                );
                assert_eq!(line, printed);
            }
            (Err(error), Some(1)) => assert_eq!(case["then"]["stderr"][0], format!("Error: {error}"), "{name}"),
            (result, exit) => panic!("{name}: {result:?}, but {exit:?}"),
        }
        cases += 1;
    }
    assert_eq!(cases, 13);
}

#[test]
fn the_checks_come_in_order_and_with_the_texts_of_stock() {
    let mut config = config(" // ");
    config.bearer = None;
    config.executor_id = " \t".into();
    let text = |config: &RegistrationConfig| Registration::new(config).unwrap_err().to_string();
    let variable = "executor registry authentication error: executor registry bearer token environment variable \
                    `CODEX_EXEC_SERVER_REMOTE_BEARER_TOKEN`";
    assert_eq!(text(&config), format!("{variable} is not set"));
    config.bearer = Some(Secret::new(" \n"));
    assert_eq!(text(&config), format!("{variable} is empty"));
    config.bearer = Some(Secret::new(TOKEN));
    let configuration = "executor registry configuration error:";
    assert_eq!(text(&config), format!("{configuration} executor id is required for remote exec-server registration"));
    config.executor_id = " .. ".into();
    assert_eq!(text(&config), format!("{configuration} executor registry base URL is required"));
    config.base_url = "http://127.0.0.1:1".into();
    assert_eq!(text(&config), format!("{configuration} executor id `..` cannot be part of a URL"));
    config.executor_id = "exec-1".into();
    config.base_url = "http://10.0.0.1".into();
    assert!(text(&config).contains("--insecure-http"));
    config.http.insecure_http = true;
    assert!(Registration::new(&config).is_ok());
    config.bearer = Some(Secret::new("s3cret\nvalue"));
    let error = Registration::new(&config).unwrap_err();
    assert_eq!(error.class(), Class::Config);
    assert!(!format!("{error} {error:?}").contains("s3cret"));
}

#[tokio::test]
async fn nothing_printed_holds_a_secret() {
    let (result, server) = register(vec![answer("200 OK", &[], OK)]).await;
    assert_eq!(result.as_deref(), Ok("reg-1"));
    let config = config(&server.base);
    let mut registration = Registration::new(&config).unwrap();
    registration.set_bearer(&Secret::new("s3cret-other-token")).unwrap();
    for text in [format!("{config:?}"), format!("{registration:?}"), format!("{:#?}", registration.clone())] {
        assert!(text.contains("<redacted>") && !text.contains("s3cret"), "{text}");
    }
}

#[tokio::test]
async fn a_new_token_is_used_and_connections_are_kept() {
    let server = Scripted::start(vec![answer("200 OK", &[], OK); 3]).await;
    let mut registration = Registration::new(&config(&server.base)).unwrap();
    registration.register().await.unwrap();
    registration.set_bearer(&Secret::new("  other \n")).unwrap();
    assert!(registration.set_bearer(&Secret::new("  ")).is_err());
    registration.register().await.unwrap();
    let asked = server.asked();
    assert_eq!(asked[0].header("authorization"), Some(format!("Bearer {TOKEN}").as_str()));
    assert_eq!(asked[1].header("authorization"), Some("Bearer other"));
    assert_eq!(asked[0].body, asked[1].body, "the same idempotency id");
    assert_eq!(*server.connections.lock().unwrap(), 1);
}

#[tokio::test]
async fn an_id_stays_one_segment() {
    let server = Scripted::start(vec![answer("404 Not Found", &[], "")]).await;
    let mut config = config(&server.base);
    config.executor_id = " a/../b?c ".into();
    let _ = Registration::new(&config).unwrap().register().await;
    assert_eq!(server.asked()[0].line, "POST /cloud/executor/a%2F..%2Fb%3Fc/register HTTP/1.1");
}

#[tokio::test]
async fn classes_say_what_to_do() {
    let cases = [
        ("401 Unauthorized", Class::Auth),
        ("403 Forbidden", Class::Auth),
        ("400 Bad Request", Class::Refused),
        ("404 Not Found", Class::Refused),
        ("422 Unprocessable Content", Class::Refused),
        ("304 Not Modified", Class::Refused),
        ("408 Request Timeout", Class::Retry),
        ("409 Conflict", Class::Retry),
        ("425 Too Early", Class::Retry),
        ("429 Too Many Requests", Class::Retry),
        ("500 Internal Server Error", Class::Retry),
        ("503 Service Unavailable", Class::Retry),
        ("200 OK", Class::Retry),
    ];
    for (status, class) in cases {
        let error = failure(vec![answer(status, &[], "")]).await;
        assert_eq!((error.class(), error.is_retryable()), (class, class == Class::Retry), "{status}: {error}");
    }
    let bound = r#"{"error":{"code":"executor_key_bound","message":"m"}}"#;
    let error = failure(vec![answer("403 Forbidden", &[], bound)]).await;
    assert_eq!(error.class(), Class::Refused, "no other token helps: {error}");
    assert!(error.hint().unwrap().contains("forget-key"));
}

#[tokio::test]
async fn retry_after_is_honoured_up_to_five_minutes() {
    for (header, seconds) in [("Retry-After: 7", Some(7)), ("Retry-After: 86400", Some(300)), ("X: y", None)] {
        let error = failure(vec![answer("429 Too Many Requests", &[header], "")]).await;
        assert_eq!(error.retry_after(), seconds.map(Duration::from_secs), "{header}");
    }
}

#[tokio::test]
async fn a_registry_that_is_not_there_or_never_answers_is_tried_again() {
    let server = Scripted::start(vec![]).await;
    let mut config = config(&server.base);
    config.http.request_timeout = Duration::from_millis(200);
    let error = Registration::new(&config).unwrap().register().await.unwrap_err();
    assert!(error.is_retryable() && error.to_string().contains("timed out"), "{error}");

    // Nothing listens on a port that was free a moment ago.
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    config.base_url = format!("http://{free}/s3cret");
    let error = Registration::new(&config).unwrap().register().await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    assert!(error.to_string().starts_with("executor registry request failed: error sending request"), "{error}");
    assert!(error.to_string().contains("Connection refused") && !error.to_string().contains("s3cret"), "{error}");
}

#[tokio::test]
async fn garbage_from_a_registry_is_an_error_that_passes() {
    let ok = |body: &str| vec![answer("200 OK", &[], body)];
    let reply = |id: &str, url: &str| ok(&format!(r#"{{"id":"r","executor_id":"{id}","url":"{url}"}}"#));
    let answers = [
        vec!["SSH-2.0-OpenSSH_9.6\r\n".to_owned()],
        vec!["HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort".to_owned()],
        ok("\0\u{1}"),
        ok(&"[".repeat(10_000)),
        ok(&format!(r#"{{"id":"{}"}}"#, "x".repeat(200_000))),
        reply("exec-2", "ws://127.0.0.1/"),
        reply("exec-1", "http://127.0.0.1/s3cret"),
        reply("exec-1", "ws://10.0.0.1/s3cret"),
        reply("exec-1", ""),
    ];
    for answers in answers {
        let server = Scripted::start(answers.clone()).await;
        let mut config = config(&server.base);
        config.http.request_timeout = Duration::from_millis(500);
        let error = Registration::new(&config).unwrap().register().await.unwrap_err();
        assert!(error.is_retryable(), "{error} after {answers:?}");
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
    }
}

#[tokio::test]
async fn a_huge_error_body_is_cut() {
    for filler in ["x", "😀"] {
        let error = failure(vec![answer("500 x", &[], &filler.repeat(1_000_000))]).await;
        let text = error.to_string();
        let preview = text.strip_prefix("executor registry request failed (500 Internal Server Error): ").unwrap();
        assert_eq!(preview.len(), 4096, "{filler}");
    }
}

#[tokio::test]
async fn redirects_stay_inside_the_origin() {
    for status in ["307 Temporary Redirect", "308 Permanent Redirect"] {
        let moved = answer(status, &["Location: /elsewhere"], "");
        let (result, server) = register(vec![moved, answer("200 OK", &[], OK)]).await;
        assert_eq!(result.as_deref(), Ok("reg-1"));
        let asked = server.asked();
        assert_eq!(asked[1].line, "POST /elsewhere HTTP/1.1");
        assert_eq!(
            (asked[1].header("authorization"), &asked[1].body),
            (asked[0].header("authorization"), &asked[0].body)
        );
    }

    for status in ["302 Found", "307 Temporary Redirect"] {
        let thief = Scripted::start(vec![answer("200 OK", &[], OK)]).await;
        let location = format!("Location: {}/steal?s3cret", thief.base);
        let error = failure(vec![answer(status, &[&location], "")]).await;
        assert!(matches!(&error, RegisterError::Redirected(origin) if *origin == thief.base), "{error:?}");
        assert_eq!(error.class(), Class::Refused);
        assert!(thief.asked().is_empty(), "the token went to another origin");
    }

    let endless = vec![answer("307 Temporary Redirect", &["Location: /again"], ""); 20];
    let error = failure(endless).await;
    assert!(error.to_string().contains("too many redirects"), "{error}");
}
