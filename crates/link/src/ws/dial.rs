//! Opens a websocket as the client: `ws://`, `wss://`, or `unix:///path` (a websocket on a socket file).
//!
//! In flows a URL, which may be a ticket and is therefore a secret; out flows a connection, or an error that names
//! scheme, host and port and nothing else of the URL. The request offers no extension and no sub-protocol, and a
//! credential only where it was given one.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use exedra_proto::introduction;
use exedra_proto::secret::Secret;
use exedra_proto::ticket::REJECTION_HEADER;
use http::HeaderValue;
use http::header::AUTHORIZATION;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::client_async_with_config;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use url::{Host, Url};

use super::driver::start;
use super::limits::WsOptions;
use super::opening::Opening;
use super::socket::{TcpView, prepare_tcp};
use super::tls::client_tls;
use crate::connection::Connection;
use crate::error::{LinkError, Refusal};
use crate::retry_after;

/// When a name has several addresses, the next is tried beside the ones before after this time.
const NEXT_ADDRESS: Duration = Duration::from_millis(250);
/// What the library's own buffer takes while it waits for the answer, in bytes: it is not used.
const READ_BUFFER: usize = 1024;
/// Longest rejection reason that is passed on, in characters.
const MAX_REASON: usize = 64;

/// How to dial.
#[derive(Clone, Debug)]
pub struct DialOptions {
    /// Limit for everything up to the answered upgrade: name, TCP, TLS, HTTP.
    pub timeout: Duration,
    /// TLS settings for `wss://`; none: the platform's certificates.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// What to show in `Authorization: Bearer …`; a rendezvous gets none, its URL is enough.
    pub bearer: Option<Secret>,
    /// Sizes and times of the connection.
    pub ws: WsOptions,
}

impl Default for DialOptions {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(10), tls: None, bearer: None, ws: WsOptions::default() }
    }
}

/// Opens a websocket to `url`. Errors name scheme, host and port, never path or query.
///
/// # Errors
/// See [`LinkError`].
pub async fn dial(url: &Secret, options: &DialOptions) -> Result<Connection, LinkError> {
    open(url, false, options).await.map(|(connection, _)| connection)
}

/// The same as an executor that asks to be told who its clients are; and whether it will be.
///
/// # Errors
/// See [`LinkError`].
pub async fn dial_asking(url: &Secret, options: &DialOptions) -> Result<(Connection, bool), LinkError> {
    open(url, true, options).await
}

async fn open(url: &Secret, asks: bool, options: &DialOptions) -> Result<(Connection, bool), LinkError> {
    let target = Target::parse(url, asks)?;
    match tokio::time::timeout(options.timeout, target.open(options)).await {
        Ok(opened) => opened,
        Err(_) => Err(LinkError::TimedOut { peer: target.peer, after: options.timeout }),
    }
}

/// Where a URL leads.
struct Target {
    /// For errors.
    peer: String,
    /// For the HTTP request.
    request: Secret,
    place: Place,
    /// Whether to ask for introductions.
    asks: bool,
}

enum Place {
    Tcp { host: Host, port: u16, tls: bool },
    Unix(PathBuf),
}

impl Target {
    fn parse(url: &Secret, asks: bool) -> Result<Self, LinkError> {
        if let Some(path) = url.expose().strip_prefix("unix://") {
            if !path.starts_with('/') {
                return Err(LinkError::Address("a unix:// address needs an absolute path".to_owned()));
            }
            let (peer, place) = (format!("unix://{path}"), Place::Unix(path.into()));
            return Ok(Self { peer, request: Secret::new("ws://localhost/"), place, asks });
        }
        let mut url =
            Url::parse(url.expose()).map_err(|error| LinkError::Address(format!("the URL is invalid: {error}")))?;
        let scheme = url.scheme().to_owned();
        if scheme != "ws" && scheme != "wss" {
            return Err(LinkError::Address(format!("the scheme must be ws, wss or unix, not {scheme}")));
        }
        url.set_fragment(None);
        match (url.host().map(|host| host.to_owned()), url.port_or_known_default()) {
            (Some(host), Some(port)) => Ok(Self {
                peer: format!("{scheme}://{host}:{port}"),
                request: Secret::new(url.as_str()),
                place: Place::Tcp { host, port, tls: scheme == "wss" },
                asks,
            }),
            _ => Err(LinkError::Address("the URL has no host".to_owned())),
        }
    }

    async fn open(&self, options: &DialOptions) -> Result<(Connection, bool), LinkError> {
        match &self.place {
            Place::Unix(path) => {
                let (read, write) =
                    UnixStream::connect(path).await.map_err(|error| self.unreachable(error))?.into_split();
                self.upgrade(read, write, None, options).await
            }
            Place::Tcp { host, port, tls } => {
                let stream = connect_tcp(host, *port).await.map_err(|error| self.unreachable(error))?;
                let view = TcpView::of(&stream);
                if *tls {
                    let (read, write) = tokio::io::split(self.secure(stream, host, options).await?);
                    self.upgrade(read, write, view, options).await
                } else {
                    let (read, write) = stream.into_split();
                    self.upgrade(read, write, view, options).await
                }
            }
        }
    }

    async fn secure(
        &self,
        stream: TcpStream,
        host: &Host,
        options: &DialOptions,
    ) -> Result<tokio_rustls::client::TlsStream<TcpStream>, LinkError> {
        let failed = |text: String| LinkError::Tls { peer: self.peer.clone(), text };
        let config = match &options.tls {
            Some(config) => Arc::clone(config),
            None => client_tls().map_err(failed)?,
        };
        let name = match host {
            Host::Domain(name) => ServerName::try_from(name.clone()).map_err(|error| failed(error.to_string()))?,
            Host::Ipv4(ip) => ServerName::from(std::net::IpAddr::V4(*ip)),
            Host::Ipv6(ip) => ServerName::from(std::net::IpAddr::V6(*ip)),
        };
        TlsConnector::from(config).connect(name, stream).await.map_err(|error| {
            let from_tls = error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
            if from_tls { failed(error.to_string()) } else { self.unreachable(error) }
        })
    }

    async fn upgrade<R, W>(
        &self,
        read: R,
        write: W,
        view: Option<TcpView>,
        options: &DialOptions,
    ) -> Result<(Connection, bool), LinkError>
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        let request = self.request.expose().into_client_request();
        let mut request = request.map_err(|_| LinkError::Address("the URL cannot be requested".to_owned()))?;
        if let Some(bearer) = &options.bearer {
            let value = HeaderValue::from_str(&format!("Bearer {}", bearer.expose()));
            let mut value = value.map_err(|_| LinkError::Address("the token cannot be sent in a header".to_owned()))?;
            value.set_sensitive(true);
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        if self.asks {
            request.headers_mut().insert(introduction::HEADER, HeaderValue::from_static(introduction::VERSION));
        }
        let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER);
        match client_async_with_config(request, Opening::new(read, write), Some(config)).await {
            Ok((stream, answer)) => {
                let is_granted = |value: &HeaderValue| value == introduction::VERSION;
                let told = self.asks && answer.headers().get(introduction::HEADER).is_some_and(is_granted);
                let Opening { read, write, ahead, .. } = stream.into_inner();
                Ok((start((read, write), ahead, Role::Client, view, options.ws), told))
            }
            Err(error) => Err(self.refused(error)),
        }
    }

    fn refused(&self, error: Error) -> LinkError {
        let peer = self.peer.clone();
        match error {
            Error::Http(answer) => {
                let reason = answer.headers().get(REJECTION_HEADER).map(|value| clean(value.as_bytes()));
                let retry_after = retry_after::of(answer.headers());
                LinkError::Refused { peer, refusal: Refusal { status: answer.status().as_u16(), reason, retry_after } }
            }
            Error::Io(source) => LinkError::Unreachable { peer, source },
            Error::Protocol(ProtocolError::HandshakeIncomplete) => {
                let source = io::Error::new(io::ErrorKind::UnexpectedEof, "it hung up before it answered");
                LinkError::Unreachable { peer, source }
            }
            other => LinkError::NotWebsocket { peer, text: other.to_string() },
        }
    }

    fn unreachable(&self, source: io::Error) -> LinkError {
        LinkError::Unreachable { peer: self.peer.clone(), source }
    }
}

/// Tries the addresses of `host` one after the other, and side by side if they are slow.
async fn connect_tcp(host: &Host, port: u16) -> io::Result<TcpStream> {
    let addresses: Vec<SocketAddr> = match host {
        Host::Domain(name) => tokio::net::lookup_host((name.as_str(), port)).await?.collect(),
        Host::Ipv4(ip) => vec![(*ip, port).into()],
        Host::Ipv6(ip) => vec![(*ip, port).into()],
    };
    let mut untried = addresses.into_iter();
    let mut attempts = JoinSet::new();
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        match untried.next() {
            Some(address) => {
                attempts.spawn(TcpStream::connect(address));
            }
            None if attempts.is_empty() => return Err(failure),
            None => {}
        }
        tokio::select! {
            Some(attempt) = attempts.join_next() => match attempt {
                Ok(Ok(stream)) => {
                    prepare_tcp(&stream)?;
                    return Ok(stream);
                }
                Ok(Err(error)) => failure = error,
                Err(error) => failure = io::Error::other(error),
            },
            () = tokio::time::sleep(NEXT_ADDRESS), if untried.len() > 0 => {}
        }
    }
}

/// A reason that came from elsewhere, fit for a log.
fn clean(reason: &[u8]) -> String {
    reason
        .iter()
        .filter(|byte| byte.is_ascii_graphic() || **byte == b' ')
        .take(MAX_REASON)
        .map(|b| char::from(*b))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<(String, String), String> {
        match Target::parse(&Secret::new(url), false) {
            Ok(target) => Ok((target.peer, target.request.expose().to_owned())),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn addresses_are_read_and_errors_show_no_query() {
        let ok = |peer: &str, request: &str| Ok((peer.to_owned(), request.to_owned()));
        assert_eq!(parse("ws://h/p?sig=1#x"), ok("ws://h:80", "ws://h/p?sig=1"));
        assert_eq!(parse("wss://[::1]:7/"), ok("wss://[::1]:7", "wss://[::1]:7/"));
        assert_eq!(parse("unix:///run/x y"), ok("unix:///run/x y", "ws://localhost/"));
        for bad in
            ["http://h/?sig=s3cret", "ws://?sig=s3cret", "unix://run?sig=s3cret", "ws://h:99999?sig=s3cret", "", "h:1"]
        {
            let error = parse(bad).unwrap_err();
            assert!(!error.contains("s3cret"), "{error}");
        }
    }

    #[tokio::test]
    async fn nagles_algorithm_is_off_on_both_sides() {
        use rustix::net::sockopt::tcp_nodelay;

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let dialled = connect_tcp(&Host::Domain("localhost".to_owned()), port).await.unwrap();
        assert!(tcp_nodelay(&dialled).unwrap());
        let (accepted, _) = listener.accept().await.unwrap();
        assert!(!tcp_nodelay(&accepted).unwrap(), "the system's default");
        prepare_tcp(&accepted).unwrap();
        assert!(tcp_nodelay(&accepted).unwrap());
    }

    #[test]
    fn a_reason_is_cleaned_and_cut() {
        assert_eq!(clean(b"exp\x1b[31mired\xff"), "exp[31mired");
        assert_eq!(clean(&[b'a'; 1000]).len(), MAX_REASON);
    }
}
