//! `http/request` against a server of its own; texts as recorded from stock 0.130.
#![expect(clippy::unwrap_used, reason = "the lints know tests by #[test], not what those call")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use exedra_host::fetch::{Answer, FetchConfig, FetchError, Fetcher, Lookup, PIECE_LIMIT, WHOLE_BODY_LIMIT};
use exedra_host::policy::{Current, Egress, Policy};
use exedra_proto::http::{Header, RequestResult};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

/// A server that answers by path, and remembers what it was sent.
struct Server {
    base: String,
    seen: Arc<Mutex<Vec<String>>>,
    fetcher: Fetcher,
    _tasks: JoinSet<()>,
}

impl Server {
    async fn start() -> Self {
        Self::with_config(FetchConfig::default()).await
    }

    async fn with_config(config: FetchConfig) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, seen.clone()));
        Self { base, seen, fetcher: Fetcher::new(config), _tasks: tasks }
    }

    fn params<P: serde::de::DeserializeOwned>(&self, path: &str, over: Value) -> P {
        let mut params = json!({"requestId": "r", "method": "GET", "url": format!("{}{path}", self.base)});
        params.as_object_mut().unwrap().extend(over.as_object().unwrap().clone());
        serde_json::from_value(params).unwrap()
    }

    async fn get(&self, path: &str) -> Result<RequestResult, FetchError> {
        self.fetcher.request(self.params(path, json!({}))).await
    }

    async fn with(&self, path: &str, over: Value) -> Result<RequestResult, FetchError> {
        self.fetcher.request(self.params(path, over)).await
    }

    fn failed(&self, text: &str) -> FetchError {
        FetchError::Failed(text.replace("{base}", &self.base))
    }
}

async fn accept(listener: TcpListener, seen: Arc<Mutex<Vec<String>>>) {
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        connections.spawn(answer(socket, seen.clone()));
    }
}

async fn answer(mut socket: TcpStream, seen: Arc<Mutex<Vec<String>>>) -> Option<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|four| four == b"\r\n\r\n") {
        socket.read_buf(&mut request).await.ok().filter(|read| *read > 0)?;
    }
    let head = request.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&request[..head]).into_owned();
    let length =
        text.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok()).unwrap_or(0);
    while request.len() < head + length {
        socket.read_buf(&mut request).await.ok().filter(|read| *read > 0)?;
    }
    let path = text.split(' ').nth(1)?.to_owned();
    seen.lock().await.push(text);
    let plain = |status: &str, headers: &str, body: &str| {
        format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
    };
    let reply = match path.as_str() {
        "/post" => plain("201 Created", "", std::str::from_utf8(&request[head..]).ok()?),
        "/redir" => plain("302 Found", "location: /ok\r\n", ""),
        "/elsewhere" => {
            let host = text_of_host(seen.lock().await.last()?)?.replace("127.0.0.1", "127.0.0.2");
            plain("307 Temporary", &format!("location: http://{host}/ok\r\n"), "")
        }
        "/loop" => plain("302 Found", "location: /loop\r\n", ""),
        "/noloc" => plain("302 Found", "", ""),
        "/to-metadata" => plain("302 Found", "location: http://[::ffff:169.254.169.254]/latest\r\n", ""),
        "/to-name" => plain("307 Temporary", "location: http://metadata.google.internal/\r\n", ""),
        "/short" => b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc".to_vec(),
        "/garbage" => b"garbage\r\n\r\n".to_vec(),
        "/bytes" => b"HTTP/1.1 200 OK\r\nx-bin: a\xff\r\ncontent-length: 2\r\n\r\nok".to_vec(),
        "/big" => return stream(socket, PIECE_LIMIT * 3 + 5, true).await,
        "/huge" => return stream(socket, WHOLE_BODY_LIMIT + 1, true).await,
        "/endless" => return stream(socket, usize::MAX, false).await,
        "/hang" => {
            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc").await;
            std::future::pending().await
        }
        "/silence" => std::future::pending().await,
        _ => plain("200 OK", "x-dup: 1\r\nx-dup: 2\r\n", "hello"),
    };
    socket.write_all(&reply).await.ok()
}

fn text_of_host(request: &str) -> Option<String> {
    request.lines().find_map(|line| line.strip_prefix("host: ")).map(str::to_owned)
}

async fn stream(mut socket: TcpStream, length: usize, announced: bool) -> Option<()> {
    let header = if announced { format!("content-length: {length}\r\n") } else { String::new() };
    socket.write_all(format!("HTTP/1.1 200 OK\r\n{header}connection: close\r\n\r\n").as_bytes()).await.ok()?;
    let block = vec![b'x'; 256 * 1024];
    let mut left = length;
    while left > 0 {
        let now = left.min(block.len());
        socket.write_all(&block[..now]).await.ok()?;
        left -= now;
    }
    Some(())
}

fn header(name: &str, value: &str) -> Header {
    Header { name: name.into(), value: value.into() }
}

#[tokio::test]
async fn get_and_post() {
    let server = Server::start().await;
    let got = server.get("/ok").await.unwrap();
    assert_eq!((got.status, got.body_base64.0.as_str()), (200, "aGVsbG8="));
    assert_eq!(got.headers, [header("x-dup", "1"), header("x-dup", "2"), header("content-length", "5")]);
    let over = json!({"method": "POST", "headers": [{"name": "X-A", "value": "1"}, {"name": "x-a", "value": "2"}], "bodyBase64": "cGluZw=="});
    let posted = server.with("/post", over).await.unwrap();
    assert_eq!((posted.status, posted.body_base64.0.as_str()), (201, "cGluZw=="));
    let seen = server.seen.lock().await;
    assert!(seen[1].contains("x-a: 1\r\nx-a: 2\r\n"), "{}", seen[1]);
    assert!(!seen[1].to_lowercase().contains("user-agent"));
}

#[tokio::test]
async fn values_that_are_not_utf8_are_left_out() {
    let server = Server::start().await;
    assert_eq!(server.get("/bytes").await.unwrap().headers, [header("content-length", "2")]);
}

#[tokio::test]
async fn redirects() {
    let server = Server::start().await;
    assert_eq!(server.get("/redir").await.unwrap().body_base64.0, "aGVsbG8=");
    assert_eq!(server.get("/noloc").await.unwrap().status, 302);
    let text = "http/request failed: error following redirect for url ({base}/loop)";
    assert_eq!(server.get("/loop").await.unwrap_err(), server.failed(text));
    assert_eq!(server.seen.lock().await.iter().filter(|request| request.contains(" /loop ")).count(), 11);
}

#[tokio::test]
async fn failures_in_the_words_of_stock() {
    let server = Server::start().await;
    let body = "failed to read http/request response body: error decoding response body";
    assert_eq!(server.get("/short").await.unwrap_err(), server.failed(body));
    let sending =
        |path: &str| server.failed(&format!("http/request failed: error sending request for url ({{base}}{path})"));
    assert_eq!(server.get("/garbage").await.unwrap_err(), sending("/garbage"));
    for (path, error) in [("/silence", sending("/silence")), ("/hang", server.failed(body))] {
        let answer = tokio::time::timeout(Duration::from_secs(20), server.with(path, json!({"timeoutMs": 200}))).await;
        assert_eq!(answer.unwrap().unwrap_err(), error);
    }
    let refused = server.with("", json!({"url": "http://127.0.0.1:1/"})).await.unwrap_err();
    let text = "http/request failed: error sending request for url (http://127.0.0.1:1/)";
    assert_eq!(refused, FetchError::Failed(text.into()));
    assert!(matches!(server.with("/ok", json!({"bodyBase64": "!"})).await, Err(FetchError::Invalid(_))));
}

#[tokio::test]
async fn metadata_services_are_not_reached() {
    let server = Server::start().await;
    let text = |host: &str| {
        server.failed(&format!(
            "http/request failed: {host} is a metadata service of the cloud, which http/request does not reach"
        ))
    };
    for (over, host) in [
        (json!({"url": "http://169.254.169.254/"}), "169.254.169.254"),
        (json!({"url": "http://2852039166/"}), "169.254.169.254"),
        (json!({"url": "http://[::ffff:100.100.100.200]/"}), "[::ffff:6464:64c8]"),
    ] {
        assert_eq!(server.with("", over).await.unwrap_err(), text(host));
    }
    assert_eq!(server.get("/to-metadata").await.unwrap_err(), text("[::ffff:a9fe:a9fe]"));
    assert_eq!(server.get("/to-name").await.unwrap_err(), text("metadata.google.internal"));
}

#[tokio::test]
async fn a_streamed_body_comes_in_bounded_pieces() {
    let server = Server::start().await;
    let (head, mut body) = server.fetcher.open(server.params("/big", json!({"streamResponse": true}))).await.unwrap();
    assert_eq!((head.status, head.body_base64.0.as_str()), (200, ""));
    let mut total = 0;
    while let Some(piece) = body.next().await {
        let piece = piece.unwrap();
        assert!(!piece.is_empty() && piece.len() <= PIECE_LIMIT);
        total += piece.len();
    }
    assert_eq!(total, PIECE_LIMIT * 3 + 5);
    assert!(body.next().await.is_none());
}

#[tokio::test]
async fn a_stream_that_breaks_says_so_at_its_end() {
    let server = Server::start().await;
    let (_, mut body) = server.fetcher.open(server.params("/short", json!({}))).await.unwrap();
    assert_eq!(body.next().await.unwrap().unwrap(), "abc");
    assert_eq!(body.next().await.unwrap().unwrap_err().to_string(), "error decoding response body");
    assert!(body.next().await.is_none());
}

#[tokio::test]
async fn a_body_that_no_message_carries_is_refused() {
    let server = Server::start().await;
    for path in ["/huge", "/endless"] {
        let text = server.get(path).await.unwrap_err().to_string();
        assert!(text.contains(&WHOLE_BODY_LIMIT.to_string()) && text.contains("streamResponse"), "{text}");
    }
}

#[tokio::test]
async fn a_redirect_may_be_wanted_as_it_is() {
    let server = Server::start().await;
    let stopped = server.with("/redir", json!({"redirectPolicy": "stop"})).await.unwrap();
    assert_eq!((stopped.status, &stopped.headers[0]), (302, &header("location", "/ok")));
    let followed = server.with("/redir", json!({"redirectPolicy": "follow"})).await.unwrap();
    assert_eq!(followed.status, 200);
}

#[tokio::test]
async fn a_header_from_the_environment_stays_with_its_origin() {
    let mut config = FetchConfig::default();
    config.environment.insert("API_KEY".into(), "s3cret".into());
    let server = Server::with_config(config).await;
    let over = |name: &str| json!({"headers": [{"name": "X-Key", "value": "", "valueEnvVar": name}]});
    server.with("/redir", over("API_KEY")).await.unwrap();
    {
        let seen = server.seen.lock().await;
        assert!(seen.iter().all(|request| request.contains("x-key: s3cret\r\n")) && seen.len() == 2, "{seen:?}");
    }
    // Nobody listens there, but nothing that listened would have got it.
    assert!(server.with("/elsewhere", over("API_KEY")).await.is_err());
    let text = "http/request header X-Key requires executor environment variable NOPE";
    assert_eq!(server.with("/ok", over("NOPE")).await.unwrap_err(), FetchError::Invalid(text.into()));
}

fn only(list: &[&str]) -> Current {
    let mut policy = Policy::default();
    policy.egress = Egress::only(list).unwrap();
    Current::new(policy)
}

#[tokio::test]
async fn the_owner_says_where_requests_go_and_redirects_too() {
    let current = only(&["127.0.0.1"]);
    let mut config = FetchConfig::default();
    config.policy = current.clone();
    let server = Server::with_config(config).await;
    assert_eq!(server.get("/ok").await.unwrap().status, 200);
    let refused = |text: &str| FetchError::Refused(format!("policy: egress: {text}"));
    assert_eq!(server.get("/elsewhere").await.unwrap_err(), refused("no rule of `allow` has 127.0.0.2"));
    let port = server.base.rsplit(':').next().unwrap().to_owned();
    current.set(Policy::clone(&only(&["127.0.0.1:1"]).get()));
    let text = format!("the rule `127.0.0.1:1` does not have port {port}");
    assert_eq!(server.get("/ok").await.unwrap_err(), refused(&text), "a new policy counts at once");
    let asked = server.seen.lock().await.len();
    assert_eq!(asked, 2, "what is refused is not asked");
}

/// Says something harmless first and this machine from then on.
#[derive(Debug, Default)]
struct Fickle {
    asked: AtomicUsize,
}

impl Lookup for Fickle {
    fn lookup(&self, _name: String) -> Answer {
        let first = self.asked.fetch_add(1, Ordering::SeqCst) == 0;
        let address = if first { [192, 0, 2, 1] } else { [127, 0, 0, 1] };
        Box::pin(std::future::ready(Ok(vec![(address, 0).into()])))
    }
}

#[tokio::test]
async fn an_answer_that_changes_is_judged_each_time_and_dialled_as_judged() {
    let fickle = Arc::new(Fickle::default());
    let mut config = FetchConfig::default();
    config.policy = only(&["name.test"]);
    config.lookup = fickle.clone();
    let server = Server::with_config(config).await;
    let url = server.base.replace("127.0.0.1", "name.test");
    let over = json!({"url": format!("{url}/ok"), "timeoutMs": 300});
    // Nobody is at that address; were the name resolved anew for dialling, the server would answer.
    assert!(matches!(server.with("", over.clone()).await, Err(FetchError::Failed(_))));
    assert_eq!(fickle.asked.load(Ordering::SeqCst), 1);
    let refused = server.with("", over).await.unwrap_err().to_string();
    assert!(refused.starts_with("policy: egress: name.test resolves to 127.0.0.1"), "{refused}");
    assert!(server.seen.lock().await.is_empty());
}
