//! The server's side of a websocket whose HTTP upgrade has been answered.

use tokio::io::{AsyncRead, AsyncWrite};

use super::limits::WsOptions;
use super::socket::TcpView;
use crate::connection::Connection;

/// A connection over `io`, on which the upgrade has been answered; we are the server.
///
/// `tcp` is the kernel's view of the TCP socket beneath, if there is one.
pub fn accept<S>(io: S, tcp: Option<TcpView>, options: WsOptions) -> Connection
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let _ = (io, tcp, options);
    Connection::spawn(|_ends| std::future::pending())
}
