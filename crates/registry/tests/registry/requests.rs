//! Requests that fit nothing: paths, methods, sizes, depths, and those that never end.

use std::time::Duration;

use crate::support::{Site, refusal, site};
use exedra_proto::registry::MAX_BODY_BYTES;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

async fn raw(site: &Site, request: &str) -> String {
    let mut socket = TcpStream::connect(site.base.strip_prefix("http://").unwrap()).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    socket.shutdown().await.unwrap();
    let mut answer = Vec::new();
    let read = socket.read_to_end(&mut answer);
    let _ = tokio::time::timeout(Duration::from_secs(10), read).await.expect("the server does not close");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn paths_that_lead_nowhere() {
    let (site, _dir) = site().await;
    for path in ["/", "/x", "/cloud/executor/box", "/cloud/executor/register", "/v1/executors/a/b/connect", "/healthz/"]
    {
        refusal(site.get(path).await, 404, "not_found").await;
    }
}

#[tokio::test]
async fn methods_that_a_path_does_not_know() {
    let (site, _dir) = site().await;
    for path in ["/cloud/executor/box/register", "/v1/executors/box/connect"] {
        let response = site.get(path).await;
        assert_eq!(response.headers()["allow"], "POST");
        refusal(response, 405, "method_not_allowed").await;
    }
    refusal(site.post("/healthz", &site.admin, "").await, 405, "method_not_allowed").await;
}

#[tokio::test]
async fn a_body_may_have_64_kib() {
    let (site, _dir) = site().await;
    let path = "/cloud/executor/box/register";
    let empty = r#"{"idempotency_id":"i","executor_id":"box","unknown":""}"#;
    let body = |size: usize| empty.replace("\"\"}", &format!("\"{}\"}}", "a".repeat(size - empty.len())));
    assert_eq!(site.post(path, &site.admin, body(MAX_BODY_BYTES)).await.status(), 200);
    refusal(site.post(path, &site.admin, body(MAX_BODY_BYTES + 1)).await, 413, "body_too_large").await;
    let chunks = (0..100).map(|_| Ok::<_, std::io::Error>("a".repeat(1024)));
    let endless = reqwest::Body::wrap_stream(futures_util::stream::iter(chunks));
    refusal(site.post(path, &site.admin, endless).await, 413, "body_too_large").await;
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {}\r\nContent-Length: 99999999\r\n\r\n",
        site.admin
    );
    let answer = raw(&site, &format!("{head}{}", "a".repeat(MAX_BODY_BYTES + 1))).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test]
async fn a_body_is_an_object() {
    let (site, _dir) = site().await;
    for path in ["/cloud/executor/box/register", "/v1/executors/box/connect"] {
        for body in ["[]", " [null,[],0]", r#"["i","box",null,{},{}]"#, "null", "\"i\"", "1", "x"] {
            let detail = refusal(site.post(path, &site.admin, body).await, 400, "body_invalid").await;
            assert!(detail.message.unwrap().contains("no JSON object"), "{path} {body}");
        }
    }
    let body = format!("\r\n\t {}", crate::support::register_body("box", "i"));
    assert_eq!(site.post("/cloud/executor/box/register", &site.admin, body).await.status(), 200);
}

#[tokio::test]
async fn what_is_kept_of_a_registration_is_short() {
    let (site, _dir) = site().await;
    let send = async |instance: usize, name: usize, label: usize, metadata: usize| {
        let body = serde_json::json!({
            "idempotency_id": "i".repeat(instance),
            "executor_id": "box",
            "name": "n".repeat(name),
            "labels": {"": "l".repeat(label)},
            "metadata": "m".repeat(metadata),
        });
        site.post("/cloud/executor/box/register", &site.admin, body.to_string()).await
    };
    // `{"":""}` and `""` are 9 bytes.
    assert_eq!(send(256, 256, 4096, 8192 - 4096 - 9).await.status(), 200);
    let too_long = [
        (257, 0, 0, 0, "idempotency_id"),
        (1, 257, 0, 0, "name"),
        (1, 0, 4096, 8192 - 4096 - 8, "labels and metadata"),
    ];
    for (instance, name, label, metadata, what) in too_long {
        let detail = refusal(send(instance, name, label, metadata).await, 400, "body_invalid").await;
        let message = detail.message.unwrap();
        assert!(message.contains(what) && message.contains("longer than"), "{message}");
    }
}

#[tokio::test]
async fn deep_nesting_is_refused_and_the_server_goes_on() {
    let (site, _dir) = site().await;
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        let nested = format!("{}1{}", open.repeat(10_000), close.repeat(10_000));
        let register = format!(r#"{{"idempotency_id":"i","executor_id":"box","metadata":{nested}}}"#);
        refusal(site.post("/cloud/executor/box/register", &site.admin, register).await, 400, "body_invalid").await;
        let connect = format!(r#"{{"public_key":{nested}}}"#);
        refusal(site.post("/v1/executors/box/connect", &site.admin, connect).await, 400, "body_invalid").await;
    }
    let unknown = format!(r#"{{"x":{}{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    let response = site.post("/v1/executors/box/connect", &site.admin, unknown).await;
    refusal(response, 404, "executor_unknown").await;
    assert_eq!(site.get("/healthz").await.status(), 200);
}

#[tokio::test]
async fn an_error_never_repeats_a_body() {
    let (site, _dir) = site().await;
    let body = r#"{"idempotency_id":"i","executor_id":"box","labels":"hunter2"}"#;
    let response = site.post("/cloud/executor/box/register", &site.admin, body).await;
    assert!(!response.text().await.unwrap().contains("hunter2"));
}

#[tokio::test]
async fn garbage_on_the_socket_does_no_harm() {
    let (site, _dir) = site().await;
    for garbage in [
        "\0\0\0\0\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET /\u{e9} HTTP/1.1\r\n\r\n",
    ] {
        raw(&site, garbage).await;
    }
    let half =
        format!("POST /v1/executors/box/connect HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {}\r\n", site.admin);
    let mut socket = TcpStream::connect(site.base.strip_prefix("http://").unwrap()).await.unwrap();
    socket.write_all(format!("{half}Content-Length: 10\r\n\r\n{{").as_bytes()).await.unwrap();
    drop(socket);
    assert_eq!(site.get("/healthz").await.status(), 200);
}

#[tokio::test]
async fn each_answer_has_the_requests_id() {
    let (site, _dir) = site().await;
    let id_of = async |given: Option<&str>| {
        let mut request = site.http.get(format!("{}/healthz", site.base));
        if let Some(given) = given {
            request = request.header("x-request-id", given);
        }
        request.send().await.unwrap().headers()["x-request-id"].to_str().unwrap().to_owned()
    };
    assert_eq!(id_of(Some("req_abc-1.2")).await, "req_abc-1.2");
    assert_ne!(id_of(None).await, id_of(None).await);
    for odd in ["a b", "a\tb", "<script>", &"a".repeat(65), ""] {
        assert_ne!(id_of(Some(odd)).await, odd);
    }
}
