//! A registry and a rendezvous that do as a test says.

use std::sync::{Arc, Mutex};

use exedra_link::Connection;
use exedra_link::ws::{self, WsOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::bench::{Client, within};

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    pub head: String,
    pub body: String,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// Answers the n-th registration, from 0, with what a function says; an empty answer closes the connection.
pub struct Registry {
    pub url: String,
    pub requests: Arc<Mutex<Vec<Request>>>,
    _task: JoinSet<()>,
}

impl Registry {
    pub async fn start(mut answer: impl FnMut(usize) -> String + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        let mut task = JoinSet::new();
        task.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                // One request per connection: every answer says so.
                let Some(request) = read_request(&mut stream).await else { continue };
                let count = {
                    let mut seen: std::sync::MutexGuard<'_, Vec<Request>> = seen.lock().unwrap();
                    seen.push(request);
                    seen.len()
                };
                let _ = stream.write_all(answer(count - 1).as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        Self { url, requests, _task: task }
    }

    pub fn count(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<Request> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let mut request = Request { head: String::from_utf8(head).unwrap(), body: String::new() };
    let length = request.header("content-length").map_or(0, |n| n.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    request.body = String::from_utf8(body).unwrap();
    Some(request)
}

pub fn answer(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n{body}")
}

/// A registration that worked.
pub fn registered(url: &str) -> String {
    answer("200 OK", "", &serde_json::json!({"id": "reg-1", "executor_id": "box", "url": url}).to_string())
}

pub fn refused(status: &str) -> String {
    answer(status, "", r#"{"error":{"code":"c","message":"because"}}"#)
}

/// Accepts executors.
pub struct Rendezvous {
    pub url: String,
    arrivals: mpsc::UnboundedReceiver<(TcpStream, Request)>,
    _task: JoinSet<()>,
}

impl Rendezvous {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/rendezvous/reg-1?role=executor&sig=SECRET-TICKET", listener.local_addr().unwrap());
        let (tx, arrivals) = mpsc::unbounded_channel();
        let mut task = JoinSet::new();
        task.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                if let Some(request) = read_request(&mut stream).await {
                    let _ = tx.send((stream, request));
                }
            }
        });
        Self { url, arrivals, _task: task }
    }

    /// The next executor's handshake, not answered yet.
    pub async fn arrival(&mut self) -> (TcpStream, Request) {
        within("an executor", self.arrivals.recv()).await.unwrap()
    }

    /// Lets the next executor in; what is returned speaks as the client behind the rendezvous.
    pub async fn accept(&mut self) -> Client {
        Client::new(self.accept_websocket().await)
    }

    /// Lets the next executor in.
    pub async fn accept_websocket(&mut self) -> Connection {
        self.accept_with("").await
    }

    /// Lets the next executor in, which asks for introductions, and promises them.
    pub async fn accept_promising(&mut self) -> Connection {
        self.accept_with("exedra-introductions: 1\r\n").await
    }

    async fn accept_with(&mut self, headers: &str) -> Connection {
        let (mut stream, request) = self.arrival().await;
        assert_eq!(request.header("exedra-introductions"), Some("1"));
        let accept = derive_accept_key(request.header("sec-websocket-key").unwrap().as_bytes());
        let head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-accept: {accept}\r\n{headers}\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        ws::accept(stream, None, WsOptions::default())
    }

    /// Refuses the next executor.
    pub async fn refuse(&mut self, status: &str) {
        let (mut stream, _) = self.arrival().await;
        stream.write_all(answer(status, "", "").as_bytes()).await.unwrap();
        let _ = stream.shutdown().await;
    }

    /// Whether an executor is at the door.
    pub fn has_arrival(&self) -> bool {
        !self.arrivals.is_empty()
    }
}
