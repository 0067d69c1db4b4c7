//! The barest client of the exec protocol, for any peer: its requests are made before they are needed, and its answers are
//! looked at without being parsed.
//!
//! In flow methods and params, out flow answers as bytes.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use exedra_proto::binary;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::bench::ends::End;

/// What comes before the base64 of a block, and how far into an answer it is looked for, in bytes.
const CHUNK: (&[u8], usize) = (br#""chunk":""#, 256);
/// What a notification of output begins with, and how far into it that is looked for, in bytes.
const OUTPUT: (&[u8], usize) = (br#""process/output""#, 64);
/// Longest time between two messages of a peer.
const SILENCE: Duration = Duration::from_secs(30);
/// What an answer begins with if it is a refusal, and how far into it that is looked for, in bytes.
const ERROR: (&[u8], usize) = (br#""error":"#, 64);

/// A connection with an open session.
pub(super) struct Line {
    end: End,
    last_id: i64,
}

/// A request that is ready to be sent.
pub(super) struct Request(Vec<u8>);

/// An answer to a request.
pub(super) struct Answer<'a>(&'a [u8]);

impl Line {
    /// Connects with the listener at `url`, `ws://IP:PORT`, and opens a session.
    pub(super) async fn connect(url: &str) -> Result<Self> {
        Self::open(url, &json!({ "clientName": "bench", "resumeSessionId": null })).await
    }

    /// Connects, and agrees on binary messages.
    pub(super) async fn connect_binary(url: &str) -> Result<Self> {
        let offer = json!({ "exedra/1": { "binary": true } });
        Self::open(url, &json!({ "clientName": "bench", "resumeSessionId": null, "extensions": offer })).await
    }

    async fn open(url: &str, params: &Value) -> Result<Self> {
        let address = url.strip_prefix("ws://").context("a URL of plain ws")?.trim_end_matches('/');
        let mut line = Self { end: End::dial(address, "/").await?, last_id: 0 };
        let hello = line.request("initialize", params);
        line.call(&hello).await?;
        let confirm = line.end.text(r#"{"method":"initialized","params":{}}"#);
        line.end.send(&confirm).await?;
        Ok(line)
    }

    /// A request to be sent later, in the order in which they are made.
    pub(super) fn request(&mut self, method: &str, params: &Value) -> Request {
        self.last_id += 1;
        Request(self.end.text(&json!({ "id": self.last_id, "method": method, "params": params }).to_string()))
    }

    /// Sends a request and receives its answer: the next message, since nothing else is under way.
    pub(super) async fn call(&mut self, request: &Request) -> Result<Answer<'_>> {
        self.send(request).await?;
        let answer = self.message().await?;
        let head = answer.get(..answer.len().min(ERROR.1)).unwrap_or_default();
        if position(head, ERROR.0).is_some() {
            bail!("{}", String::from_utf8_lossy(answer));
        }
        Ok(Answer(answer))
    }
}

impl Line {
    /// Sends a request and does not wait.
    pub(super) async fn send(&mut self, request: &Request) -> Result<()> {
        self.end.send(&request.0).await
    }

    /// The next message, whatever it is.
    pub(super) async fn message(&mut self) -> Result<&[u8]> {
        timeout(SILENCE, self.end.message()).await.context("the peer says nothing more")?
    }
}

impl<'a> Answer<'a> {
    /// The base64 in it. The end is sought from behind, where little follows.
    pub(super) fn chunk(&self) -> Option<&'a [u8]> {
        let start = position(self.0.get(..self.0.len().min(CHUNK.1))?, CHUNK.0)? + CHUNK.0.len();
        let rest = self.0.get(start..)?;
        let tail = rest.len().saturating_sub(CHUNK.1);
        rest.get(..tail + rest.get(tail..)?.iter().position(|byte| *byte == b'"')?)
    }
}

/// How many bytes a `process/output` carries, as base64 or raw; none if the message is something else.
pub(super) fn output(message: &[u8]) -> Option<u64> {
    let head = message.get(..message.len().min(OUTPUT.1))?;
    position(head, OUTPUT.0)?;
    if let [binary::MARK, a, b, c, d, rest @ ..] = message {
        return rest.len().checked_sub(u32::from_be_bytes([*a, *b, *c, *d]) as usize).map(|len| len as u64);
    }
    let chunk = Answer(message).chunk()?;
    let padding = chunk.iter().rev().take_while(|byte| **byte == b'=').count();
    u64::try_from((chunk.len() / 4 * 3).checked_sub(padding)?).ok()
}

fn position(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

#[cfg(test)]
mod tests {
    use exedra_proto::base64::Base64Text;
    use exedra_proto::ids::ProcessId;
    use exedra_proto::process::{OutputStream, binary_output};

    use super::*;

    #[test]
    fn a_chunk_is_counted_without_decoding() {
        for bytes in [&b""[..], b"a", b"ab", b"abc", b"abcd", &[7; 1000]] {
            let length = Some(bytes.len() as u64);
            let params = json!({ "processId": "p", "seq": 1, "chunk": Base64Text::encode(bytes), "stream": "stdout" });
            let message = json!({ "method": "process/output", "params": params }).to_string();
            assert_eq!(output(message.as_bytes()), length);
            assert_eq!(output(&binary_output(&ProcessId::new("p"), 1, OutputStream::Stdout, bytes)), length);
        }
        assert_eq!(output(br#"{"method":"process/closed","params":{"processId":"p","seq":2}}"#), None);
    }
}
