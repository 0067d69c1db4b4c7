//! The server's side of a websocket whose HTTP upgrade has been answered by somebody else.
//!
//! In flows the upgraded byte stream, out flows a connection. Extensions that a client offers are the business of
//! whoever answers the upgrade (by not naming any); here none is ever used.

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::tungstenite::protocol::Role;

use super::driver::start;
use super::limits::WsOptions;
use super::socket::TcpView;
use crate::connection::Connection;

/// A connection over `io`, on which the upgrade has been answered; we are the server.
///
/// `tcp` is the kernel's view of the TCP socket beneath, if there is one. Whoever accepted that socket has put it through
/// [`prepare_tcp`](super::prepare_tcp).
pub fn accept<S>(io: S, tcp: Option<TcpView>, options: WsOptions) -> Connection
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    start(tokio::io::split(io), Bytes::new(), Role::Server, tcp, options)
}
