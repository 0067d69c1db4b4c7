//! The daemon where the registry chose relay frames: many clients on one websocket, and a registration that is kept.

use std::collections::BTreeMap;
use std::time::Duration;

use exedra_executor::daemon::{DaemonConfig, TokenSource};
use exedra_link::Connection;
use exedra_proto::binary;
use exedra_proto::close::CloseReason;
use exedra_proto::frame::{Body, Frame, StreamId, reset};
use serde_json::{Value, json};

use crate::bench::{start, until, within};
use crate::daemon::{run, settings};
use crate::script::{Registry, Rendezvous, answer, refused, registered};

/// The far side of an executor's websocket.
pub struct Wire(pub Connection);

impl Wire {
    pub async fn send(&self, stream: &str, body: Body) {
        let frame = Frame { stream: StreamId::new(stream).unwrap(), body };
        within("sending", self.0.sender.send(frame.encode())).await.unwrap();
    }

    pub async fn text(&self, stream: &str, seq: u32, text: &str) {
        self.send(stream, Body::Data { seq, payload: text.to_owned().into() }).await;
    }

    /// A stream that has shaken hands; the answers so far had the numbers below the one that comes next.
    pub async fn handshake(&mut self, stream: &str, resume: Option<&str>) -> String {
        let params = json!({"clientName": "test", "resumeSessionId": resume});
        self.text(stream, 0, &json!({"id": 1, "method": "initialize", "params": params}).to_string()).await;
        let opened = self.json(stream, 0).await;
        self.text(stream, 1, r#"{"method":"initialized"}"#).await;
        opened["result"]["sessionId"].as_str().unwrap_or_else(|| panic!("{opened}")).to_owned()
    }

    async fn frame(&mut self) -> (String, Body) {
        let message = within("a frame", self.0.receiver.recv()).await.unwrap();
        let frame = Frame::decode(message.into_bytes()).unwrap();
        (frame.stream.as_str().to_owned(), frame.body)
    }

    pub async fn json(&mut self, stream: &str, seq: u32) -> Value {
        match self.frame().await {
            (name, Body::Data { seq: number, payload }) if name == stream && number == seq => {
                serde_json::from_slice(&payload).unwrap()
            }
            other => panic!("{other:?} instead of message {seq} on {stream}"),
        }
    }

    pub async fn reset(&mut self, stream: &str, reason: &str) {
        assert_eq!(self.frame().await, (stream.to_owned(), Body::Reset { reason: reason.to_owned() }));
    }
}

async fn wire(rendezvous: &mut Rendezvous) -> Wire {
    Wire(rendezvous.accept_websocket().await)
}

/// A registration by which streams are served, as our registry says it.
pub fn for_streams(url: &str) -> String {
    answer("200 OK", "", &json!({"id": "r", "executor_id": "box", "url": url, "transport": "relay"}).to_string())
}

#[tokio::test]
async fn a_token_that_is_replaced_is_shown_while_the_connection_stays() {
    let mut rendezvous = Rendezvous::start().await;
    let url = rendezvous.url.clone();
    // The second is not answered by the registry, the fourth is refused.
    let registry = Registry::start(move |count| match count {
        1 => refused("503 Service Unavailable"),
        3 => refused("401 Unauthorized"),
        _ => for_streams(&url),
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "first").unwrap();
    let (token, token_look) = (TokenSource::File(file.clone()), Duration::from_millis(10));
    let running = run(DaemonConfig { token, token_look, ..settings(&registry) });
    let mut wire = wire(&mut rendezvous).await;
    wire.handshake("a", None).await;
    assert_eq!(registry.count(), 1, "the same token is shown once");
    // For a moment there is none.
    std::fs::write(&file, "").unwrap();
    std::fs::write(&file, "second").unwrap();
    until("the second token is shown, and again", || registry.count() == 3).await;
    std::fs::write(&file, "third").unwrap();
    until("the third token is shown", || registry.count() == 4).await;
    std::fs::write(&file, "fourth").unwrap();
    until("the fourth token is shown", || registry.count() == 5).await;
    let shown: Vec<_> = {
        let requests = registry.requests.lock().unwrap();
        requests.iter().map(|request| request.header("authorization").unwrap().to_owned()).collect()
    };
    assert_eq!(shown, ["Bearer first", "Bearer second", "Bearer second", "Bearer third", "Bearer fourth"]);
    // It is the same instance, and nothing has happened to its connection.
    let instances: Vec<Value> = {
        let requests = registry.requests.lock().unwrap();
        let body = |request: &crate::script::Request| serde_json::from_str::<Value>(&request.body).unwrap();
        requests.iter().map(|request| body(request)["idempotency_id"].clone()).collect()
    };
    assert!(instances.iter().all(|instance| *instance == instances[0]), "{instances:?}");
    assert_eq!(running.reasons(), [""; 0]);
    wire.text("a", 2, &json!({"id": 2, "method": "environment/info", "params": {}}).to_string()).await;
    assert_eq!(wire.json("a", 1).await["id"], 2);
    running.stop().await;
}

#[tokio::test]
async fn a_registration_says_what_it_can_serve_and_where_it_runs() {
    let mut rendezvous = Rendezvous::start().await;
    let url = rendezvous.url.clone();
    let registry = Registry::start(move |_| registered(&url)).await;
    let labels: BTreeMap<String, String> = [("gpu".to_owned(), "h100".to_owned())].into();
    let running = run(DaemonConfig { labels, ..settings(&registry) });
    let _client = rendezvous.accept().await;
    let body: Value = serde_json::from_str(&registry.requests.lock().unwrap()[0].body).unwrap();
    let members: Vec<&str> = body.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(members, ["executor_id", "idempotency_id", "labels", "metadata", "name", "transports"]);
    assert_eq!(body["transports"], json!(["relay", "direct"]));
    assert_eq!(body["labels"], json!({"gpu": "h100"}));
    let metadata = body["metadata"].as_object().unwrap();
    assert_eq!(metadata.keys().map(String::as_str).collect::<Vec<_>>(), ["arch", "hostname", "os", "version"]);
    assert!(metadata.values().all(|value| value.as_str().is_some_and(|text| !text.is_empty())), "{metadata:?}");
    running.stop().await;
}

#[tokio::test]
async fn dialect_b_and_c_are_served_in_relay_frames() {
    for members in [json!({"executor_id": "box"}), json!({"environment_id": "box", "x": 1})] {
        let mut rendezvous = Rendezvous::start().await;
        let url = rendezvous.url.clone();
        let registry = Registry::start(move |_| {
            let mut reply = members.clone();
            reply["url"] = url.clone().into();
            answer("200 OK", "", &reply.to_string())
        })
        .await;
        let running = run(settings(&registry));
        let mut wire = wire(&mut rendezvous).await;
        wire.send("a", Body::Resume { next_seq: 0 }).await;
        let session = wire.handshake("a", None).await;
        let other = wire.handshake("b", None).await;
        assert_ne!(session, other);
        // What stock drops without a word, and what ends its streams.
        wire.text("a", 2, "{bad").await;
        let odd = wire.json("a", 1).await;
        assert_eq!((&odd["id"], &odd["error"]["code"]), (&json!(-1), &json!(-32600)));
        wire.text("a", 3, r#"{"method":"nope"}"#).await;
        assert_eq!(wire.json("a", 2).await["id"], -1);
        wire.text("a", 4, r#"{"id":2,"method":"process/terminate","params":{"processId":"none"}}"#).await;
        assert_eq!(wire.json("a", 3).await, json!({"id": 2, "result": {"running": false}}));
        // A message is missing: that stream is reset, and its session waits on.
        wire.text("a", 6, "{}").await;
        wire.reset("a", reset::SEQUENCE_GAP).await;
        assert_eq!(wire.handshake("c", Some(&session)).await, session);
        wire.text("b", 2, r#"{"id":2,"method":"process/terminate","params":{"processId":"none"}}"#).await;
        assert_eq!(wire.json("b", 1).await["id"], 2, "the other stream is unharmed");
        // Told to stop, each stream is told, and then the websocket.
        running.cancel.cancel();
        let mut told = vec![wire.frame().await, wire.frame().await];
        told.sort_by(|one, another| one.0.cmp(&another.0));
        let goodbye = |stream: &str| (stream.to_owned(), Body::Reset { reason: CloseReason::GoingAway.text().into() });
        assert_eq!(told, [goodbye("b"), goodbye("c")]);
        let ended = within("the end", wire.0.receiver.recv()).await.unwrap_err();
        assert_eq!(ended.reason(), Some(CloseReason::GoingAway));
        running.stop().await;
    }
}

#[tokio::test]
async fn binary_messages_travel_in_relay_frames() {
    let mut rendezvous = Rendezvous::start().await;
    let url = rendezvous.url.clone();
    let registry = Registry::start(move |_| for_streams(&url)).await;
    let running = run(settings(&registry));
    let mut wire = wire(&mut rendezvous).await;
    let params = json!({"clientName": "test", "extensions": {"exedra/1": {"binary": true}}});
    wire.text("a", 0, &json!({"id": 1, "method": "initialize", "params": params}).to_string()).await;
    assert_eq!(wire.json("a", 0).await["result"]["extensions"]["exedra/1"]["binary"], true);
    wire.text("a", 1, r#"{"method":"initialized"}"#).await;
    let params = start("p", &["cat"]);
    wire.text("a", 2, &json!({"id": 2, "method": "process/start", "params": params}).to_string()).await;
    assert_eq!(wire.json("a", 1).await["id"], 2);
    let all: Vec<u8> = (0..=255).collect();
    let write = json!({"id": 3, "method": "process/write", "params": {"processId": "p", "writeId": "w"}});
    let payload = binary::join(&write.to_string(), &all);
    wire.send("a", Body::Data { seq: 3, payload }).await;
    let mut echoed = Vec::new();
    while echoed.len() < all.len() {
        let (name, Body::Data { payload, .. }) = wire.frame().await else { panic!("no data") };
        assert_eq!(name, "a");
        if binary::is_marked(&payload) {
            let parts = binary::split(payload).unwrap();
            assert!(parts.header().contains("process/output"), "{}", parts.header());
            echoed.extend_from_slice(&parts.payload);
        }
    }
    assert_eq!(echoed, all);
    running.stop().await;
}

#[tokio::test]
async fn a_client_that_resets_its_stream_leaves_a_session_to_resume() {
    let mut rendezvous = Rendezvous::start().await;
    let url = rendezvous.url.clone();
    let registry = Registry::start(move |_| for_streams(&url)).await;
    let running = run(settings(&registry));
    let mut wire = wire(&mut rendezvous).await;
    let session = wire.handshake("a", None).await;
    wire.send("a", Body::Reset { reason: "bye".into() }).await;
    assert_eq!(wire.handshake("b", Some(&session)).await, session);
    wire.text("a", 2, r#"{"id":7,"method":"nope"}"#).await;
    wire.reset("a", reset::UNKNOWN_STREAM).await;
    running.stop().await;
}

#[tokio::test]
async fn a_registration_for_streams_is_kept_until_it_is_refused_or_fenced() {
    let mut rendezvous = Rendezvous::start().await;
    let url = rendezvous.url.clone();
    let registry = Registry::start(move |_| for_streams(&url)).await;
    let running = run(settings(&registry));
    let mut first = wire(&mut rendezvous).await;
    let session = first.handshake("a", None).await;
    drop(first);
    // Lost, and the rendezvous is away for a while: the same registration, and the same session.
    rendezvous.refuse("503 Service Unavailable").await;
    let mut second = wire(&mut rendezvous).await;
    assert_eq!(second.handshake("a", Some(&session)).await, session);
    assert_eq!(registry.count(), 1);
    within("the close", second.0.shutdown(CloseReason::GoingAway)).await;
    // The ticket has expired.
    rendezvous.refuse("401 Unauthorized").await;
    let mut third = wire(&mut rendezvous).await;
    assert_eq!(third.handshake("a", Some(&session)).await, session);
    assert_eq!(registry.count(), 2);
    // Somebody else took the place.
    within("the close", third.0.shutdown(CloseReason::Replaced)).await;
    let mut fourth = wire(&mut rendezvous).await;
    assert_eq!(fourth.handshake("a", Some(&session)).await, session);
    assert_eq!(registry.count(), 3);
    running.stop().await;
}

#[tokio::test]
async fn a_transport_that_we_do_not_speak_is_refused_in_words_and_asked_for_again() {
    let mut rendezvous = Rendezvous::start().await;
    let url = rendezvous.url.clone();
    let registry = Registry::start(move |n| match n {
        0 => {
            let profile = "noise_hybrid_ik_v1";
            let reply = json!({"environment_id": "box", "url": url, "security_profile": profile, "executor_registration_id": "r"});
            answer("200 OK", "", &reply.to_string())
        }
        1 => answer("200 OK", "", &json!({"id": "r", "executor_id": "box", "url": url, "transport": "noise"}).to_string()),
        2 => answer("200 OK", "", &json!({"id": "r", "executor_id": "box", "url": url, "transport": "quic"}).to_string()),
        _ => registered(&url),
    })
    .await;
    let running = run(settings(&registry));
    rendezvous.accept().await.handshake().await;
    until("four registrations", || registry.count() == 4).await;
    let reasons = running.reasons();
    assert!(reasons[0].contains("noise") && reasons[0] == reasons[1], "{reasons:?}");
    assert!(reasons[2].starts_with("executor registry request failed: "), "{reasons:?}");
    assert!(!rendezvous.has_arrival(), "nobody dialled what cannot be spoken");
    running.stop().await;
}
