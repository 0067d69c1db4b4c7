//! The reading half of a websocket: puts messages into the queue, pongs to the marks, and says how it ended.
//!
//! It stops reading while the queue is full, so that the peer has to wait. Payloads of pings go to the replies; close
//! frames, limits and broken rules end the reading, and the driver decides what follows.
//!
//! The socket is read in large pieces, into memory that is had for the moment; what of a piece is not taken at once waits in
//! [`Source`], and then that is freed. The rest of a long frame is read to its place. So a connection that idles owns no
//! buffer here.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use exedra_proto::close::CloseReason;
use tokio::io::{AsyncRead, AsyncReadExt as _, ReadBuf};

use super::inlet::{Arrival, Inlet, Violation};
use super::marks::Marks;
use super::replies::Replies;
use super::watch::Pulse;
use crate::error::Disconnect;
use crate::message::Message;
use crate::queue;

/// Largest piece that is read at a time, in bytes, on the stack.
const PIECE: usize = 32 * 1024;

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

/// The read half of a socket, and what it has yielded.
#[derive(Debug)]
pub(super) struct Source<R> {
    read: R,
    /// What was read and not taken yet.
    ahead: Bytes,
    inlet: Inlet,
    replies: Arc<Replies>,
}

impl<R: AsyncRead + Unpin> Source<R> {
    /// Of a socket from which `ahead` was read before.
    pub(super) fn new(read: R, ahead: Bytes, inlet: Inlet, replies: Arc<Replies>) -> Self {
        Self { read, ahead, inlet, replies }
    }

    /// The read half alone, to throw away what a peer still sends.
    fn into_read(self) -> R {
        self.read
    }

    /// What comes next.
    async fn next(&mut self) -> Result<Arrival, Ended> {
        loop {
            let arrival = if !self.ahead.is_empty() {
                self.take_ahead()?
            } else if let Some(mut room) = self.inlet.room() {
                let count = self.read.read_buf(&mut room).await?;
                if count == 0 {
                    return Err(Ended::Gone);
                }
                self.replies.hear();
                self.inlet.filled(count)?
            } else {
                std::future::poll_fn(|cx| self.poll_piece(cx)).await?
            };
            if let Some(arrival) = arrival {
                return Ok(arrival);
            }
        }
    }

    fn take_ahead(&mut self) -> Result<Option<Arrival>, Violation> {
        let mut input = self.ahead.as_ref();
        let arrival = self.inlet.feed(&mut input);
        let left = input.len();
        self.ahead.advance(self.ahead.len() - left);
        if left == 0 {
            self.ahead = Bytes::new();
        }
        arrival
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Arrival>, Ended>> {
        let mut memory = [const { MaybeUninit::uninit() }; PIECE];
        let mut piece = ReadBuf::uninit(&mut memory);
        ready!(Pin::new(&mut self.read).poll_read(cx, &mut piece))?;
        let mut input = piece.filled();
        if input.is_empty() {
            return Poll::Ready(Err(Ended::Gone));
        }
        self.replies.hear();
        let arrival = self.inlet.feed(&mut input)?;
        if !input.is_empty() {
            self.ahead = Bytes::copy_from_slice(input);
        }
        Poll::Ready(Ok(arrival))
    }
}

/// Why nothing comes any more.
#[derive(Debug)]
enum Ended {
    /// The peer broke a rule.
    Rule(Violation),
    /// The socket failed.
    Broken(io::Error),
    /// The peer has gone without a goodbye.
    Gone,
}

impl From<Violation> for Ended {
    fn from(violation: Violation) -> Self {
        Self::Rule(violation)
    }
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

/// Reads until the connection ends; gives the socket back for what is left to do.
pub(super) async fn read<R: AsyncRead + Unpin>(
    mut source: Source<R>,
    incoming: queue::Tx<Message>,
    pulse: Arc<Pulse>,
    marks: Arc<Marks>,
    limit: usize,
) -> (ReadEnd, R) {
    let end = loop {
        pulse.reading.store(true, Ordering::Relaxed);
        let message = match source.next().await {
            Ok(Arrival::Message(message)) => message,
            Ok(Arrival::Ping(payload)) => {
                source.replies.put(payload);
                continue;
            }
            Ok(Arrival::Pong(payload)) => {
                marks.pong(&payload);
                continue;
            }
            Ok(Arrival::Close(goodbye)) => break ended(goodbye),
            Err(why) => break broken(why, limit),
        };
        pulse.reading.store(false, Ordering::Relaxed);
        let bytes = message.len();
        if incoming.send(message, bytes).await.is_err() {
            break ReadEnd::Broken(Disconnect::Dropped);
        }
    };
    (end, source.into_read())
}

/// Throws away what the peer still sends: a socket closed with unread bytes in it is reset, and then the peer may never
/// see our goodbye.
pub(super) async fn drain<R: AsyncRead + Unpin>(mut socket: R) {
    let mut scratch = vec![0; 16 * 1024];
    while socket.read(&mut scratch).await.is_ok_and(|len| len > 0) {}
}

fn ended(goodbye: Option<(u16, String)>) -> ReadEnd {
    let (code, text) = goodbye.map_or((None, String::new()), |(code, text)| (Some(code), printable(&text)));
    let reason = code.and_then(CloseReason::from_code);
    ReadEnd::Goodbye(code, Disconnect::PeerClosed { code, reason, text })
}

fn broken(why: Ended, limit: usize) -> ReadEnd {
    match why {
        Ended::Rule(Violation::TooBig) => ReadEnd::Violation(CloseReason::TooBig, Disconnect::TooBig { limit }),
        Ended::Rule(Violation::Utf8) => ReadEnd::Violation(CloseReason::InvalidUtf8, Disconnect::InvalidUtf8),
        Ended::Rule(Violation::Protocol(text)) => {
            ReadEnd::Violation(CloseReason::ProtocolError, Disconnect::Protocol(text))
        }
        Ended::Broken(error) => ReadEnd::Broken(error.into()),
        Ended::Gone => ReadEnd::Broken(Disconnect::Lost),
    }
}

fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::*;

    #[tokio::test]
    async fn what_was_read_ahead_comes_in_order_and_leaves_no_memory() {
        let (mut peer, socket) = tokio::io::duplex(4 * PIECE);
        let inlet = Inlet::new(Role::Client, 1 << 20);
        let ahead = Bytes::from_static(b"\x82\x01\xff\x82");
        let mut source = Source::new(socket, ahead, inlet, Arc::new(Replies::new()));
        let small: Vec<u8> = (0..=255).collect();
        let long: Vec<u8> = small.iter().copied().cycle().take(3 * PIECE + 1).collect();
        let mut wire = b"\x02\xff\xff".to_vec();
        for byte in &small {
            wire.extend([0x82, 1, *byte]);
        }
        wire.extend([0x82, 127]);
        wire.extend((long.len() as u64).to_be_bytes());
        wire.extend(&long);
        wire.extend([0x82, 1, 7]);
        peer.write_all(&wire).await.unwrap();
        let mut next = async || match source.next().await {
            Ok(Arrival::Message(Message::Binary(bytes))) => bytes,
            other => panic!("{other:?}"),
        };
        assert_eq!((next().await, next().await), (Bytes::from_static(b"\xff"), Bytes::from_static(b"\xff\xff")));
        for byte in small {
            assert_eq!(next().await[..], [byte]);
        }
        assert!(next().await == long);
        assert_eq!(next().await[..], [7]);
        assert_eq!(source.ahead, Bytes::new());
        drop(peer);
        assert!(matches!(source.next().await, Err(Ended::Gone)), "the end is an end");
    }
}
