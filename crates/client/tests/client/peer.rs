//! A scripted executor: says exactly what a test wants said, when it wants it said.

use exedra_client::Executor;
use exedra_client::process::{Command, Event, Process};
use exedra_link::connection::Connection;
use exedra_link::error::Disconnect;
use exedra_link::memory;
use exedra_proto::base64::Base64Text;
use serde_json::{Value, json};

pub struct Peer {
    connection: Connection,
}

/// A call as it arrived.
pub struct Call {
    pub id: Value,
    pub method: String,
    pub params: Value,
}

impl Peer {
    pub fn new(connection: Connection) -> Self {
        Self { connection }
    }

    pub async fn message(&mut self) -> Value {
        let message = self.connection.receiver.recv().await.expect("the client is still there");
        serde_json::from_str(message.as_text().unwrap()).unwrap()
    }

    pub async fn call(&mut self, method: &str) -> Call {
        let message = self.message().await;
        assert_eq!(message["method"], method, "{message}");
        Call { id: message["id"].clone(), method: method.to_owned(), params: message["params"].clone() }
    }

    pub async fn say(&self, message: Value) {
        self.connection.sender.send(message.to_string()).await.expect("the client is still there");
    }

    pub async fn answer(&self, call: &Call, result: Value) {
        self.say(json!({"id": call.id, "result": result})).await;
    }

    pub async fn refuse(&self, call: &Call, code: i64, message: &str) {
        self.say(json!({"id": call.id, "error": {"code": code, "message": message}})).await;
    }

    pub async fn output(&self, process: &Value, seq: u64, stream: &str, bytes: &[u8]) {
        let chunk = Base64Text::encode(bytes);
        let params = json!({"processId": process, "seq": seq, "stream": stream, "chunk": chunk});
        self.say(json!({"method": "process/output", "params": params})).await;
    }

    pub async fn exited(&self, process: &Value, seq: u64, code: i32) {
        let params = json!({"processId": process, "seq": seq, "exitCode": code});
        self.say(json!({"method": "process/exited", "params": params})).await;
    }

    pub async fn closed(&self, process: &Value, seq: u64) {
        self.say(json!({"method": "process/closed", "params": {"processId": process, "seq": seq}})).await;
    }

    /// Answers the start of a process, and returns its id.
    pub async fn started(&mut self) -> Value {
        let call = self.call("process/start").await;
        let id = call.params["processId"].clone();
        self.answer(&call, json!({"processId": id})).await;
        id
    }

    /// Answers the opening of a session, with or without `exedra/1`.
    pub async fn opened(&mut self, exedra: bool) {
        let call = self.call("initialize").await;
        assert_eq!(call.params["extensions"]["exedra/1"]["closeStdin"], true);
        let mut result = json!({"sessionId": "6a0c"});
        if exedra {
            result["extensions"] = json!({"exedra/1": {"closeStdin": true}});
        }
        self.answer(&call, result).await;
        assert_eq!(self.message().await["method"], "initialized");
        if !exedra {
            self.asked_for_paths().await;
        }
    }

    /// As a stock one of before 0.142 answers when it is asked how it reads paths.
    pub async fn asked_for_paths(&mut self) {
        let call = self.call("environment/info").await;
        self.refuse(&call, -32601, "exec-server stub does not implement `environment/info` yet").await;
    }

    /// Waits until the client is gone.
    pub async fn ended(&mut self) -> Disconnect {
        self.connection.receiver.finished().await
    }

    /// Vanishes without a goodbye.
    pub fn vanish(self) {
        drop(self.connection);
    }
}

/// An executor handle and the peer behind it, with `exedra/1` or as stock.
pub async fn open(exedra: bool) -> (Executor, Peer) {
    let (ours, theirs) = memory::pair();
    let mut peer = Peer::new(theirs);
    let (executor, ()) = tokio::join!(Executor::open(ours, "test"), peer.opened(exedra));
    (executor.unwrap(), peer)
}

/// A process that the peer has answered the start of, and its id.
pub async fn start(executor: &Executor, peer: &mut Peer) -> (Process, Value) {
    let command = Command::new(["prog"]);
    let (process, id) = tokio::join!(executor.start(&command), peer.started());
    (process.unwrap(), id)
}

/// All output of a process to its end, as `(stream, text)`, and its exit code.
pub async fn drain(process: &mut Process) -> (Vec<(&'static str, String)>, i32) {
    let mut output = Vec::new();
    while let Some(event) = process.next().await.unwrap() {
        if let Event::Output { stream, bytes } = event {
            output.push((stream.as_str(), String::from_utf8(bytes.to_vec()).unwrap()));
        }
    }
    (output, process.exit_code().unwrap())
}
