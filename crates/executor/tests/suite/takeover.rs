//! A session that another connection holds: had from one whose client is silent, never from one that lives.

use std::sync::Arc;
use std::time::Duration;

use exedra_executor::listen::{ListenEnd, ListenOptions, ListenUrl, Listener};
use exedra_executor::{Executor, ExecutorConfig};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};
use tokio_util::sync::CancellationToken;

use crate::bench::{config, within};

type Socket = WebSocketStream<TcpStream>;

struct Place {
    url: String,
    #[expect(dead_code, reason = "held for its drop")]
    task: JoinSet<ListenEnd>,
}

async fn listen(takeover: Duration) -> Place {
    let executor = Arc::new(Executor::new(ExecutorConfig { takeover, ..config() }).unwrap());
    let url = ListenUrl::parse("ws://127.0.0.1:0").unwrap();
    let listener = Listener::bind(&url, ListenOptions::default()).await.unwrap();
    let url = listener.url().to_string();
    let mut task = JoinSet::new();
    task.spawn(listener.run(executor, CancellationToken::new()));
    Place { url, task }
}

impl Place {
    async fn connect(&self) -> Socket {
        let stream = TcpStream::connect(self.url.trim_start_matches("ws://")).await.unwrap();
        client_async(format!("{}/", self.url), stream).await.unwrap().0
    }
}

async fn answer(socket: &mut Socket) -> Value {
    loop {
        match within("an answer", socket.next()).await.unwrap().unwrap() {
            Message::Text(text) => return serde_json::from_str(&text).unwrap(),
            Message::Ping(_) | Message::Pong(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn send(socket: &mut Socket, message: Value) {
    socket.send(Message::text(message.to_string())).await.unwrap();
}

/// Opens or resumes a session.
async fn initialize(socket: &mut Socket, resume: Option<&str>) -> Value {
    let params = json!({"clientName": "x", "resumeSessionId": resume});
    send(socket, json!({"id": 1, "method": "initialize", "params": params})).await;
    let answer = answer(socket).await;
    send(socket, json!({"method": "initialized"})).await;
    answer
}

fn session(answer: &Value) -> String {
    answer["result"]["sessionId"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

#[tokio::test]
async fn a_silent_connection_loses_its_session_and_is_told_why() {
    let place = listen(Duration::from_millis(300)).await;
    let mut silent = place.connect().await;
    let id = session(&initialize(&mut silent, None).await);
    // From here on nobody reads that socket, so that no ping is answered; its kernel takes everything.
    let mut second = place.connect().await;
    assert_eq!(session(&initialize(&mut second, Some(&id)).await), id);
    send(&mut second, json!({"id": 2, "method": "process/read", "params": {"processId": "p"}})).await;
    let refused = answer(&mut second).await;
    assert!(refused["error"]["message"].as_str().unwrap().contains("unknown process"), "{refused}");

    let goodbye = within("the goodbye", async {
        loop {
            match silent.next().await {
                Some(Ok(Message::Close(frame))) => return frame.map(|frame| u16::from(frame.code)),
                Some(Ok(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    })
    .await;
    assert_eq!(goodbye, Some(4408));
}

#[tokio::test]
async fn a_living_connection_keeps_its_session() {
    // It would have to be silent for this long.
    let place = listen(Duration::from_secs(20)).await;
    let mut first = place.connect().await;
    let id = session(&initialize(&mut first, None).await);
    let (mut sink, mut stream) = first.split();
    let mut reading = JoinSet::new();
    reading.spawn(async move {
        loop {
            if let Message::Text(text) = stream.next().await.unwrap().unwrap() {
                return text.to_string();
            }
        }
    });
    for _ in 0..3 {
        let mut second = place.connect().await;
        let refused = initialize(&mut second, Some(&id)).await;
        assert_eq!(refused["error"]["code"], -32010, "{refused}");
    }
    let read = json!({"id": 7, "method": "process/read", "params": {"processId": "p"}});
    sink.send(Message::text(read.to_string())).await.unwrap();
    let text = within("an answer on the first", reading.join_next()).await.unwrap().unwrap();
    assert!(text.contains("\"id\":7"), "{text}");
}

#[tokio::test]
async fn a_session_that_was_taken_can_be_taken_back() {
    let place = listen(Duration::from_millis(200)).await;
    let mut first = place.connect().await;
    let id = session(&initialize(&mut first, None).await);
    // Each one stays, silent.
    let mut kept = vec![first];
    for _ in 0..3 {
        let mut next = place.connect().await;
        assert_eq!(session(&initialize(&mut next, Some(&id)).await), id);
        kept.push(next);
    }
}
