//! A stand-in for a model: an HTTP server that has a stock Codex call tools and takes down what came back.
//!
//! In flow Codex's requests, out flows for each word of the user's the call of a tool, then a closing word. It knows the few
//! events of the Responses API that this takes.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::serve::ListenerExt as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// How long a tool may take to give back what there is, in milliseconds.
const PATIENT: u64 = 5_000;
/// The same for a command that is to be left running.
const HASTY: u64 = 250;
/// What precedes the number of a command that was left running.
const SESSION: &str = "session ID ";

/// What the model wants when the user says a word.
#[derive(Clone, Debug)]
pub enum Wish {
    /// A command, and to wait for its end.
    Run(String),
    /// A command that goes on while the model says something else.
    Leave {
        /// The command.
        command: String,
        /// Whether it has a terminal.
        tty: bool,
    },
    /// These keys for the command that was left running last, and what it says then.
    Keys(&'static str),
}

/// The server; it stops when dropped.
#[derive(Debug)]
pub struct Model {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    _task: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    wishes: Vec<(&'static str, Wish)>,
    /// What the tool calls gave back.
    outputs: Mutex<Vec<String>>,
}

impl Model {
    /// A model that has one wish for each word that the user may say.
    ///
    /// # Errors
    /// No port.
    pub async fn start(wishes: impl IntoIterator<Item = (&'static str, Wish)>) -> Result<Self> {
        let shared = Arc::new(Shared { wishes: wishes.into_iter().collect(), outputs: Mutex::default() });
        let router = Router::new()
            .route("/v1/responses", post(respond))
            .fallback(|| async { axum::Json(json!({ "data": [], "models": [] })) })
            .with_state(Arc::clone(&shared));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let listener = listener.tap_io(|socket| drop(socket.set_nodelay(true)));
        let mut task = JoinSet::new();
        task.spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, shared, _task: task })
    }

    /// The settings by which a stock Codex finds it.
    pub fn config(&self) -> String {
        format!(
            r#"model = "gpt-5.4"
model_provider = "stand-in"
[model_providers.stand-in]
name = "stand-in"
base_url = "http://{}/v1"
wire_api = "responses"
env_key = "STAND_IN_KEY"
"#,
            self.address
        )
    }

    /// What the tool calls gave back, each as text, in order.
    pub fn outputs(&self) -> Vec<String> {
        self.shared.outputs().clone()
    }
}

impl Shared {
    fn outputs(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.outputs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn respond(State(shared): State<Arc<Shared>>, axum::Json(request): axum::Json<Value>) -> Response {
    let last = request.get("input").and_then(Value::as_array).and_then(|items| items.last()).unwrap_or(&Value::Null);
    if last.get("type").and_then(Value::as_str).is_some_and(|kind| kind.ends_with("call_output")) {
        let output = last.get("output").unwrap_or(&Value::Null);
        shared.outputs().push(output.as_str().map_or_else(|| output.to_string(), str::to_owned));
        return events(&said());
    }
    let said_by_user = last.to_string();
    let wish = shared.wishes.iter().find(|(word, _)| said_by_user.contains(word));
    match wish {
        Some((_, wish)) => {
            let outputs = shared.outputs().clone();
            events(&call(&request, wish, &outputs))
        }
        None => events(&said()),
    }
}

/// The closing word.
fn said() -> Value {
    json!({
        "type": "message",
        "role": "assistant",
        "content": [{ "type": "output_text", "text": "done" }],
    })
}

/// The call of the first tool on offer that does what is wished.
fn call(request: &Value, wish: &Wish, outputs: &[String]) -> Value {
    let tools = request.get("tools").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let offered = |name: &str| tools.iter().any(|tool| tool.get("name").and_then(Value::as_str) == Some(name));
    let (name, arguments) = match wish {
        Wish::Run(command) if offered("exec_command") => {
            ("exec_command", json!({ "cmd": command, "yield_time_ms": PATIENT }))
        }
        Wish::Run(command) if offered("shell_command") => ("shell_command", json!({ "command": command })),
        Wish::Run(command) => ("shell", json!({ "command": ["sh", "-c", command] })),
        Wish::Leave { command, tty } => ("exec_command", json!({ "cmd": command, "yield_time_ms": HASTY, "tty": tty })),
        Wish::Keys(keys) => {
            let session = outputs.iter().rev().find_map(|output| left_running(output));
            ("write_stdin", json!({ "session_id": session, "chars": keys, "yield_time_ms": PATIENT }))
        }
    };
    let id = format!("c{}", outputs.len());
    json!({ "type": "function_call", "name": name, "call_id": id, "arguments": arguments.to_string() })
}

/// The number of a command that was left running, in the words of a stock Codex.
fn left_running(output: &str) -> Option<u64> {
    let (_, rest) = output.split_once(SESSION)?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// One item as a whole response.
fn events(item: &Value) -> Response {
    let usage = json!({ "input_tokens": 1, "output_tokens": 1, "total_tokens": 2 });
    let events = [
        json!({ "type": "response.created", "response": { "id": "r1" } }),
        json!({ "type": "response.output_item.done", "item": item }),
        json!({ "type": "response.completed", "response": { "id": "r1", "usage": usage } }),
    ];
    let text: String = events
        .iter()
        .map(|event| format!("event: {}\ndata: {event}\n\n", event.get("type").and_then(Value::as_str).unwrap_or("")))
        .collect();
    ([(CONTENT_TYPE, "text/event-stream")], text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_what_was_left_running() {
        assert_eq!(left_running("Process running with session ID 97218\nOutput:\n"), Some(97218));
        assert_eq!(left_running("Process exited with code 0"), None);
    }
}
