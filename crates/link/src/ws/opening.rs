//! The byte stream while a websocket is opened: it hands out the head of the answer, and keeps what follows.
//!
//! In flows a socket, out flow its halves and whatever the peer sent right behind its answer. So the library that reads
//! the head gets nothing that it would have to keep for us.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Read at most at once, in bytes, on the stack.
const PIECE: usize = 4 * 1024;
/// What a head ends with.
const END: &[u8] = b"\r\n\r\n";

/// A socket on which an answer is awaited.
#[derive(Debug)]
pub(super) struct Opening<R, W> {
    /// The read half.
    pub(super) read: R,
    /// The write half.
    pub(super) write: W,
    /// What was read and not handed out.
    pub(super) ahead: Bytes,
    /// How much of [`END`] was handed out last; all of it once the head is over.
    matched: usize,
}

impl<R, W> Opening<R, W> {
    pub(super) fn new(read: R, write: W) -> Self {
        Self { read, write, ahead: Bytes::new(), matched: 0 }
    }

    /// How much of what is there belongs to the head.
    fn head(&mut self) -> usize {
        for (at, byte) in self.ahead.iter().enumerate() {
            self.matched = match END.get(self.matched) {
                None => return at,
                Some(next) if next == byte => self.matched + 1,
                Some(_) => usize::from(END.first() == Some(byte)),
            };
        }
        self.ahead.len()
    }
}

impl<R: AsyncRead + Unpin, W: Unpin> AsyncRead for Opening<R, W> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ahead.is_empty() {
            let mut memory = [const { MaybeUninit::uninit() }; PIECE];
            let mut piece = ReadBuf::uninit(&mut memory);
            let mut piece = piece.take(buf.remaining());
            ready!(Pin::new(&mut this.read).poll_read(cx, &mut piece))?;
            this.ahead = Bytes::copy_from_slice(piece.filled());
        }
        // Once the head is over, whoever still reads gets all there is.
        let len = if this.matched == END.len() { this.ahead.len() } else { this.head() }.min(buf.remaining());
        buf.put_slice(this.ahead.get(..len).unwrap_or_default());
        this.ahead.advance(len);
        Poll::Ready(Ok(()))
    }
}

impl<R: Unpin, W: AsyncWrite + Unpin> AsyncWrite for Opening<R, W> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().write).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().write).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().write).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn the_head_is_handed_out_and_what_follows_is_kept() {
        let head = "HTTP/1.1 101 x\r\nA: b\r\r\n\r\n";
        for room in [1, 3, 100] {
            let sent = format!("{head}\x01frames\r\n\r\nmore");
            let mut opening = Opening::new(sent.as_bytes(), tokio::io::sink());
            let mut read = Vec::new();
            while read.len() < head.len() {
                let mut some = vec![0; room];
                let len = opening.read(&mut some).await.unwrap();
                assert!(len > 0);
                read.extend_from_slice(&some[..len]);
            }
            assert_eq!(read, head.as_bytes());
            let mut rest = opening.ahead.to_vec();
            rest.extend_from_slice(opening.read);
            assert_eq!(rest, b"\x01frames\r\n\r\nmore", "{room}");
        }
    }
}
