//! `http/request`, whole and streamed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use exedra_proto::base64::Base64Text;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::bench::{Bench, until};

struct Server {
    url: String,
    /// Bytes of endless bodies that were taken from it.
    taken: Arc<AtomicUsize>,
    /// Endless bodies that nobody wanted any more.
    broken: Arc<AtomicUsize>,
    /// Lets the body of `/two` go on.
    go: Arc<Notify>,
    _tasks: JoinSet<()>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (taken, broken, go) = (Arc::default(), Arc::default(), Arc::default());
        let mut tasks = JoinSet::new();
        let (t, b, g) = (Arc::clone(&taken), Arc::clone(&broken), Arc::clone(&go));
        tasks.spawn(async move {
            let mut clients = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                clients.spawn(answer(stream, Arc::clone(&t), Arc::clone(&b), Arc::clone(&g)));
            }
        });
        Self { url, taken, broken, go, _tasks: tasks }
    }
}

async fn answer(mut stream: TcpStream, taken: Arc<AtomicUsize>, broken: Arc<AtomicUsize>, go: Arc<Notify>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap();
    let ok = "HTTP/1.1 200 OK\r\nconnection: close\r\n";
    match path {
        "/whole" => stream.write_all(format!("{ok}content-length: 5\r\n\r\nhello").as_bytes()).await.unwrap(),
        "/two" => {
            stream.write_all(format!("{ok}content-length: 6\r\n\r\none").as_bytes()).await.unwrap();
            go.notified().await;
            stream.write_all(b"two").await.unwrap();
        }
        "/short" => stream.write_all(format!("{ok}content-length: 9\r\n\r\nshort").as_bytes()).await.unwrap(),
        _ => {
            stream.write_all(format!("{ok}\r\n").as_bytes()).await.unwrap();
            while let Ok(n) = stream.write(&[b'x'; 65536]).await {
                taken.fetch_add(n, Ordering::Relaxed);
            }
            broken.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn get(server: &Server, path: &str, id: &str, stream: bool) -> Value {
    json!({"method": "GET", "url": format!("{}{path}", server.url), "requestId": id, "streamResponse": stream})
}

#[tokio::test]
async fn a_whole_body_comes_in_the_answer() {
    let server = Server::start().await;
    let mut bench = Bench::new();
    let mut client = bench.open().await;
    let answer = client.call("http/request", get(&server, "/whole", "r", false)).await;
    assert_eq!((&answer["result"]["status"], &answer["result"]["bodyBase64"]), (&json!(200), &json!("aGVsbG8=")));
    let refused = json!({"method": "GET", "url": "ftp://x/", "requestId": "r"});
    let answer = client.call("http/request", refused).await;
    let text = "http/request only supports http and https URLs, got ftp";
    assert_eq!(answer["error"], json!({"code": -32602, "message": text}));
}

#[tokio::test]
async fn a_streamed_body_follows_its_head_in_numbered_pieces() {
    let server = Server::start().await;
    let mut bench = Bench::new();
    let mut client = bench.open().await;
    let id = client.post("http/request", get(&server, "/two", "s", true)).await;
    let first = client.event().await;
    assert!(client.seen.iter().any(|m| m["id"] == id), "the head comes first");
    assert_eq!(first["method"], "http/request/bodyDelta");
    let again = client.call("http/request", get(&server, "/whole", "s", true)).await;
    let text = "http/request streamResponse requestId `s` is already active";
    assert_eq!(again["error"], json!({"code": -32602, "message": text}));
    server.go.notify_one();
    let mut deltas = vec![first["params"].clone()];
    while deltas.last().unwrap()["done"] == false {
        deltas.push(client.event().await["params"].clone());
    }
    let seqs: Vec<_> = deltas.iter().map(|d| d["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (1..=deltas.len() as u64).collect::<Vec<_>>());
    let body: Vec<u8> =
        deltas.iter().flat_map(|d| Base64Text(d["deltaBase64"].as_str().unwrap().into()).decode().unwrap()).collect();
    assert_eq!(body, b"onetwo");
    let last = deltas.last().unwrap();
    assert_eq!((&last["deltaBase64"], &last["error"], &last["requestId"]), (&json!(""), &json!(null), &json!("s")));
    // The name is free again.
    let answer = client.call("http/request", get(&server, "/whole", "s", true)).await;
    assert_eq!(answer["result"]["status"], 200);
}

#[tokio::test]
async fn a_body_that_breaks_off_says_so() {
    let server = Server::start().await;
    let mut bench = Bench::new();
    let mut client = bench.open().await;
    client.call("http/request", get(&server, "/short", "s", true)).await;
    let mut last = client.event().await;
    while last["params"]["done"] == false {
        last = client.event().await;
    }
    assert!(last["params"]["error"].is_string(), "{last}");
}

#[tokio::test]
async fn a_client_that_does_not_read_slows_the_body_and_its_end_ends_it() {
    let server = Server::start().await;
    let mut bench = Bench::new();
    let mut client = bench.open().await;
    client.call("http/request", get(&server, "/endless", "s", true)).await;
    let mut before = usize::MAX;
    let taken = || server.taken.load(Ordering::Relaxed);
    while before != taken() {
        before = taken();
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert!(before < 64 << 20, "{before} bytes went into a connection that nobody reads");
    // Others of the same connection are not held up for good, and the stream ends with it.
    client.vanish();
    until("the end of the body", || server.broken.load(Ordering::Relaxed) == 1).await;
}
