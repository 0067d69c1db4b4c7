//! Who has a name: an executor that is killed and comes back, one that sleeps and comes back, two that want the same one.
//! Registry and rendezvous are real; the executors are raw sockets, so that each can be as dead as it has to be.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use bytes::Bytes;
use exedra_proto::close::CloseReason;
use exedra_proto::frame::{Body, Frame, StreamId};
use exedra_proto::secret::Secret;
use exedra_registry::token::Role;
use exedra_rendezvous::Times;
use exedra_testkit::plane::{ServerConfig, ServerSide};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Longer than anything here takes, unless it never comes.
const LONG: Duration = Duration::from_secs(30);

struct Site {
    server: ServerSide,
    executor: Secret,
    client: Secret,
    _dir: TempDir,
}

impl Site {
    async fn start() -> Self {
        Self::with(Times::default()).await
    }

    async fn with(times: Times) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listen = "127.0.0.1:0".parse().unwrap();
        let config = ServerConfig { data_dir: dir.path().join("data"), listen, faults: None, times: Some(times) };
        let server = ServerSide::start(config).await.unwrap();
        let (executor, client) =
            (server.token(Role::Executor).await.unwrap(), server.token(Role::Client).await.unwrap());
        Self { server, executor, client, _dir: dir }
    }

    async fn post(&self, path: &str, token: &Secret, body: &Value) -> (u16, Value) {
        let (body, address) = (body.to_string(), self.server.address);
        let mut stream = TcpStream::connect(address).await.unwrap();
        let (len, token) = (body.len(), token.expose());
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\ncontent-length: {len}\r\n\
             connection: close\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body).unwrap())
    }

    /// Registration id and URL of an instance.
    async fn register(&self, instance: &str) -> (String, String) {
        let body = json!({"idempotency_id": instance, "executor_id": "box", "transports": ["relay"]});
        let (status, reply) = self.post("/cloud/executor/box/register", &self.executor, &body).await;
        assert_eq!(status, 200, "{reply}");
        let member = |name: &str| reply[name].as_str().unwrap().to_owned();
        (member("id"), member("url"))
    }

    async fn connect(&self, wait_ms: u64) -> (u16, Value) {
        let body = json!({"transports": ["relay"], "wait_ms": wait_ms});
        self.post("/v1/executors/box/connect", &self.client, &body).await
    }

    /// A client that is led to this registration.
    async fn client_of(&self, registration: &str) -> Socket {
        let (status, reply) = self.connect(20_000).await;
        assert_eq!((status, reply["registration_id"].as_str()), (200, Some(registration)), "{reply}");
        dial(reply["url"].as_str().unwrap()).await.unwrap()
    }
}

async fn dial(url: &str) -> Result<Socket, Error> {
    tokio_tungstenite::connect_async(url).await.map(|(socket, _)| socket)
}

/// The status with which a websocket is refused.
async fn refused(url: &str) -> u16 {
    match dial(url).await {
        Err(Error::Http(response)) => response.status().as_u16(),
        other => panic!("{other:?}"),
    }
}

fn data(stream: &str, text: &'static str) -> Message {
    let stream = StreamId::new(stream).unwrap();
    Message::Binary(
        Frame { stream, body: Body::Data { seq: 0, payload: Bytes::from_static(text.as_bytes()) } }.encode(),
    )
}

/// The payload of the next message, pings aside; none at the end, with the close code that was given.
async fn next(socket: &mut Socket) -> Result<Bytes, Option<u16>> {
    loop {
        match tokio::time::timeout(LONG, socket.next()).await.expect("something comes") {
            Some(Ok(Message::Binary(bytes))) => match Frame::decode(bytes).unwrap().body {
                Body::Data { payload, .. } => return Ok(payload),
                other => panic!("{other:?}"),
            },
            Some(Ok(Message::Close(frame))) => return Err(frame.map(|frame| frame.code.into())),
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return Err(None),
        }
    }
}

async fn assert_served(executor: &mut Socket, client: &mut Socket, stream: &str) {
    client.send(data(stream, "ask")).await.unwrap();
    assert_eq!(next(executor).await.unwrap(), "ask");
    executor.send(data(stream, "answer")).await.unwrap();
    assert_eq!(next(client).await.unwrap(), "answer");
}

#[tokio::test]
async fn an_executor_that_was_killed_comes_back_with_another_instance_at_once() {
    let site = Site::start().await;
    let (first, url) = site.register("i1").await;
    // Half open: nobody reads it or closes it any more, as after a power cut.
    let _dead = dial(&url).await.unwrap();
    drop(site.client_of(&first).await);
    let (second, url) = site.register("i2").await;
    assert_ne!(first, second);
    let mut executor = dial(&url).await.unwrap();
    let mut client = loop {
        let (status, reply) = site.connect(20_000).await;
        assert_eq!(status, 200, "{reply}");
        if reply["registration_id"] == second.as_str() {
            break dial(reply["url"].as_str().unwrap()).await.unwrap();
        }
    };
    assert_served(&mut executor, &mut client, "s").await;
}

#[tokio::test]
async fn of_two_with_one_name_the_newcomer_wins_once_and_the_other_is_parked() {
    let site = Site::start().await;
    let (first, first_url) = site.register("i1").await;
    let mut older = dial(&first_url).await.unwrap();
    let mut client = site.client_of(&first).await;
    assert_served(&mut older, &mut client, "s").await;
    let (second, url) = site.register("i2").await;
    let mut newer = dial(&url).await.unwrap();
    assert_eq!(next(&mut client).await, Err(Some(CloseReason::Replaced.code())), "its client is told");
    // What the older one says late goes nowhere, also into a stream of the same name.
    let mut client = site.client_of(&second).await;
    client.send(data("s", "ask")).await.unwrap();
    assert_eq!(next(&mut newer).await.unwrap(), "ask");
    for _ in 0..3 {
        let _ = older.send(data("s", "forged")).await;
    }
    newer.send(data("s", "answer")).await.unwrap();
    assert_eq!(next(&mut client).await.unwrap(), "answer");
    assert_eq!(next(&mut older).await, Err(Some(CloseReason::Replaced.code())));
    // It may register as often as it likes, and never ends by that; it has no way in while the other is there.
    for _ in 0..3 {
        let (parked, url) = site.register("i1").await;
        assert_eq!(parked, first);
        assert_eq!(refused(&url).await, 401);
    }
    assert_served(&mut newer, &mut client, "t").await;
}

#[tokio::test]
async fn an_executor_that_slept_is_gone_after_the_silence_and_returns_with_its_registration() {
    let ping_interval = Duration::from_millis(40);
    let times = Times { ping_interval, silence_limit: Duration::from_millis(250), ..Times::default() };
    let site = Site::with(times).await;
    let (registration, url) = site.register("i1").await;
    // It does not even answer pings: nothing reads it.
    let mut asleep = dial(&url).await.unwrap();
    let gone = async {
        loop {
            let (status, reply) = site.connect(0).await;
            if status == 409 {
                return reply;
            }
            // Asked before the silence was long enough, or before it had come.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let reply = tokio::time::timeout(LONG, gone).await.unwrap();
    assert_eq!(reply["error"]["code"], "environment_offline");
    let awake = async {
        assert_eq!(next(&mut asleep).await, Err(Some(CloseReason::Silent.code())), "awake, it is told");
        let mut back = dial(&url).await.unwrap();
        // It answers pings as it reads.
        while back.next().await.is_some() {}
    };
    let (status, reply) = tokio::select! {
        answer = site.connect(20_000) => answer,
        () = awake => panic!("it ended"),
    };
    assert_eq!((status, reply["registration_id"].as_str()), (200, Some(&*registration)), "who waited gets it");
    let (again, _) = site.register("i1").await;
    assert_eq!(again, registration);
}
