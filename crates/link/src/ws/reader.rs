//! The reading half of a websocket: puts messages into the queue, pongs to the marks, and says how it ended.
//!
//! It stops reading while the queue is full, so that the peer has to wait. The library answers pings into the reply
//! slot; close frames, limits and broken rules end the reading, and the driver decides what follows.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use exedra_proto::close::CloseReason;
use futures_util::StreamExt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message as Incoming};

use super::duplex::Duplex;
use super::marks::Marks;
use super::watch::Pulse;
use crate::error::Disconnect;
use crate::message::Message;
use crate::queue;

/// How reading ended.
#[derive(Debug)]
pub(super) enum ReadEnd {
    /// The peer said goodbye, with this code, if any.
    Goodbye(Option<u16>, Disconnect),
    /// The peer broke a rule: tell it this, and end.
    Violation(CloseReason, Disconnect),
    /// Nothing can be read any more.
    Broken(Disconnect),
}

/// Reads until the connection ends; gives the stream back for what is left to do.
pub(super) async fn read<R, W>(
    mut stream: Box<WebSocketStream<Duplex<R, W>>>,
    incoming: queue::Tx<Message>,
    pulse: Arc<Pulse>,
    marks: Arc<Marks>,
    limit: usize,
) -> (ReadEnd, R)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let end = loop {
        pulse.reading.store(true, Ordering::Relaxed);
        let message = match stream.next().await {
            Some(Ok(Incoming::Text(text))) => Message::Text(text.into()),
            Some(Ok(Incoming::Binary(bytes))) => Message::Binary(bytes),
            Some(Ok(Incoming::Pong(payload))) => {
                marks.pong(&payload);
                continue;
            }
            Some(Ok(Incoming::Ping(_) | Incoming::Frame(_))) => continue,
            Some(Ok(Incoming::Close(frame))) => break goodbye(frame),
            Some(Err(error)) => break broken(error, limit),
            None => break ReadEnd::Broken(Disconnect::Lost),
        };
        pulse.reading.store(false, Ordering::Relaxed);
        let bytes = message.len();
        if incoming.send(message, bytes).await.is_err() {
            break ReadEnd::Broken(Disconnect::Dropped);
        }
    };
    (end, stream.into_inner().into_read())
}

/// Throws away what the peer still sends: a socket closed with unread bytes in it is reset, and then the peer may never
/// see our goodbye.
pub(super) async fn drain<R: AsyncRead + Unpin>(mut socket: R) {
    let mut scratch = vec![0; 16 * 1024];
    while socket.read(&mut scratch).await.is_ok_and(|len| len > 0) {}
}

fn goodbye(frame: Option<CloseFrame>) -> ReadEnd {
    let code = frame.as_ref().map(|frame| u16::from(frame.code));
    let text = frame.map(|frame| printable(&frame.reason)).unwrap_or_default();
    let reason = code.and_then(CloseReason::from_code);
    ReadEnd::Goodbye(code, Disconnect::PeerClosed { code, reason, text })
}

fn broken(error: Error, limit: usize) -> ReadEnd {
    match error {
        Error::Capacity(_) => ReadEnd::Violation(CloseReason::TooBig, Disconnect::TooBig { limit }),
        Error::Utf8(_) => ReadEnd::Violation(CloseReason::InvalidUtf8, Disconnect::InvalidUtf8),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => ReadEnd::Broken(Disconnect::Lost),
        Error::Protocol(error) => {
            ReadEnd::Violation(CloseReason::ProtocolError, Disconnect::Protocol(error.to_string()))
        }
        Error::Io(error) => ReadEnd::Broken(error.into()),
        Error::ConnectionClosed | Error::AlreadyClosed => ReadEnd::Broken(Disconnect::Lost),
        other => ReadEnd::Broken(Disconnect::Protocol(other.to_string())),
    }
}

fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}
