//! The listener, through real sockets and a websocket client of another make.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use exedra_executor::listen::auth::WsAuth;
use exedra_executor::listen::tls::Tls;
use exedra_executor::listen::{ListenEnd, ListenOptions, ListenUrl, Listener};
use exedra_executor::{Executor, ExecutorError, Peer};
use exedra_link::{Disconnect, stdio};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_util::sync::CancellationToken;

use crate::bench::{Client, config, until, within};

struct Listening {
    url: ListenUrl,
    address: String,
    executor: Arc<Executor>,
    cancel: CancellationToken,
    task: JoinSet<ListenEnd>,
}

async fn listen_on(url: &str, options: ListenOptions) -> Listening {
    let executor = Arc::new(Executor::new(config()).unwrap());
    let listener = Listener::bind(&ListenUrl::parse(url).unwrap(), options).await.unwrap();
    let (url, cancel) = (listener.url().clone(), CancellationToken::new());
    let mut task = JoinSet::new();
    task.spawn(listener.run(Arc::clone(&executor), cancel.clone()));
    let address = url.to_string().trim_start_matches("ws://").to_owned();
    Listening { url, address, executor, cancel, task }
}

async fn listen() -> Listening {
    listen_on("ws://127.0.0.1:0", ListenOptions::default()).await
}

/// Sends `request` as it is and gives the answer's head and body.
async fn raw(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    within("an HTTP answer", stream.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8(answer).unwrap()
}

async fn shake<S: AsyncRead + AsyncWrite + Unpin>(stream: S) -> WebSocketStream<S> {
    let mut request = "ws://127.0.0.1/".into_client_request().unwrap();
    let offer = "permessage-deflate; client_max_window_bits".parse().unwrap();
    request.headers_mut().insert("Sec-WebSocket-Extensions", offer);
    let (socket, answer) = tokio_tungstenite::client_async(request, stream).await.unwrap();
    assert!(answer.headers().get("Sec-WebSocket-Extensions").is_none());
    socket
}

async fn call<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut WebSocketStream<S>, message: Message) -> Value {
    socket.send(message).await.unwrap();
    loop {
        match within("an answer", socket.next()).await.unwrap().unwrap() {
            Message::Text(text) => return serde_json::from_str(&text).unwrap(),
            Message::Ping(_) | Message::Pong(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

fn initialize() -> Message {
    Message::text(r#"{"id":1,"method":"initialize","params":{"clientName":"x"}}"#)
}

#[tokio::test]
async fn the_http_table() {
    let listening = listen().await;
    for (method, path, origin, status) in [
        ("GET", "/readyz", "", "200 OK"),
        ("HEAD", "/readyz", "", "200 OK"),
        ("POST", "/readyz", "", "405 Method Not Allowed"),
        ("GET", "/", "", "400 Bad Request"),
        ("GET", "/other", "", "404 Not Found"),
        ("GET", "/readyz", "Origin: http://127.0.0.1\r\n", "403 Forbidden"),
        ("GET", "/", "Origin: null\r\n", "403 Forbidden"),
    ] {
        let answer = raw(&listening.address, &format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{origin}\r\n")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{method} {path}: {answer}");
        assert!(answer.ends_with("\r\n\r\n"), "a body: {answer}");
    }
}

#[tokio::test]
async fn a_page_in_a_browser_gets_no_websocket() {
    let listening = listen().await;
    let mut request = format!("{}/", listening.url).into_client_request().unwrap();
    request.headers_mut().insert("Origin", "https://example.com".parse().unwrap());
    let stream = TcpStream::connect(&listening.address).await.unwrap();
    match tokio_tungstenite::client_async(request, stream).await.unwrap_err() {
        tokio_tungstenite::tungstenite::Error::Http(answer) => assert_eq!(answer.status(), 403),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn text_and_binary_are_taken_and_text_is_sent_to_any_number_of_clients() {
    let listening = listen().await;
    let mut sockets = Vec::new();
    for _ in 0..20 {
        let mut socket = shake(TcpStream::connect(&listening.address).await.unwrap()).await;
        assert!(call(&mut socket, initialize()).await["result"]["sessionId"].is_string());
        sockets.push(socket);
    }
    for socket in &mut sockets {
        let binary = Message::binary(r#"{"id":2,"method":"nope"}"#);
        assert_eq!(call(socket, binary).await["error"]["code"], -32601);
        let label = format!("exec-server websocket {}", socket.get_ref().local_addr().unwrap());
        let text = call(socket, Message::text("{bad")).await["error"]["message"].as_str().unwrap().to_owned();
        assert!(text.starts_with(&format!("failed to parse websocket JSON-RPC message from {label}: ")), "{text}");
    }
    assert_eq!(listening.executor.sessions(), 20);
}

#[tokio::test]
async fn a_client_may_speak_before_the_upgrade_is_answered() {
    let listening = listen().await;
    let mut stream = TcpStream::connect(&listening.address).await.unwrap();
    let head = "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let mut early = head.as_bytes().to_vec();
    let text = br#"{"id":1,"method":"nope"}"#;
    early.extend([0x81, 0x80 | text.len() as u8, 0, 0, 0, 0]);
    early.extend(text);
    stream.write_all(&early).await.unwrap();
    let mut seen = Vec::new();
    let answered = |seen: &[u8]| String::from_utf8_lossy(seen).contains("does not implement `nope` yet");
    while !answered(&seen) {
        assert_ne!(within("both answers", stream.read_buf(&mut seen)).await.unwrap(), 0);
    }
    let seen = String::from_utf8_lossy(&seen).into_owned();
    assert!(seen.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{seen}");
}

#[tokio::test]
async fn slow_and_endless_heads_are_cut_off() {
    let options = ListenOptions { http_timeout: Duration::from_millis(200), ..ListenOptions::default() };
    let listening = listen_on("ws://127.0.0.1:0", options).await;
    let mut slow = TcpStream::connect(&listening.address).await.unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\nHo").await.unwrap();
    within("the cut", slow.read_to_end(&mut Vec::new())).await.unwrap();
    let mut endless = TcpStream::connect(&listening.address).await.unwrap();
    let _ = endless.write_all(format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(1 << 20)).as_bytes()).await;
    let mut answer = Vec::new();
    let _ = within("the refusal", endless.read_to_end(&mut answer)).await;
    assert!(!String::from_utf8_lossy(&answer).contains("101"));
    assert!(raw(&listening.address, "GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n").await.contains("200 OK"));
}

#[tokio::test]
async fn no_http_at_all_is_no_harm() {
    let listening = listen().await;
    for garbage in ["\r\n\r\n", "\u{1}\u{2}\u{3}\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n"] {
        let mut stream = TcpStream::connect(&listening.address).await.unwrap();
        stream.write_all(garbage.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let _ = within("the end", stream.read_to_end(&mut Vec::new())).await;
    }
    assert!(raw(&listening.address, "GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n").await.contains("200 OK"));
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let listening = listen().await;
    let error = Listener::bind(&listening.url, ListenOptions::default()).await.unwrap_err();
    assert_eq!(error.to_string(), format!("cannot listen on {}: address in use", listening.url));
    assert!(matches!(error, ExecutorError::AddressInUse(_)) && error.hint().is_some());
    let foreign = ListenUrl::parse("ws://192.0.2.1:0").unwrap();
    let insecure = ListenOptions { insecure: true, ..ListenOptions::default() };
    let error = Listener::bind(&foreign, insecure).await.unwrap_err();
    assert!(error.to_string().starts_with("cannot listen on ws://192.0.2.1:0: "), "{error}");
}

#[tokio::test]
async fn one_client_too_many_is_told() {
    let options = ListenOptions { max_connections: 2, ..ListenOptions::default() };
    let listening = listen_on("ws://127.0.0.1:0", options).await;
    let mut one = shake(TcpStream::connect(&listening.address).await.unwrap()).await;
    let mut two = shake(TcpStream::connect(&listening.address).await.unwrap()).await;
    let mut third = TcpStream::connect(&listening.address).await.unwrap();
    let mut answer = String::new();
    within("the refusal", third.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{answer}");
    assert!(call(&mut one, initialize()).await["result"].is_object());
    assert!(call(&mut two, initialize()).await["result"].is_object());
    drop(one);
    within("the free place", async {
        loop {
            let stream = TcpStream::connect(&listening.address).await.unwrap();
            if tokio_tungstenite::client_async("ws://127.0.0.1/", stream).await.is_ok() {
                return;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_message_beyond_the_limit_ends_the_connection_with_a_reason() {
    let listening = listen().await;
    let mut socket = shake(TcpStream::connect(&listening.address).await.unwrap()).await;
    let session = call(&mut socket, initialize()).await["result"]["sessionId"].clone();
    let _ = socket.send(Message::text("x".repeat(65 << 20))).await;
    match within("the goodbye", socket.next()).await.unwrap().unwrap() {
        Message::Close(Some(frame)) => assert_eq!(u16::from(frame.code), 1009),
        other => panic!("{other:?}"),
    }
    // The session is still there.
    drop(socket);
    let mut socket = shake(TcpStream::connect(&listening.address).await.unwrap()).await;
    let resume = json!({"id": 1, "method": "initialize", "params": {"clientName": "x", "resumeSessionId": session}});
    assert_eq!(call(&mut socket, Message::text(resume.to_string())).await["result"]["sessionId"], session);
}

#[tokio::test]
async fn a_socket_file_is_private_and_serves() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("exec.sock");
    let url = format!("unix://{}", path.display());
    let mut listening = listen_on(&url, ListenOptions::default()).await;
    assert_eq!(listening.url.to_string(), url);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    let mut socket = shake(UnixStream::connect(&path).await.unwrap()).await;
    assert!(call(&mut socket, initialize()).await["result"]["sessionId"].is_string());
    let second = Listener::bind(&listening.url, ListenOptions::default()).await.unwrap_err();
    assert_eq!(second.to_string(), format!("cannot listen on {url}: address in use"));
    drop(socket);
    listening.cancel.cancel();
    within("the end", listening.task.join_next()).await.unwrap().unwrap();
    assert!(!path.exists());
}

#[tokio::test]
async fn a_listener_that_is_cancelled_says_goodbye_and_ends_the_sessions_meanwhile() {
    let mut listening = listen().await;
    let mut socket = shake(TcpStream::connect(&listening.address).await.unwrap()).await;
    call(&mut socket, initialize()).await;
    let idle = TcpStream::connect(&listening.address).await.unwrap();
    listening.cancel.cancel();
    // Before the client has answered the goodbye.
    until("the end of the session", || listening.executor.sessions() == 0).await;
    assert!(listening.task.try_join_next().is_none(), "the client is still there");
    match within("the goodbye", socket.next()).await.unwrap().unwrap() {
        Message::Close(Some(frame)) => assert_eq!(u16::from(frame.code), 1001),
        other => panic!("{other:?}"),
    }
    drop(socket);
    assert!(matches!(within("the end", listening.task.join_next()).await.unwrap().unwrap(), ListenEnd::Cancelled));
    assert!(TcpStream::connect(&listening.address).await.is_err());
    drop(idle);
}

#[tokio::test]
async fn a_dropped_websocket_detaches_its_session() {
    let listening = listen().await;
    let mut socket = shake(TcpStream::connect(&listening.address).await.unwrap()).await;
    let session = call(&mut socket, initialize()).await["result"]["sessionId"].clone();
    drop(socket);
    let resume = json!({"id": 1, "method": "initialize", "params": {"clientName": "x", "resumeSessionId": session}});
    within("the resumption", async {
        loop {
            let mut socket = shake(TcpStream::connect(&listening.address).await.unwrap()).await;
            let answer = call(&mut socket, Message::text(resume.to_string())).await;
            if answer["result"]["sessionId"] == session {
                return;
            }
            assert_eq!(answer["error"]["code"], -32010);
        }
    })
    .await;
}

#[tokio::test]
async fn lines_on_standard_input_and_output() {
    let executor = Executor::new(config()).unwrap();
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let (reader, writer) = tokio::io::split(theirs);
    let cancel = CancellationToken::new();
    let client = async {
        let (reader, writer) = tokio::io::split(ours);
        let mut client = Client::new(stdio::connect(reader, writer));
        client.handshake().await;
        client.text("{bad").await;
        let text = client.response(-1).await["error"]["message"].as_str().unwrap().to_owned();
        assert!(text.starts_with("failed to parse JSON-RPC message from exec-server stdio: "), "{text}");
        client.start("p", &["echo", "hi"]).await;
        assert_eq!(client.follow("p").await.stdout, b"hi\n");
    };
    let (served, ()) = tokio::join!(executor.serve(stdio::connect(reader, writer), Peer::Stdio, &cancel), client);
    assert!(served.opened);
    assert!(matches!(served.end, exedra_executor::End::Disconnected(Disconnect::PeerClosed { .. } | Disconnect::Lost)));
}

fn fixture(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../link/tests/fixtures").join(name)
}

fn guarded(token: &str) -> ListenOptions {
    use sha2::Digest as _;
    let hash: String = sha2::Sha256::digest(token).iter().map(|byte| format!("{byte:02x}")).collect();
    ListenOptions { auth: Some(WsAuth::token_sha256(&hash).unwrap()), ..ListenOptions::default() }
}

fn upgrade(headers: &str) -> String {
    format!(
        "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    )
}

#[tokio::test]
async fn a_guarded_listener_lets_in_who_shows_its_token() {
    let listening = listen_on("ws://127.0.0.1:0", guarded("tok")).await;
    for (headers, body) in [
        ("", "missing websocket bearer token"),
        ("Authorization: Bearer wrong\r\n", "invalid websocket bearer token"),
        ("Authorization: Basic dG9r\r\n", "invalid authorization header"),
    ] {
        let answer = raw(&listening.address, &upgrade(headers)).await;
        assert!(answer.starts_with("HTTP/1.1 401 Unauthorized\r\n") && answer.ends_with(body), "{answer}");
    }
    let page = raw(&listening.address, &upgrade("Authorization: Bearer tok\r\nOrigin: http://x\r\n")).await;
    assert!(page.starts_with("HTTP/1.1 403"), "{page}");
    let ready = raw(&listening.address, "GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
    let mut request = "ws://127.0.0.1/".into_client_request().unwrap();
    request.headers_mut().insert("Authorization", "bearer tok".parse().unwrap());
    let stream = TcpStream::connect(&listening.address).await.unwrap();
    let (mut socket, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
    assert!(call(&mut socket, initialize()).await["result"]["sessionId"].is_string());
    assert_eq!(listening.executor.sessions(), 1, "nobody else came in");
}

#[tokio::test]
async fn tls_carries_the_websocket_and_nothing_else_gets_through() {
    use tokio_rustls::TlsConnector;
    use tokio_rustls::rustls::pki_types::pem::PemObject as _;
    use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
    use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

    let tls = Arc::new(Tls::load(fixture("localhost.cert.pem"), fixture("localhost.key.pem")).unwrap());
    let options = ListenOptions { tls: Some(tls), ..guarded("tok") };
    let full = ListenOptions { max_connections: 1, ..options.clone() };
    let options = ListenOptions { http_timeout: Duration::from_secs(2), ..options };
    let listening = listen_on("ws://127.0.0.1:0", options).await;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(fixture("localhost.cert.pem")).unwrap()).unwrap();
    let provider = Arc::new(crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let connector = TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth()));
    let stream = TcpStream::connect(&listening.address).await.unwrap();
    let stream = connector.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap();
    let mut request = "wss://localhost/".into_client_request().unwrap();
    request.headers_mut().insert("Authorization", "Bearer tok".parse().unwrap());
    let (mut socket, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
    assert!(call(&mut socket, initialize()).await["result"]["sessionId"].is_string());
    // Plain HTTP, and nothing at all, get no websocket and do not stay.
    let mut plain = TcpStream::connect(&listening.address).await.unwrap();
    plain.write_all(upgrade("Authorization: Bearer tok\r\n").as_bytes()).await.unwrap();
    let mut silent = TcpStream::connect(&listening.address).await.unwrap();
    for stream in [&mut plain, &mut silent] {
        let mut answer = Vec::new();
        let _ = within("the end", stream.read_to_end(&mut answer)).await;
        assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    }
    assert_eq!(listening.executor.sessions(), 1);
    let listening = listen_on("ws://127.0.0.1:0", full).await;
    let _silent = TcpStream::connect(&listening.address).await.unwrap();
    let stream = TcpStream::connect(&listening.address).await.unwrap();
    let mut stream = connector.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap();
    stream.write_all(upgrade("Authorization: Bearer tok\r\n").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = within("the refusal", stream.read_to_end(&mut answer)).await;
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\r\nretry-after: 5\r\n"), "{answer}");
    assert!(answer.ends_with("as many clients are connected as there may be\n"), "{answer}");
}

#[tokio::test]
async fn other_machines_are_not_let_in_unasked() {
    let any = ListenUrl::parse("ws://0.0.0.0:0").unwrap();
    let refused = |options: ListenOptions| {
        let any = any.clone();
        async move { Listener::bind(&any, options).await.unwrap_err().to_string() }
    };
    let text = refused(ListenOptions::default()).await;
    assert!(text.contains("anybody there could run commands here"), "{text}");
    let text = refused(guarded("tok")).await;
    assert!(text.contains("without TLS"), "{text}");
    let insecure = ListenOptions { insecure: true, ..ListenOptions::default() };
    drop(Listener::bind(&any, insecure).await.unwrap());
    let stdio = Listener::bind(&ListenUrl::Stdio, guarded("tok")).await.unwrap_err().to_string();
    assert_eq!(stdio, "stdio has no --ws-auth: only `ws://IP:PORT` does");
}

#[tokio::test]
async fn each_limit_has_its_answer() {
    let mut limited = config();
    limited.max_sessions = 2;
    limited.host.max_processes = 1;
    let mut bench = crate::bench::Bench::with(limited);
    let mut first = bench.open().await;
    let second = bench.open().await;
    let mut third = bench.connect();
    let answer = third.call("initialize", json!({"clientName": "x"})).await;
    assert_eq!(answer["error"]["message"], "there are 2 sessions here, and that is as many as may be");
    first.start("p", &["cat"]).await;
    let answer = first.start("q", &["true"]).await;
    let text = answer["error"]["message"].as_str().unwrap();
    assert!(text.starts_with("1 processes are running here"), "{text}");
    first.call("process/terminate", json!({"processId": "p"})).await;
    first.follow("p").await;
    assert!(first.start("q", &["true"]).await["error"].is_null(), "the place is free again");
    drop(second);
    let options = ListenOptions { max_connections: 1, ..ListenOptions::default() };
    let listening = listen_on("ws://127.0.0.1:0", options).await;
    let _held = shake(TcpStream::connect(&listening.address).await.unwrap()).await;
    let sent_away = raw(&listening.address, "").await;
    assert!(sent_away.starts_with("HTTP/1.1 503"), "{sent_away}");
}
