//! Replays recorded exchanges (`proto/fixtures/codex-*.jsonl`) against a websocket listener.
//!
//! In flow cases and the address of a server, out flow differences in words. A case whose recorded answer we improve on
//! purpose has its own expectation and a reason in a list beside the recording.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{self, Message};

use crate::pattern::Bindings;

/// How long a recorded answer may take before the case fails.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long to listen for messages that no case expects, once all expected ones are there.
const STRAY: Duration = Duration::from_millis(50);

/// Messages that may wait on either side of a connection: 256; then its driver or the case waits.
const QUEUE: usize = 256;

type Received = Result<Message, tungstenite::Error>;

/// One recorded exchange.
#[derive(Clone, Debug, Deserialize)]
pub struct Case {
    /// Its name.
    pub case: String,
    /// What the client sends.
    pub send: Vec<Value>,
    /// What it must get.
    pub expect: Vec<Value>,
}

/// A recorded case whose answer we improve.
#[derive(Clone, Debug, Deserialize)]
pub struct Intended {
    /// The case.
    pub case: String,
    /// Why.
    pub reason: String,
    /// What the client gets from us.
    pub expect: Vec<Value>,
}

/// Reads the lines of a `.jsonl` file.
///
/// # Errors
/// The first line that is none.
pub fn parse_lines<T: for<'de> Deserialize<'de>>(text: &str) -> Result<Vec<T>, serde_json::Error> {
    text.lines().filter(|line| !line.trim().is_empty()).map(serde_json::from_str).collect()
}

/// Replaces the expectations of the cases that we improve on purpose.
///
/// # Errors
/// A name that no case has: the list must not outlive what it explains.
pub fn amend(cases: &mut [Case], intended: Vec<Intended>) -> Result<(), String> {
    for item in intended {
        let case = cases.iter_mut().find(|case| case.case == item.case);
        case.ok_or_else(|| format!("no case is named {:?}", item.case))?.expect = item.expect;
    }
    Ok(())
}

/// Runs one case against `address` (`127.0.0.1:PORT`). Pauses are multiplied by `pace`.
///
/// # Errors
/// How the answers differ from the expected ones.
pub async fn run(case: &Case, address: &str, mut bindings: Bindings, pace: f64) -> Result<(), String> {
    let mut connections: BTreeMap<String, Peer> = BTreeMap::new();
    let several = case.case.starts_with("session-");
    for item in &case.send {
        let name = item.get("conn").and_then(Value::as_str).unwrap_or("A").to_owned();
        if let Some(ms) = item.get("pause_ms").and_then(Value::as_u64) {
            tokio::time::sleep(Duration::from_millis(ms).mul_f64(pace)).await;
            continue;
        }
        if item.get("close").is_some() {
            connections.remove(&name);
            continue;
        }
        if !connections.contains_key(&name) {
            let mut peer = Peer::connect(address).await?;
            if item == "<handshake>" {
                peer.handshake().await?;
            }
            connections.insert(name.clone(), peer);
        }
        let Some(peer) = connections.get_mut(&name) else { continue };
        bindings.bind("<peer>", peer.local.clone());
        let message = if several { item.get("send").unwrap_or(item) } else { item };
        if message != "<handshake>" {
            peer.send(&bindings.fill(message)).await?;
        }
        let session = peer.responses.last().and_then(|answer| answer.pointer("/result/sessionId")?.as_str());
        if let Some(session) = session.filter(|_| several) {
            bindings.bind(&format!("<uuid:{name}>"), session);
        }
    }
    if several {
        return compare_several(case, &bindings, &connections);
    }
    match connections.remove("A") {
        Some(peer) => compare(case, &bindings, peer).await,
        None => Err("the case sends nothing".to_owned()),
    }
}

async fn compare(case: &Case, bindings: &Bindings, mut peer: Peer) -> Result<(), String> {
    let want_closed = case.expect.iter().any(|item| item.get("closed").is_some());
    let is_event = |item: &&Value| item.get("method").is_some();
    let responses: Vec<_> = case.expect.iter().filter(|e| !is_event(e) && e.get("closed").is_none()).collect();
    let events: Vec<Value> = joined(case.expect.iter().filter(is_event).map(|e| bindings.fill(e)).collect());
    peer.wait_for(|peer| {
        let enough = peer.responses.len() >= responses.len() && joined(peer.events.clone()).len() >= events.len();
        (enough && !want_closed) || peer.closed
    })
    .await;
    peer.listen(STRAY).await;
    if peer.closed != want_closed {
        return Err(format!("closed: expected {want_closed}, got {}; {:?}", peer.closed, peer.responses));
    }
    let got_events = joined(std::mem::take(&mut peer.events));
    compare_lists(bindings, "responses", &responses.into_iter().cloned().collect::<Vec<_>>(), &peer.responses)?;
    compare_lists(bindings, "notifications", &events, &got_events)
}

fn compare_lists(bindings: &Bindings, what: &str, expected: &[Value], got: &[Value]) -> Result<(), String> {
    if expected.len() != got.len() {
        return Err(format!("{what}: expected {}, got {}", json!(expected), json!(got)));
    }
    expected.iter().zip(got).try_for_each(|(e, g)| {
        let order_free = |v: &Value| v.pointer("/result/entries").and_then(Value::as_array).cloned();
        match (order_free(e), order_free(g)) {
            (Some(mut e), Some(mut g)) => {
                e.sort_by_key(Value::to_string);
                g.sort_by_key(Value::to_string);
                bindings.compare(&Value::Array(e), &Value::Array(g))
            }
            _ if e.pointer("/result/headers").is_some() => bindings.compare(e, &only_listed_headers(e, g)),
            _ => bindings.compare(e, g),
        }
    })
}

/// Recorded cases compare only the headers that they show.
fn only_listed_headers(expected: &Value, got: &Value) -> Value {
    let names = |v: &Value| -> Vec<String> {
        let headers = v.pointer("/result/headers").and_then(Value::as_array);
        headers.into_iter().flatten().filter_map(|h| h["name"].as_str().map(str::to_owned)).collect()
    };
    let listed = names(expected);
    let mut got = got.clone();
    if let Some(headers) = got.pointer_mut("/result/headers").and_then(Value::as_array_mut) {
        headers.retain(|h| h["name"].as_str().is_some_and(|name| listed.iter().any(|l| l == name)));
    }
    got
}

/// Sorts notifications by process or request and seq, and joins neighbouring chunks of one stream, since chunking is not
/// part of the protocol; their seqs are left out of the comparison only where chunks were joined.
fn joined(mut events: Vec<Value>) -> Vec<Value> {
    let key = |e: &Value| {
        let params = &e["params"];
        let owner = params["processId"].as_str().or(params["requestId"].as_str()).unwrap_or_default();
        (owner.to_owned(), params["seq"].as_u64())
    };
    events.sort_by_key(key);
    let mut out: Vec<Value> = Vec::new();
    for event in events {
        match out.last_mut() {
            Some(last) if same_stream(last, &event) => {
                let text = [&*last, &event].map(|e| e["params"]["chunk"].as_str().unwrap_or_default().to_owned());
                let bytes: Vec<u8> = text.into_iter().flat_map(decode).collect();
                last["params"]["chunk"] = json!(exedra_proto::base64::Base64Text::encode(&bytes).0);
            }
            _ => out.push(event),
        }
    }
    out
}

fn same_stream(a: &Value, b: &Value) -> bool {
    let output = |e: &Value| e["method"] == "process/output";
    output(a)
        && output(b)
        && a["params"]["processId"] == b["params"]["processId"]
        && a["params"]["stream"] == b["params"]["stream"]
}

fn decode(text: String) -> Vec<u8> {
    exedra_proto::base64::Base64Text(text).decode().unwrap_or_default()
}

fn compare_several(case: &Case, bindings: &Bindings, all: &BTreeMap<String, Peer>) -> Result<(), String> {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for expected in &case.expect {
        let name = expected["conn"].as_str().unwrap_or("A");
        let index = seen.entry(name).or_default();
        // A connection that the case closed has been compared while it was open.
        if let Some(peer) = all.get(name) {
            let got = peer.responses.get(*index).ok_or_else(|| format!("{name}: no answer {index}"))?;
            bindings.compare(&expected["recv"], got)?;
        }
        *index += 1;
    }
    Ok(())
}

/// One connection. A task of its own drives it, so that a ping is answered whichever connection the case waits for.
struct Peer {
    outgoing: mpsc::Sender<Message>,
    incoming: mpsc::Receiver<Received>,
    _driver: JoinSet<()>,
    local: String,
    responses: Vec<Value>,
    events: Vec<Value>,
    closed: bool,
}

impl Peer {
    async fn connect(address: &str) -> Result<Self, String> {
        let stream = TcpStream::connect(address).await.map_err(|e| e.to_string())?;
        stream.set_nodelay(true).map_err(|e| e.to_string())?;
        let local = stream.local_addr().map_err(|e| e.to_string())?.to_string();
        let url = format!("ws://{address}/");
        let (socket, _) = tokio_tungstenite::client_async(url, stream).await.map_err(|e| e.to_string())?;
        let (outgoing, to_send) = mpsc::channel(QUEUE);
        let (received, incoming) = mpsc::channel(QUEUE);
        let mut driver = JoinSet::new();
        driver.spawn(drive(socket, to_send, received));
        let (responses, events) = (Vec::new(), Vec::new());
        Ok(Self { outgoing, incoming, _driver: driver, local, responses, events, closed: false })
    }

    async fn handshake(&mut self) -> Result<(), String> {
        let initialize = json!({"id": 1, "method": "initialize", "params": {"clientName": "probe"}});
        self.send(&initialize).await?;
        self.responses.clear();
        self.send(&json!({"method": "initialized", "params": {}})).await
    }

    async fn send(&mut self, item: &Value) -> Result<(), String> {
        let verbatim = |name: &str| item.get(name).and_then(Value::as_str).map(str::to_owned);
        let message = match (verbatim("text"), verbatim("binary_utf8")) {
            (Some(text), _) => Message::text(text),
            (_, Some(text)) => Message::binary(text.into_bytes()),
            _ => Message::text(item.to_string()),
        };
        let answered = item.get("id").is_some() || item.get("text").is_some() || item.get("binary_utf8").is_some();
        let before = self.responses.len();
        if self.outgoing.send(message).await.is_err() {
            self.closed = true;
            return Ok(());
        }
        if answered {
            self.wait_for(|peer| peer.responses.len() > before || peer.closed).await;
        } else {
            self.listen(STRAY).await;
        }
        Ok(())
    }

    async fn wait_for(&mut self, done: impl Fn(&Self) -> bool) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !done(self) {
            match tokio::time::timeout_at(deadline, self.incoming.recv()).await {
                Ok(message) => self.take(message),
                Err(_) => return,
            }
        }
    }

    async fn listen(&mut self, time: Duration) {
        let deadline = tokio::time::Instant::now() + time;
        while !self.closed {
            match tokio::time::timeout_at(deadline, self.incoming.recv()).await {
                Ok(message) => self.take(message),
                Err(_) => return,
            }
        }
    }

    fn take(&mut self, message: Option<Received>) {
        match message {
            Some(Ok(Message::Text(text))) => match serde_json::from_str::<Value>(&text) {
                Ok(value) if value.get("method").is_some() => self.events.push(value),
                Ok(value) => self.responses.push(value),
                Err(e) => self.responses.push(json!({ "not JSON": e.to_string() })),
            },
            Some(Ok(Message::Binary(_))) => self.responses.push(json!("a binary message")),
            Some(Ok(Message::Close(_)) | Err(_)) | None => self.closed = true,
            Some(Ok(_)) => {}
        }
    }
}

async fn drive(
    mut socket: WebSocketStream<TcpStream>,
    mut to_send: mpsc::Receiver<Message>,
    received: mpsc::Sender<Received>,
) {
    loop {
        tokio::select! {
            message = socket.next() => {
                let Some(message) = message else { return };
                if received.send(message).await.is_err() {
                    return;
                }
            }
            message = to_send.recv() => {
                let Some(message) = message else { return };
                if let Err(error) = socket.send(message).await {
                    let _ = received.send(Err(error)).await;
                    return;
                }
            }
        }
    }
}
