//! The byte stream under the websocket reader: the read half of a socket, and a place for the reader's own replies.
//!
//! Until the handshake is over, writes go straight to the socket. Then the write half is taken out for the writer task,
//! and what the websocket library writes while it reads (answers to pings) waits in [`Replies`] until the writer puts
//! it between two frames. Every byte read is noted as a sign of life.
//!
//! The socket is read in large pieces, into memory that is had for the moment: what of a piece the library does not take
//! at once waits in [`Duplex`], and then that is freed. So a connection that idles owns no buffer here.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Buf, Bytes};
use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

/// Largest piece that is read at a time, in bytes, on the stack.
const PIECE: usize = 32 * 1024;

/// Read half and reply slot of a connection.
#[derive(Debug)]
pub(super) struct Duplex<R, W> {
    read: R,
    /// What was read and not taken yet.
    ahead: Bytes,
    out: Out<W>,
    replies: Arc<Replies>,
}

#[derive(Debug)]
enum Out<W> {
    Socket(W),
    Replies,
}

/// Room for the reader's replies, one at a time: while it is taken, the library keeps the newest answer to a ping and
/// forgets older ones, which RFC 6455 allows. So a peer that floods us with pings fills no memory.
#[derive(Debug)]
pub(super) struct Replies {
    slot: Mutex<Option<Bytes>>,
    filled: Notify,
    emptied: AtomicWaker,
    heard: Mutex<Instant>,
}

impl Replies {
    fn new() -> Self {
        Self {
            slot: Mutex::new(None),
            filled: Notify::new(),
            emptied: AtomicWaker::new(),
            heard: Mutex::new(Instant::now()),
        }
    }

    /// Waits for a reply, in whole frames. Cancelling the wait loses none.
    pub(super) async fn next(&self) -> Bytes {
        loop {
            if let Some(reply) = self.slot.lock().unwrap_or_else(PoisonError::into_inner).take() {
                self.emptied.wake();
                return reply;
            }
            self.filled.notified().await;
        }
    }

    /// When the last byte of the peer arrived.
    pub(super) fn heard(&self) -> Instant {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn poll_put(&self, cx: &mut Context<'_>, frames: &[u8]) -> Poll<io::Result<usize>> {
        self.emptied.register(cx.waker());
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.is_some() {
            return Poll::Pending;
        }
        *slot = Some(Bytes::copy_from_slice(frames));
        self.filled.notify_one();
        Poll::Ready(Ok(frames.len()))
    }
}

impl<R, W> Duplex<R, W> {
    pub(super) fn new(read: R, write: W) -> Self {
        Self { read, ahead: Bytes::new(), out: Out::Socket(write), replies: Arc::new(Replies::new()) }
    }

    /// Takes the write half out; none the second time.
    pub(super) fn take_write(&mut self) -> Option<(W, Arc<Replies>)> {
        match std::mem::replace(&mut self.out, Out::Replies) {
            Out::Socket(write) => Some((write, Arc::clone(&self.replies))),
            Out::Replies => None,
        }
    }

    /// Reads a piece: into `buf`, as far as it fits, and the rest ahead.
    fn poll_piece(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
    {
        let mut memory = [const { MaybeUninit::uninit() }; PIECE];
        let mut piece = ReadBuf::uninit(&mut memory);
        ready!(Pin::new(&mut self.read).poll_read(cx, &mut piece))?;
        let read = piece.filled();
        if !read.is_empty() {
            self.replies.hear();
        }
        let (now, rest) = read.split_at(read.len().min(buf.remaining()));
        buf.put_slice(now);
        if !rest.is_empty() {
            self.ahead = Bytes::copy_from_slice(rest);
        }
        Poll::Ready(Ok(()))
    }

    /// The read half alone, to throw away what a peer still sends.
    pub(super) fn into_read(self) -> R {
        self.read
    }
}

impl<R: AsyncRead + Unpin, W: Unpin> AsyncRead for Duplex<R, W> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ahead.is_empty() {
            return this.poll_piece(cx, buf);
        }
        let len = this.ahead.len().min(buf.remaining());
        buf.put_slice(this.ahead.get(..len).unwrap_or_default());
        this.ahead.advance(len);
        if this.ahead.is_empty() {
            this.ahead = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<R: Unpin, W: AsyncWrite + Unpin> AsyncWrite for Duplex<R, W> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match &mut this.out {
            Out::Socket(write) => Pin::new(write).poll_write(cx, bytes),
            Out::Replies => this.replies.poll_put(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().out {
            Out::Socket(write) => Pin::new(write).poll_flush(cx),
            Out::Replies => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().out {
            Out::Socket(write) => Pin::new(write).poll_shutdown(cx),
            Out::Replies => Poll::Ready(Ok(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn what_was_read_ahead_comes_in_order_and_leaves_no_memory() {
        let (mut peer, socket) = tokio::io::duplex(4 * PIECE);
        let sent: Vec<u8> = (0..3 * PIECE).map(|at| at.to_le_bytes()[0]).collect();
        peer.write_all(&sent).await.unwrap();
        let mut duplex = Duplex::new(socket, tokio::io::sink());
        let mut read = Vec::new();
        let mut small = [0; 999];
        while read.len() < sent.len() {
            let len = duplex.read(&mut small).await.unwrap();
            read.extend_from_slice(&small[..len]);
            assert!(duplex.ahead.len() < PIECE);
        }
        assert!(read == sent);
        assert_eq!(duplex.ahead, Bytes::new());
        drop(peer);
        assert_eq!(duplex.read(&mut small).await.unwrap(), 0, "the end is an end");
    }
}
