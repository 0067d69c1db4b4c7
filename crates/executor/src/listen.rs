//! The listener: clients that come to us, over TCP, a socket file, or standard input and output.
//!
//! In flow a URL and then byte streams, out flow connections for the [`Executor`]. HTTP is spoken here as far as the
//! upgrade and the health check need it. Sessions and methods are not known here.

pub mod auth;
pub mod http;
pub mod tls;
pub mod unix;
pub mod upgrade;
pub mod url;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use exedra_link::ws::{TcpView, WsOptions, prepare_tcp};
use exedra_link::{Connection, stdio, ws};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use self::auth::WsAuth;
use self::tls::Tls;
use self::unix::SocketFile;
use self::upgrade::{Answered, Upgraded};
pub use self::url::ListenUrl;
use crate::error::ExecutorError;
use crate::executor::Executor;
use crate::peer::{Client, Peer};
use crate::refusals::Why;
use crate::serve::Served;

/// Clients connected at a time, if nothing else is said. One more is answered 503, and its connection closed.
pub const MAX_CONNECTIONS: usize = 4_096;
/// How many are told at a time that there is no room, which takes a TLS handshake where that is spoken. One more is closed
/// without a word.
const SENT_AWAY: usize = 64;
/// How long one who was told so has to hang up.
const HANG_UP: Duration = Duration::from_secs(1);
/// What it is told.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\nconnection: close\r\n\
    content-type: text/plain\r\ncontent-length: 46\r\n\r\nas many clients are connected as there may be\n";
/// Pause after the system refused to accept, mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Sizes and times of a listener; tests make the times short.
#[derive(Clone, Debug)]
pub struct ListenOptions {
    /// Of every websocket.
    pub ws: WsOptions,
    /// Limit for the head of an HTTP request, and for all of HTTP before an upgrade.
    pub http_timeout: Duration,
    /// Clients connected at a time.
    pub max_connections: usize,
    /// What a client on TCP has to show, if anything.
    pub auth: Option<WsAuth>,
    /// Certificate and key, for TLS on TCP.
    pub tls: Option<Arc<Tls>>,
    /// Listen where other machines can reach it without both of these.
    pub insecure: bool,
}

impl Default for ListenOptions {
    fn default() -> Self {
        let http_timeout = Duration::from_secs(10);
        let ws = WsOptions::default();
        Self { ws, http_timeout, max_connections: MAX_CONNECTIONS, auth: None, tls: None, insecure: false }
    }
}

impl ListenOptions {
    /// Refuses what would let other machines in unasked, or let others read along, unless that was asked for.
    fn check(&self, url: &ListenUrl) -> Result<(), ExecutorError> {
        if !matches!(url, ListenUrl::Ws(_)) {
            let what = [(self.auth.is_some(), "--ws-auth"), (self.tls.is_some(), "TLS")];
            let asked = what.iter().find(|(asked, _)| *asked);
            return asked.map_or(Ok(()), |(_, what)| Err(ExecutorError::NotOnTcp(url.to_string(), what)));
        }
        let lack = match (&self.auth, &self.tls) {
            (None, _) => "anybody there could run commands here",
            (_, None) => "without TLS others could read along and take the token",
            _ => return Ok(()),
        };
        if url.is_local() || self.insecure { Ok(()) } else { Err(ExecutorError::Exposed(url.to_string(), lack)) }
    }
}

/// Why a listener stopped.
#[derive(Clone, Debug)]
pub enum ListenEnd {
    /// It was told to.
    Cancelled,
    /// On standard input and output: the one connection is over.
    StdioEnded(Served),
}

/// A bound address.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    url: ListenUrl,
    options: Arc<ListenOptions>,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(SocketFile),
    Stdio,
}

enum Stream {
    Tcp(TcpStream, Peer),
    Unix(UnixStream),
}

impl Listener {
    /// Binds `url`; clients may connect from now on.
    ///
    /// # Errors
    /// The address is in use or cannot be had.
    pub async fn bind(url: &ListenUrl, options: ListenOptions) -> Result<Self, ExecutorError> {
        options.check(url)?;
        let (socket, url) = match url {
            ListenUrl::Ws(address) => {
                let refused = |source| bind_error(url, source);
                let listener = TcpListener::bind(address).await.map_err(refused)?;
                let bound = listener.local_addr().map_err(refused)?;
                (Socket::Tcp(listener), ListenUrl::Ws(bound))
            }
            ListenUrl::Unix(path) => (Socket::Unix(SocketFile::bind(path).await?), url.clone()),
            ListenUrl::Stdio => (Socket::Stdio, ListenUrl::Stdio),
        };
        tracing::info!(%url, "listening");
        Ok(Self { socket, url, options: Arc::new(options) })
    }

    /// Where it listens, with the port that the system chose.
    pub fn url(&self) -> &ListenUrl {
        &self.url
    }

    /// Where it listens as a client has to write it: `wss://` with TLS.
    pub fn address(&self) -> String {
        match (&self.url, &self.options.tls) {
            (ListenUrl::Ws(address), Some(_)) => format!("wss://{address}"),
            (url, _) => url.to_string(),
        }
    }

    /// Accepts clients and serves them until `cancel`; then closes all connections and, at the same time, shuts `executor`
    /// down: no client's goodbye delays the word to the processes.
    pub async fn run(self, executor: Arc<Executor>, cancel: CancellationToken) -> ListenEnd {
        if matches!(self.socket, Socket::Stdio) {
            let connection = stdio::connect(tokio::io::stdin(), tokio::io::stdout());
            let served = executor.shut_down_beside(&cancel, executor.serve(connection, Peer::Stdio, &cancel)).await;
            return ListenEnd::StdioEnded(served);
        }
        let (mut clients, mut sent_away) = (JoinSet::new(), JoinSet::new());
        loop {
            tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                Some(_) = clients.join_next() => {}
                Some(_) = sent_away.join_next() => {}
                accepted = self.accept() => match accepted {
                    Ok(stream) if clients.len() >= self.options.max_connections => {
                        executor.refusals().tell(stream.peer(), Why::NoRoom);
                        if sent_away.len() < SENT_AWAY {
                            sent_away.spawn(send_away(stream, Arc::clone(&self.options), cancel.clone()));
                        }
                    }
                    Ok(stream) => {
                        clients.spawn(serve(stream, Arc::clone(&executor), Arc::clone(&self.options), cancel.clone()));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        drop(self);
        tokio::join!(executor.shutdown(), async { while clients.join_next().await.is_some() {} });
        ListenEnd::Cancelled
    }

    async fn accept(&self) -> io::Result<Stream> {
        match &self.socket {
            Socket::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                prepare_tcp(&stream)?;
                Ok(Stream::Tcp(stream, Peer::Tcp(address)))
            }
            Socket::Unix(file) => file.accept().await.map(Stream::Unix),
            Socket::Stdio => std::future::pending().await,
        }
    }
}

impl Stream {
    fn peer(&self) -> Peer {
        match self {
            Self::Tcp(_, peer) => *peer,
            Self::Unix(_) => Peer::Unix,
        }
    }
}

/// Says that there is no room.
async fn send_away(stream: Stream, options: Arc<ListenOptions>, cancel: CancellationToken) {
    match stream {
        Stream::Unix(stream) => say_full(stream).await,
        Stream::Tcp(stream, peer) => match &options.tls {
            None => say_full(stream).await,
            Some(tls) => {
                if let Ok(stream) = secure(stream, tls, peer, &options, &cancel).await {
                    say_full(stream).await;
                }
            }
        },
    }
}

/// Answers whatever is asked, and lets the peer read it: one that is closed while it sends would not.
async fn say_full(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let told = async {
        stream.write_all(FULL).await?;
        stream.shutdown().await?;
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
    };
    let _ = tokio::time::timeout(HANG_UP, told).await;
}

/// What went wrong at `url`.
fn bind_error(url: &ListenUrl, source: io::Error) -> ExecutorError {
    match source.kind() {
        io::ErrorKind::AddrInUse => ExecutorError::AddressInUse(url.to_string()),
        _ => ExecutorError::Bind { url: url.to_string(), source },
    }
}

async fn serve(stream: Stream, executor: Arc<Executor>, options: Arc<ListenOptions>, cancel: CancellationToken) {
    // What HTTP and TLS take goes when they are done: a connection waits for long, and needs far less.
    let peer = stream.peer();
    match Box::pin(greet(stream, options, cancel.clone())).await {
        Greeted::Client(connection, client) => _ = executor.serve_client(*connection, peer, client, &cancel).await,
        Greeted::Refused(why) => executor.refusals().tell(peer, why),
        Greeted::Served => {}
    }
}

/// What came of a stream before it is a connection.
enum Greeted {
    /// A connection, and who is at its other end.
    Client(Box<Connection>, Client),
    /// Somebody who is not let in.
    Refused(Why),
    /// Nothing to tell of: a question of health was answered, or the stream ended.
    Served,
}

/// All that comes before the connection.
async fn greet(stream: Stream, options: Arc<ListenOptions>, cancel: CancellationToken) -> Greeted {
    match stream {
        Stream::Tcp(stream, peer) => {
            let view = TcpView::of(&stream);
            match &options.tls {
                None => open(stream, view, peer, &options, &cancel).await,
                Some(tls) => match secure(stream, tls, peer, &options, &cancel).await {
                    Ok(stream) => open(stream, view, peer, &options, &cancel).await,
                    Err(refused) => refused,
                },
            }
        }
        Stream::Unix(stream) => open(stream, None, Peer::Unix, &options, &cancel).await,
    }
}

/// The TLS handshake; what came of the stream if it fails, takes too long, or is cancelled.
async fn secure(
    stream: TcpStream,
    tls: &Tls,
    peer: Peer,
    options: &ListenOptions,
    cancel: &CancellationToken,
) -> Result<TlsStream<TcpStream>, Greeted> {
    let handshake = TlsAcceptor::from(tls.config()).accept(stream);
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(Greeted::Served),
        done = tokio::time::timeout(options.http_timeout, handshake) => match done {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => {
                tracing::debug!(%peer, %error, "no TLS");
                Err(Greeted::Refused(Why::NoTls))
            }
            Err(_) => Err(Greeted::Refused(Why::NoTlsInTime)),
        },
    }
}

/// Speaks HTTP until the upgrade.
async fn open<S>(
    stream: S,
    view: Option<TcpView>,
    peer: Peer,
    options: &ListenOptions,
    cancel: &CancellationToken,
) -> Greeted
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let answered = tokio::select! {
        biased;
        () = cancel.cancelled() => return Greeted::Served,
        answered = upgrade::answer(stream, options.http_timeout, options.auth.as_ref()) => answered,
    };
    match answered {
        Ok(Answered::Upgraded(Upgraded { stream, early, client })) => {
            let connection = match early.is_empty() {
                true => ws::accept(stream, view, options.ws),
                false => ws::accept(upgrade::rewind(stream, early), view, options.ws),
            };
            Greeted::Client(Box::new(connection), client)
        }
        Ok(Answered::Denied(words)) => Greeted::Refused(Why::Denied(words)),
        Ok(Answered::Status(status)) if status.is_client_error() => Greeted::Refused(Why::Http(status.as_u16())),
        Ok(Answered::Status(_) | Answered::Nothing) => Greeted::Served,
        Err(error) => {
            tracing::debug!(%peer, error = &*error as &dyn std::error::Error, "no websocket");
            Greeted::Refused(Why::NoHttp)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn accepted_sockets_do_not_wait_for_more_to_send() {
        let any = ListenUrl::parse(ListenUrl::DEFAULT).unwrap();
        let listener = Listener::bind(&any, ListenOptions::default()).await.unwrap();
        let ListenUrl::Ws(address) = *listener.url() else { panic!("a TCP listener") };
        assert_ne!(address.port(), 0);
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let Stream::Tcp(stream, peer) = accepted.unwrap() else { panic!("a TCP stream") };
        assert!(stream.nodelay().unwrap());
        assert_eq!(peer, Peer::Tcp(client.unwrap().local_addr().unwrap()));
    }
}
