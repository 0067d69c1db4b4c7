//! A stock Codex as a server of threads (`codex app-server`, JSON lines over stdio), which takes what a user would say.
//!
//! In flow words of the user, out flow turns that have ended and the answers to calls. It knows no executor.

use std::collections::VecDeque;
use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::time::timeout;

use crate::child::Spawn;

/// For any one message.
const ANSWER: Duration = Duration::from_secs(60);

/// The process, with one thread; it ends with this.
#[derive(Debug)]
pub(super) struct AppServer {
    _child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    events: VecDeque<Value>,
    last_id: u64,
    thread: String,
}

impl AppServer {
    /// Starts it with a thread that works in `work`; what it logs goes to a file of `logs`.
    pub(super) async fn start(spawn: &Spawn, work: &Path, logs: &Path) -> Result<Self> {
        let mut command = spawn.clone().arg("app-server").command()?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(logs.join("app-server.err"))?);
        let mut child = command.spawn().context("cannot start the stock app-server")?;
        let stdin = child.stdin.take().context("no stdin")?;
        let lines = BufReader::new(child.stdout.take().context("no stdout")?).lines();
        let mut server =
            Self { _child: child, stdin, lines, events: VecDeque::new(), last_id: 0, thread: String::new() };
        let info = json!({ "name": "interop", "title": "interop", "version": "1" });
        let capabilities = json!({ "experimentalApi": true });
        server.call("initialize", json!({ "clientInfo": info, "capabilities": capabilities })).await?;
        server.send(&json!({ "method": "initialized" })).await?;
        let how = json!({ "cwd": work, "approvalPolicy": "never", "sandbox": "danger-full-access" });
        let started = server.call("thread/start", how).await?;
        let thread = started.pointer("/thread/id").and_then(Value::as_str).context("no thread was made")?;
        thread.clone_into(&mut server.thread);
        Ok(server)
    }

    /// Has the user say `word`; gives the id of the turn.
    pub(super) async fn say(&mut self, word: &str) -> Result<String> {
        let input = json!([{ "type": "text", "text": word }]);
        let turn = self.call("turn/start", json!({ "threadId": self.thread, "input": input })).await?;
        Ok(turn.pointer("/turn/id").and_then(Value::as_str).context("no turn was made")?.to_owned())
    }

    /// Waits for the end of a turn; gives its status.
    pub(super) async fn turn_ended(&mut self) -> Result<String> {
        loop {
            let ended = |event: &Value| event.get("method").and_then(Value::as_str) == Some("turn/completed");
            if let Some(event) = self.events.iter().position(ended).and_then(|at| self.events.remove(at)) {
                let status = event.pointer("/params/turn/status").and_then(Value::as_str);
                return Ok(status.context("a turn without a status")?.to_owned());
            }
            let message = self.next().await?;
            self.events.push_back(message);
        }
    }

    /// The user interrupts `turn`.
    pub(super) async fn interrupt(&mut self, turn: &str) -> Result<()> {
        self.call("turn/interrupt", json!({ "threadId": self.thread, "turnId": turn })).await?;
        Ok(())
    }

    /// The user ends all commands that were left running.
    pub(super) async fn end_commands(&mut self) -> Result<()> {
        self.call("thread/backgroundTerminals/clean", json!({ "threadId": self.thread })).await?;
        Ok(())
    }

    async fn call(&mut self, method: &str, params: Value) -> Result<Value> {
        self.last_id += 1;
        let id = self.last_id;
        self.send(&json!({ "id": id, "method": method, "params": params })).await?;
        loop {
            let mut message = self.next().await?;
            let answers = message.get("id").and_then(Value::as_u64) == Some(id) && message.get("method").is_none();
            match message.get_mut("result") {
                Some(result) if answers => return Ok(result.take()),
                _ if answers => bail!("{method}: {message}"),
                _ => self.events.push_back(message),
            }
        }
    }

    async fn send(&mut self, message: &Value) -> Result<()> {
        self.stdin.write_all(format!("{message}\n").as_bytes()).await?;
        Ok(self.stdin.flush().await?)
    }

    async fn next(&mut self) -> Result<Value> {
        let line = timeout(ANSWER, self.lines.next_line()).await.context("the app-server says nothing more")??;
        Ok(serde_json::from_str(&line.context("the app-server has ended")?)?)
    }
}
