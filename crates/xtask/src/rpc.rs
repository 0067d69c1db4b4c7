//! A bare client of the exec protocol: one websocket, JSON-RPC by hand, no extension, TCP_NODELAY on.
//!
//! In flow method names and JSON, out flow messages as they come. It is the same for every peer that is measured, and
//! so thin that it is not what is measured.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

/// Longest time between two messages of a peer.
const SILENCE: Duration = Duration::from_secs(30);

/// A connection with an open session.
#[derive(Debug)]
pub struct Rpc {
    socket: WebSocketStream<TcpStream>,
    last_id: i64,
}

impl Rpc {
    /// Connects with the listener at `url`, `ws://IP:PORT`, and opens a session.
    ///
    /// # Errors
    /// There is nobody, or it answers otherwise.
    pub async fn connect(url: &str) -> Result<Self> {
        let address = url.strip_prefix("ws://").context("a URL of plain ws")?.trim_end_matches('/');
        let stream = TcpStream::connect(address).await.with_context(|| format!("cannot reach {url}"))?;
        stream.set_nodelay(true)?;
        let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
        let (socket, _) = tokio_tungstenite::client_async_with_config(url, stream, Some(config)).await?;
        let mut rpc = Self { socket, last_id: 0 };
        rpc.call("initialize", json!({ "clientName": "bench", "resumeSessionId": null })).await?;
        rpc.send(&json!({ "method": "initialized", "params": {} })).await?;
        Ok(rpc)
    }

    /// Calls a method and gives its result; notifications that come before it are dropped.
    ///
    /// # Errors
    /// The peer answers with an error, or not at all.
    pub async fn call(&mut self, method: &str, params: Value) -> Result<Value> {
        let id = self.request(method, params).await?;
        loop {
            let text = self.next().await?;
            let mut message: Value = serde_json::from_str(&text)?;
            if message.get("id").and_then(Value::as_i64) == Some(id) {
                return match message.get_mut("result") {
                    Some(result) => Ok(result.take()),
                    None => bail!("{method}: {text}"),
                };
            }
        }
    }

    /// Sends a request and does not wait; gives its id.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn request(&mut self, method: &str, params: Value) -> Result<i64> {
        self.last_id += 1;
        let id = self.last_id;
        self.send(&json!({ "id": id, "method": method, "params": params })).await?;
        Ok(id)
    }

    async fn send(&mut self, message: &Value) -> Result<()> {
        Ok(self.socket.send(Message::text(message.to_string())).await?)
    }

    /// The next message.
    ///
    /// # Errors
    /// The connection is gone, or silent.
    pub async fn next(&mut self) -> Result<String> {
        loop {
            let message = timeout(SILENCE, self.socket.next()).await.context("the peer says nothing more")?;
            match message.context("the peer has gone")?? {
                Message::Text(text) => return Ok(text.as_str().to_owned()),
                Message::Close(reason) => bail!("the peer closed: {reason:?}"),
                _ => {}
            }
        }
    }
}
