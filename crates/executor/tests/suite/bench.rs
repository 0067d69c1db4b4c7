//! An executor to test, and a client that remembers what it saw.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use exedra_executor::{Executor, ExecutorConfig, Peer, Served};
use exedra_link::{Connection, Disconnect, Message, Receiver, Sender, memory};
use exedra_proto::base64::Base64Text;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub async fn within<F: Future>(what: &str, future: F) -> F::Output {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited too long: {what}"))
}

/// Waits until `ready`, looking often.
pub async fn until(what: &str, mut ready: impl FnMut() -> bool) {
    within(what, async {
        while !ready() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

pub fn config() -> ExecutorConfig {
    ExecutorConfig { grace: Duration::from_millis(500), ..ExecutorConfig::default() }
}

/// An executor that serves memory links.
pub struct Bench {
    pub executor: Arc<Executor>,
    pub serving: JoinSet<Served>,
    pub cancel: CancellationToken,
}

impl Bench {
    pub fn new() -> Self {
        Self::with(config())
    }

    pub fn with(config: ExecutorConfig) -> Self {
        let executor = Arc::new(Executor::new(config).unwrap());
        Self { executor, serving: JoinSet::new(), cancel: CancellationToken::new() }
    }

    /// A client that has said nothing yet.
    pub fn connect(&mut self) -> Client {
        let (ours, theirs) = memory::pair();
        let (executor, cancel) = (Arc::clone(&self.executor), self.cancel.clone());
        self.serving.spawn(async move { executor.serve(theirs, Peer::Rendezvous, &cancel).await });
        Client::new(ours)
    }

    /// A client that has shaken hands.
    pub async fn open(&mut self) -> Client {
        let mut client = self.connect();
        client.handshake().await;
        client
    }

    /// How the connection that ended first went.
    pub async fn served(&mut self) -> Served {
        within("the end of a connection", self.serving.join_next()).await.unwrap().unwrap()
    }
}

pub struct Client {
    pub sender: Sender,
    receiver: Receiver,
    last_id: i64,
    /// In order of arrival.
    pub seen: Vec<Value>,
    responses: HashMap<String, Value>,
    events: VecDeque<Value>,
    pub session: String,
}

/// What a process said until it was closed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Output {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub code: Option<i64>,
    pub seqs: Vec<u64>,
}

impl Client {
    pub fn new(connection: Connection) -> Self {
        let Connection { sender, receiver, .. } = connection;
        Self {
            sender,
            receiver,
            last_id: 0,
            seen: Vec::new(),
            responses: HashMap::new(),
            events: VecDeque::new(),
            session: String::new(),
        }
    }

    pub async fn handshake(&mut self) {
        self.handshake_with(json!({"clientName": "test"})).await;
    }

    pub async fn handshake_with(&mut self, params: Value) {
        let opened = self.call("initialize", params).await;
        self.session = opened["result"]["sessionId"].as_str().unwrap_or_else(|| panic!("{opened}")).to_owned();
        self.text(r#"{"method":"initialized","params":{}}"#).await;
    }

    pub async fn resume(&mut self, session: &str) -> Value {
        let answer = self.call("initialize", json!({"clientName": "test", "resumeSessionId": session})).await;
        self.text(r#"{"method":"initialized"}"#).await;
        answer
    }

    pub async fn text(&self, text: &str) {
        within("sending", self.sender.send(Message::text(text))).await.unwrap();
    }

    pub async fn post(&mut self, method: &str, params: Value) -> i64 {
        self.last_id += 1;
        self.text(&json!({"id": self.last_id, "method": method, "params": params}).to_string()).await;
        self.last_id
    }

    pub async fn call(&mut self, method: &str, params: Value) -> Value {
        let id = self.post(method, params).await;
        self.response(id).await
    }

    pub async fn response(&mut self, id: impl Into<Value>) -> Value {
        let id = id.into().to_string();
        loop {
            if let Some(response) = self.responses.remove(&id) {
                return response;
            }
            self.receive().await.unwrap_or_else(|end| panic!("no answer to {id}: {end}"));
        }
    }

    /// The next notification.
    pub async fn event(&mut self) -> Value {
        loop {
            if let Some(event) = self.events.pop_front() {
                return event;
            }
            self.receive().await.unwrap_or_else(|end| panic!("no event: {end}"));
        }
    }

    /// The next message, as it came.
    pub async fn message(&mut self) -> Result<Message, Disconnect> {
        within("a message", self.receiver.recv()).await
    }

    /// Takes in the next message.
    pub async fn receive(&mut self) -> Result<(), Disconnect> {
        let message = self.message().await?;
        let value: Value = serde_json::from_str(message.as_text().unwrap()).unwrap();
        self.seen.push(value.clone());
        if value.get("method").is_some() {
            self.events.push_back(value);
        } else {
            self.responses.insert(value["id"].to_string(), value);
        }
        Ok(())
    }

    pub async fn start(&mut self, process: &str, argv: &[&str]) -> Value {
        self.call("process/start", start(process, argv)).await
    }

    /// Follows `process` to its end; all other processes must be silent.
    pub async fn follow(&mut self, process: &str) -> Output {
        let mut output = Output::default();
        loop {
            let event = self.event().await;
            let params = &event["params"];
            assert_eq!(params["processId"], process, "{event}");
            output.seqs.push(params["seq"].as_u64().unwrap());
            match event["method"].as_str().unwrap() {
                "process/output" => {
                    let bytes = Base64Text(params["chunk"].as_str().unwrap().to_owned()).decode().unwrap();
                    let stream = if params["stream"] == "stderr" { &mut output.stderr } else { &mut output.stdout };
                    stream.extend(bytes);
                }
                "process/exited" => output.code = params["exitCode"].as_i64(),
                _ => return output,
            }
        }
    }

    /// Reads to the end of the connection.
    pub async fn ended(&mut self) -> Disconnect {
        loop {
            if let Err(disconnect) = self.receive().await {
                return disconnect;
            }
        }
    }

    /// Ends the connection without a word.
    pub fn vanish(self) {}
}

pub fn start(process: &str, argv: &[&str]) -> Value {
    json!({
        "processId": process,
        "argv": argv,
        "cwd": "/",
        "env": {"PATH": "/usr/local/bin:/usr/bin:/bin"},
        "tty": false,
        "pipeStdin": true,
    })
}

pub fn write(process: &str, bytes: &[u8]) -> Value {
    json!({"processId": process, "chunk": Base64Text::encode(bytes).0})
}
