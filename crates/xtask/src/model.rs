//! A stand-in for a model: an HTTP server that has a stock Codex run one command and takes down what came back.
//!
//! In flow Codex's requests, out flows first the call of a tool, then a closing word. It knows the few events of the
//! Responses API that this takes.

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
    /// What the tool is to run.
    command: String,
    /// What the tool calls gave back.
    outputs: Mutex<Vec<Value>>,
}

impl Model {
    /// A model whose one wish is `command`.
    ///
    /// # Errors
    /// No port.
    pub async fn start(command: &str) -> Result<Self> {
        let shared = Arc::new(Shared { command: command.to_owned(), outputs: Mutex::default() });
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

    /// What the tool calls gave back, each as text.
    pub fn outputs(&self) -> Vec<String> {
        let outputs = self.shared.outputs.lock().unwrap_or_else(PoisonError::into_inner);
        outputs.iter().map(|output| output.as_str().map_or_else(|| output.to_string(), str::to_owned)).collect()
    }
}

async fn respond(State(shared): State<Arc<Shared>>, axum::Json(request): axum::Json<Value>) -> Response {
    let empty = Vec::new();
    let items = request.get("input").and_then(Value::as_array).unwrap_or(&empty);
    let kind = |item: &Value| item.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    let results: Vec<&Value> = items.iter().filter(|item| kind(item).ends_with("call_output")).collect();
    if results.is_empty() {
        return events(&call(&request, &shared.command));
    }
    let given = results.iter().filter_map(|item| item.get("output").cloned()).collect();
    *shared.outputs.lock().unwrap_or_else(PoisonError::into_inner) = given;
    events(&json!({
        "type": "message",
        "role": "assistant",
        "content": [{ "type": "output_text", "text": "done" }],
    }))
}

/// The call of the first tool on offer that runs commands.
fn call(request: &Value, command: &str) -> Value {
    let tools = request.get("tools").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let offered = |name: &str| tools.iter().any(|tool| tool.get("name").and_then(Value::as_str) == Some(name));
    let (name, arguments) = if offered("exec_command") {
        ("exec_command", json!({ "cmd": command, "yield_time_ms": 5000 }))
    } else if offered("shell_command") {
        ("shell_command", json!({ "command": command }))
    } else {
        ("shell", json!({ "command": ["sh", "-c", command] }))
    };
    json!({ "type": "function_call", "name": name, "call_id": "c1", "arguments": arguments.to_string() })
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
