//! The byte stream under a websocket: a TCP stream, one that TLS guards, or anything else in a box.
//!
//! Bytes in and out, also as what a server gives to its HTTP library, so that nothing is lost on the way through an
//! upgrade. It knows nothing of frames, and no cipher: who accepts does the handshake.

use std::fmt;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::tcp;

/// What any byte stream can do.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A byte stream.
pub enum Io {
    /// Written without a detour, and the kernel can be asked about it.
    Tcp(TcpStream),
    /// TLS over TCP; the kernel is asked by the addresses.
    Secured {
        /// What is inside.
        stream: Box<dyn Stream>,
        /// Our end.
        local: SocketAddr,
        /// The other end.
        peer: SocketAddr,
    },
    /// A socket file, a pipe in memory.
    Other(Box<dyn Stream>),
}

impl fmt::Debug for Io {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp(_) => "Io::Tcp",
            Self::Secured { .. } => "Io::Secured",
            Self::Other(_) => "Io::Other",
        })
    }
}

impl Io {
    /// Takes a TCP stream, and switches off Nagle's algorithm.
    pub fn tcp(stream: TcpStream) -> Self {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY refused");
        }
        Self::Tcp(stream)
    }

    /// Reads once into `room`.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, room: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(room);
        let read = match self {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, &mut buffer),
            Self::Secured { stream, .. } | Self::Other(stream) => Pin::new(stream).poll_read(cx, &mut buffer),
        };
        read.map_ok(|()| buffer.filled().len())
    }

    /// Writes once; never `Ok(0)`.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = match self {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Secured { stream, .. } | Self::Other(stream) => Pin::new(stream).poll_write(cx, bytes),
        };
        written.map(|written| match written {
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            other => other,
        })
    }

    /// Sees that what was written leaves this process.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(_) => Poll::Ready(Ok(())),
            Self::Secured { stream, .. } | Self::Other(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    /// Says that nothing more will be written.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Secured { stream, .. } | Self::Other(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    /// The socket, where it has what its peer sent, byte for byte.
    pub(crate) fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Tcp(stream) => Some(stream.as_fd()),
            Self::Secured { .. } | Self::Other(_) => None,
        }
    }

    /// What the kernel knows of the peer, if it can be asked.
    pub(crate) fn view(&self) -> Option<tcp::View> {
        match self {
            Self::Tcp(stream) => tcp::view(stream.local_addr().ok()?, stream.peer_addr().ok()?),
            Self::Secured { local, peer, .. } => tcp::view(*local, *peer),
            Self::Other(_) => None,
        }
    }
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Secured { stream, .. } | Self::Other(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Secured { stream, .. } | Self::Other(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, pieces),
            Self::Secured { stream, .. } | Self::Other(stream) => Pin::new(stream).poll_write_vectored(cx, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Secured { stream, .. } | Self::Other(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn under_tls_the_kernel_is_asked_as_without() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (dialled, accepted) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        let (stream, peer) = accepted.unwrap();
        let local = stream.local_addr().unwrap();
        let plain = Io::tcp(stream);
        let is_asked = plain.view().is_some();
        let secured = Io::Secured { stream: Box::new(plain), local, peer };
        assert_eq!(secured.view().is_some(), is_asked);
        drop(dialled);
        assert!(Io::Other(Box::new(tokio::io::empty())).view().is_none());
    }
}
