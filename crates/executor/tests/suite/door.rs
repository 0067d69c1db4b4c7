//! Who is not let in, or gets no session: it is written down, and however often somebody knocks it is a few lines.

use std::sync::Arc;

use exedra_executor::audit::{Audit, AuditConfig};
use exedra_executor::listen::auth::WsAuth;
use exedra_executor::listen::tls::Tls;
use exedra_executor::listen::{ListenOptions, ListenUrl, Listener};
use exedra_executor::{Executor, ExecutorConfig};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::audit::lines;
use crate::bench::{Bench, config, start, within};

/// Sends `request` and waits for the other end to close.
async fn knock(address: &str, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let _ = within("an end", stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

fn handshake(token: &str) -> String {
    format!(
        "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Bearer {token}\r\n\r\n"
    )
}

#[tokio::test]
async fn whoever_is_not_let_in_is_written_down_and_repetitions_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let audit = Audit::open(&AuditConfig::new(log.clone(), dir.path().join("identity"))).unwrap();
    let executor = Arc::new(Executor::new(ExecutorConfig { audit: Some(audit.clone()), ..config() }).unwrap());
    let fixture =
        |name: &str| std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../link/tests/fixtures").join(name);
    let token = dir.path().join("token");
    std::fs::write(&token, "right").unwrap();
    let guarded = ListenOptions { auth: Some(WsAuth::token_file(token).unwrap()), ..ListenOptions::default() };
    let tls = Tls::load(fixture("localhost.cert.pem"), fixture("localhost.key.pem")).unwrap();
    let secure = ListenOptions { tls: Some(Arc::new(tls)), ..guarded.clone() };
    let full = ListenOptions { max_connections: 0, ..guarded.clone() };
    let (cancel, mut listening, mut addresses) = (CancellationToken::new(), JoinSet::new(), Vec::new());
    for options in [guarded, secure, full] {
        let listener = Listener::bind(&ListenUrl::parse("ws://127.0.0.1:0").unwrap(), options).await.unwrap();
        addresses.push(listener.url().to_string().trim_start_matches("ws://").to_owned());
        listening.spawn(listener.run(Arc::clone(&executor), cancel.clone()));
    }
    for _ in 0..50 {
        assert!(knock(&addresses[0], handshake("wrong").as_bytes()).await.starts_with("HTTP/1.1 401"));
    }
    assert!(knock(&addresses[0], b"GET /other HTTP/1.1\r\nHost: x\r\n\r\n").await.starts_with("HTTP/1.1 404"));
    assert!(knock(&addresses[0], b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n").await.starts_with("HTTP/1.1 200"));
    knock(&addresses[0], b"\x00\x01\x02 no HTTP\r\n\r\n").await;
    knock(&addresses[1], b"GET / HTTP/1.1\r\n\r\n").await;
    knock(&addresses[2], b"").await;
    cancel.cancel();
    while listening.join_next().await.is_some() {}
    audit.stop();
    let lines = lines(&log);
    let told: Vec<&Value> = lines.iter().filter(|line| line["kind"] == "not-let-in").collect();
    assert!(told.iter().all(|line| line["peer"] == "127.0.0.1"), "{told:?}");
    let of = |why: &str| {
        let of: Vec<u64> =
            told.iter().filter(|line| line["why"] == why).map(|line| line["times"].as_u64().unwrap()).collect();
        (of.len(), of.iter().sum::<u64>())
    };
    let (count, times) = of("invalid websocket bearer token");
    assert!(times == 50 && count < 12, "{count} lines for {times}");
    for why in
        ["HTTP, answered 404", "no HTTP, or not in time", "the TLS handshake failed", "as many are connected as may be"]
    {
        assert_eq!(of(why), (1, 1), "{why}: {told:?}");
    }
    assert_eq!(of("HTTP, answered 200"), (0, 0));
    assert!(!lines.iter().any(|line| line.to_string().contains("wrong")), "no token is written down");
}

#[tokio::test]
async fn an_initialize_that_is_refused_is_written_down_and_repetitions_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let audit = Audit::open(&AuditConfig::new(log.clone(), dir.path().join("identity"))).unwrap();
    let mut bench = Bench::with(ExecutorConfig { audit: Some(audit.clone()), ..config() });
    let mut client = bench.connect();
    let wanted = "x".repeat(100_000);
    for _ in 0..20 {
        let answer = client.call("initialize", json!({"clientName": "t", "resumeSessionId": wanted})).await;
        assert_eq!(answer["error"]["code"], -32600);
    }
    client.vanish();
    bench.served().await;
    bench.executor.shutdown().await;
    audit.stop();
    let lines = lines(&log);
    let refused: Vec<&Value> = lines.iter().filter(|line| line["kind"] == "refused").collect();
    let again: Vec<&Value> = lines.iter().filter(|line| line["kind"] == "not-let-in").collect();
    let text = refused[0]["message"].as_str().unwrap();
    assert!(text.starts_with("unknown session id xxx") && text.len() < 5_000, "{} bytes", text.len());
    assert_eq!((&refused[0]["method"], &refused[0]["code"]), (&json!("initialize"), &json!(-32600)));
    assert_eq!(again[0]["why"], "initialize was refused (-32600)");
    let times: u64 = again.iter().map(|line| line["times"].as_u64().unwrap()).sum();
    assert_eq!(refused.len() as u64 + times, 20);
}

#[tokio::test]
async fn what_a_client_names_has_a_bound() {
    /// What all may have together; with a full one this would take half a thousand processes.
    const MOST: usize = 2 * 1024 * 1024;
    let mut config = config();
    config.host.names = MOST;
    let mut bench = Bench::with(config);
    let mut client = bench.open().await;
    let (longest, longer) = ("x".repeat(64 * 1024), "x".repeat(64 * 1024 + 1));
    let answer = client.call("process/start", start(&longest, &["true"])).await;
    assert_eq!(answer["result"]["processId"], json!(longest));
    let http = json!({"requestId": longer, "method": "GET", "url": "http://127.0.0.1:1/"});
    for (method, params) in [
        ("process/start", start(&longer, &["true"])),
        ("process/read", json!({"processId": longer})),
        ("process/terminate", json!({"processId": longer})),
        ("http/request", http),
    ] {
        let answer = client.call(method, params).await;
        assert_eq!(answer["error"]["code"], -32602, "{method}");
        let text = answer["error"]["message"].as_str().unwrap();
        assert!(text.ends_with("Id has 65537 bytes, at most 65536 are allowed"), "{text}");
    }
    let mut other = bench.connect();
    let answer = other.call("initialize", json!({"clientName": longer})).await;
    assert_eq!(answer["error"]["message"], "clientName has 65537 bytes, at most 65536 are allowed");
    // 40 ids of 10 MB were 1.3 GB once.
    let fits = MOST / (63 * 1024);
    for n in 1..=fits {
        let answer = client.call("process/start", start(&format!("{n:05}{}", &longest[5..]), &["true"])).await;
        match answer["error"]["message"].as_str() {
            // The one from above is among them.
            Some(text) if n == fits => assert!(text.contains("too much memory"), "{text}"),
            refused => assert_eq!(refused, None, "{n}"),
        }
    }
    assert!(client.start("short", &["true"]).await["error"].is_null(), "an ordinary one is started all the same");
}
