//! What an accepted connection becomes before it speaks HTTP: nothing waits to be sent, and TLS is around it if there is
//! a certificate.
//!
//! In flow a TCP stream and the certificate in force, out flows the stream that HTTP is spoken on; none, if the client
//! was not able or too slow. ALPN offers `http/1.1` alone.

use std::io;
use std::time::Duration;

use exedra_executor::listen::tls::Tls;
use exedra_rendezvous::Io;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

/// Opens the connection, within `limit`.
pub async fn open(stream: TcpStream, tls: Option<&Tls>, limit: Duration) -> Option<Io> {
    match timeout(limit, handshake(stream, tls)).await {
        Ok(Ok(io)) => Some(io),
        // Whoever scans ports is worth no more.
        Ok(Err(error)) => {
            tracing::debug!(%error, "a connection that was not opened");
            None
        }
        Err(_) => {
            tracing::debug!("a client that was too slow with its TLS handshake");
            None
        }
    }
}

async fn handshake(stream: TcpStream, tls: Option<&Tls>) -> io::Result<Io> {
    stream.set_nodelay(true)?;
    let Some(tls) = tls else { return Ok(Io::Tcp(stream)) };
    let (local, peer) = (stream.local_addr()?, stream.peer_addr()?);
    let stream = TlsAcceptor::from(tls.config()).accept(stream).await?;
    Ok(Io::Secured { stream: Box::new(stream), local, peer })
}
