//! Dialling: what is asked, and what may be answered.

use std::time::Duration;

use exedra_link::ws::{self, DialOptions, WsOptions};
use exedra_link::{LinkError, Message};
use exedra_proto::secret::Secret;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener};

use crate::raw;

const QUERY: &str = "role=executor&sig=s3cret";

/// Dials a server that lets `script` talk to the accepted socket.
async fn dial_with<F>(options: DialOptions, script: impl FnOnce(TcpStream) -> F) -> (LinkError, String)
where
    F: Future<Output = TcpStream>,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let url = Secret::new(format!("ws://{address}/path?{QUERY}"));
    let serve = async { script(listener.accept().await.unwrap().0).await };
    let (dialled, _io) = tokio::join!(ws::dial(&url, &options), serve);
    let error = dialled.expect_err("it must fail");
    let text = format!("{error} {error:?}");
    assert!(!text.contains("s3cret") && !text.contains("path"), "{text}");
    assert!(text.contains(&address.to_string()), "{text}");
    (error, text)
}

async fn answering(mut io: TcpStream, answer: &str) -> TcpStream {
    raw::http_head(&mut io).await;
    io.write_all(answer.as_bytes()).await.unwrap();
    io
}

#[tokio::test]
async fn the_request_is_plain_and_early_messages_are_not_lost() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let url = Secret::new(format!("ws://{address}/rendezvous/r?{QUERY}"));
    let options = DialOptions::default();
    let serve = async {
        let (mut io, _) = listener.accept().await.unwrap();
        let head = raw::answer_upgrade(&mut io, b"\x81\x05early").await;
        (io, head)
    };
    let (connection, (_io, head)) = tokio::join!(ws::dial(&url, &options), serve);
    assert_eq!(connection.unwrap().receiver.recv().await, Ok("early".into()));
    let mut names: Vec<&str> = head.lines().skip(1).filter_map(|line| line.split(':').next()).collect();
    names.retain(|name| !name.is_empty());
    assert_eq!(names, ["Host", "Connection", "Upgrade", "Sec-WebSocket-Version", "Sec-WebSocket-Key"]);
    assert!(head.starts_with(&format!("GET /rendezvous/r?{QUERY} HTTP/1.1\r\n")), "{head}");
}

#[tokio::test]
async fn a_refusal_tells_status_reason_and_when_to_come_back() {
    let answer = "HTTP/1.1 401 Unauthorized\r\nx-codex-rendezvous-rejection-reason: expired\r\nRetry-After: 7\r\nContent-Length: 26\r\n\r\nseen sig=s3cret in a path!";
    let (error, _) = dial_with(DialOptions::default(), |io| answering(io, answer)).await;
    let LinkError::Refused { refusal, .. } = &error else { panic!("{error}") };
    assert_eq!((refusal.status, refusal.reason.as_deref()), (401, Some("expired")));
    assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
    assert!(error.is_stale_ticket() && !error.is_retryable());
    assert!(error.to_string().ends_with("refused the websocket: 401 Unauthorized (expired)"), "{error}");

    for (status, stale, retryable) in
        [("409 Conflict", true, true), ("503 x", false, true), ("302 Found", false, false)]
    {
        let answer = format!("HTTP/1.1 {status}\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n");
        let (error, _) = dial_with(DialOptions::default(), |io| answering(io, &answer)).await;
        assert_eq!((error.is_stale_ticket(), error.is_retryable()), (stale, retryable), "{status}");
    }
}

#[tokio::test]
async fn garbage_instead_of_http_is_named() {
    let wrong_key = "HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: no\r\n\r\n";
    for answer in ["SSH-2.0-OpenSSH_9.6\r\n\r\n", "\0\0\0\0\r\n\r\n", wrong_key] {
        let (error, _) = dial_with(DialOptions::default(), |io| answering(io, answer)).await;
        assert!(matches!(error, LinkError::NotWebsocket { .. }), "{error:?}");
        assert!(error.hint().is_some());
    }
}

#[tokio::test]
async fn a_server_that_hangs_up_or_is_not_there_is_unreachable() {
    let (error, _) = dial_with(DialOptions::default(), |mut io| async {
        io.shutdown().await.unwrap();
        io
    })
    .await;
    assert!(matches!(error, LinkError::Unreachable { .. }) && error.is_retryable(), "{error:?}");

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Secret::new(format!("ws://localhost:{}/", listener.local_addr().unwrap().port()));
    drop(listener);
    let error = ws::dial(&url, &DialOptions::default()).await.unwrap_err();
    assert!(matches!(error, LinkError::Unreachable { .. }) && error.is_retryable(), "{error:?}");
}

#[tokio::test]
async fn a_server_that_never_answers_has_a_time_limit() {
    let options = DialOptions { timeout: Duration::from_millis(200), ..DialOptions::default() };
    let (error, text) = dial_with(options, |io| async { io }).await;
    assert!(matches!(error, LinkError::TimedOut { .. }) && error.is_retryable(), "{error:?}");
    assert!(text.contains("no answer within 0.2 s"), "{text}");
}

#[tokio::test]
async fn a_websocket_on_a_socket_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a b.sock");
    let url = Secret::new(format!("unix://{}", path.display()));
    let error = ws::dial(&url, &DialOptions::default()).await.unwrap_err();
    assert!(matches!(error, LinkError::Unreachable { .. }), "{error:?}");

    let listener = UnixListener::bind(&path).unwrap();
    let options = DialOptions::default();
    let serve = async {
        let (mut io, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(io.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
        let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes());
        let answer = format!(
            "HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        io.write_all(answer.as_bytes()).await.unwrap();
        ws::accept(io, None, WsOptions::default())
    };
    let (client, mut server) = tokio::join!(ws::dial(&url, &options), serve);
    let client = client.unwrap();
    client.sender.send("through a file").await.unwrap();
    assert_eq!(server.receiver.recv().await, Ok(Message::from("through a file")));
}
