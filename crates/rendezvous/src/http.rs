//! The HTTP face: `GET /rendezvous/{registration_id}?…` with a websocket upgrade.
//!
//! In comes a request, out goes 101 and a connection for [`meeting`], or a refusal before any upgrade: the status and
//! header of the [`Rejection`], and the body of a problem. The query is a secret: it is neither logged nor repeated.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::routing::get;
use bytes::Bytes;
use exedra_proto::introduction;
use exedra_proto::plane::{Origin, Refused};
use exedra_proto::problem::{self, ProblemBody};
use exedra_proto::registry::code;
use exedra_proto::ticket::{REJECTION_HEADER, Rejection};
use http::header::{
    ALLOW, CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, ORIGIN, RETRY_AFTER, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{Response, StatusCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto::upgrade::downcast;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::config::Times;
use crate::gate::Gate;
use crate::hub::{Hub, Link, Mailbox, Seat};
use crate::meeting;
use crate::socket::Socket;
use crate::socket::io::Io;
use crate::tasks::Tasks;

/// After how many seconds somebody may come back who met a server that is full or about to end.
const COME_BACK: &str = "3";

/// What all requests share.
pub struct Shared {
    /// Checks tickets.
    pub gate: Gate,
    /// Knows who is there.
    pub hub: Arc<Hub>,
    /// Runs the connections.
    pub tasks: Tasks,
    /// How long things may take.
    pub times: Times,
}

/// The one route.
pub fn router(shared: Arc<Shared>) -> Router {
    Router::new().route("/rendezvous/{registration_id}", get(meet).fallback(wrong_method)).with_state(shared)
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

async fn meet(
    State(shared): State<Arc<Shared>>,
    Path(registration): Path<String>,
    mut request: Request,
) -> Response<Body> {
    if request.headers().contains_key(ORIGIN) {
        return problem(StatusCode::FORBIDDEN, code::FORBIDDEN, "browsers are not served here");
    }
    let (Some(accept), Some(upgrade)) = (accept(request.headers()), request.extensions_mut().remove::<OnUpgrade>())
    else {
        return upgrade_required();
    };
    let origin = request.extensions_mut().remove::<Origin>();
    let asks = request.headers().get(introduction::HEADER).is_some_and(|value| value == introduction::VERSION);
    match admit(&shared, &registration, request.uri().query().unwrap_or_default(), origin, asks, upgrade) {
        Ok(told) => switch(&accept, told),
        Err(rejection) => rejected(rejection, is_pair_executor(request.uri().query().unwrap_or_default())),
    }
}

/// Whether the ticket says that it is that of an executor with one client at a time; nobody is let in by that.
fn is_pair_executor(query: &str) -> bool {
    let says = |wanted: &str| query.split('&').any(|part| part == wanted);
    says("role=executor") && says("shape=pair")
}

/// Checks the ticket, keeps the place, and starts the task that takes the connection over. Whether it is one that is told
/// who its clients are.
fn admit(
    shared: &Shared,
    registration: &str,
    query: &str,
    origin: Option<Origin>,
    asks: bool,
    upgrade: OnUpgrade,
) -> Result<bool, Rejection> {
    let client = origin.as_ref().map(|origin| origin.address);
    // What a stranger sends is worth no more than a debug line, and none of its text.
    let claimed = shared.gate.claim(registration, query, now());
    let (claims, key) = claimed.inspect_err(|rejection| tracing::debug!(?client, %rejection, "ticket refused"))?;
    let (mut seat, mailbox) = shared.hub.admit(&claims, &key, asks, now()).inspect_err(|rejection| {
        tracing::info!(?registration, role = ?claims.role, ?client, %rejection, "refused");
        shared.gate.unclaim(&claims);
    })?;
    seat.origin = origin;
    let told = seat.told;
    let (hub, times) = (Arc::clone(&shared.hub), shared.times);
    // Boxed, so that the task of an open connection holds no room for it.
    let opening = Box::pin(open(seat, mailbox, upgrade, times));
    let taken = shared.tasks.spawn(async move {
        if let Some(link) = opening.await {
            meeting::run(link, &hub, times).await;
        }
    });
    if taken { Ok(told) } else { Err(Rejection::Draining) }
}

/// Waits for the upgrade.
async fn open(seat: Seat, mailbox: Mailbox, upgrade: OnUpgrade, times: Times) -> Option<Box<Link>> {
    match tokio::time::timeout(times.upgrade_deadline, upgrade).await {
        Ok(Ok(upgraded)) => {
            let (io, prefix) = io(upgraded);
            // Mostly empty, and still the whole of the buffer that HTTP was read into, as long as it lives.
            let prefix = Bytes::copy_from_slice(&prefix);
            return Some(Box::new(Link { seat, socket: Socket::new(io, prefix, times), mailbox }));
        }
        Ok(Err(error)) => tracing::info!(connection = %seat.id, %error, "not upgraded"),
        Err(_) => tracing::info!(connection = %seat.id, "not upgraded in time"),
    }
    None
}

/// The stream under the upgrade, and what was read of it already.
fn io(upgraded: Upgraded) -> (Io, Bytes) {
    // Our server hands over what it was given; another for one version of HTTP the TCP stream, one for any version a
    // stream around that.
    let upgraded = match upgraded.downcast::<TokioIo<Io>>() {
        Ok(parts) => return (parts.io.into_inner(), parts.read_buf),
        Err(upgraded) => upgraded,
    };
    let upgraded = match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => return (Io::tcp(parts.io.into_inner()), parts.read_buf),
        Err(upgraded) => upgraded,
    };
    match downcast::<TokioIo<TcpStream>>(upgraded) {
        Ok(parts) => (Io::tcp(parts.io.into_inner()), parts.read_buf),
        Err(upgraded) => (Io::Other(Box::new(TokioIo::new(upgraded))), Bytes::new()),
    }
}

/// The value that proves that we speak websocket, if the request asks for it. Extensions and sub-protocols are not
/// looked at: without a word about them in the answer there are none.
fn accept(headers: &HeaderMap) -> Option<HeaderValue> {
    let lists = |name: HeaderName, word: &str| {
        let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(word))
    };
    if !lists(CONNECTION, "upgrade") || !lists(UPGRADE, "websocket") || headers.get(SEC_WEBSOCKET_VERSION)? != "13" {
        return None;
    }
    HeaderValue::try_from(derive_accept_key(headers.get(SEC_WEBSOCKET_KEY)?.as_bytes())).ok()
}

fn switch(accept: &HeaderValue, told: bool) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept.clone());
    if told {
        headers.insert(introduction::HEADER, HeaderValue::from_static(introduction::VERSION));
    }
    response
}

fn upgrade_required() -> Response<Body> {
    let mut response =
        problem(StatusCode::UPGRADE_REQUIRED, "upgrade_required", "this is a websocket endpoint, version 13");
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    response
}

async fn wrong_method() -> Response<Body> {
    let mut response =
        problem(StatusCode::METHOD_NOT_ALLOWED, code::METHOD_NOT_ALLOWED, "this is a websocket endpoint: GET alone");
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
    response
}

fn rejected(rejection: Rejection, is_pair_executor: bool) -> Response<Body> {
    let (code, message) = match rejection {
        Rejection::ExecutorAway => (code::ENVIRONMENT_OFFLINE, "the executor is not connected at the moment"),
        Rejection::ExecutorBusy => (code::EXECUTOR_BUSY, "another client holds the executor"),
        Rejection::NotTold => {
            (rejection.as_str(), "the ticket allows less than all, and the executor cannot be told so")
        }
        Rejection::Draining => (code::UNAVAILABLE, "the server is shutting down"),
        Rejection::Overloaded => (code::UNAVAILABLE, "the server holds as many connections as it may"),
        Rejection::Stalled => (code::UNAVAILABLE, "a client of this token kept others waiting a moment ago"),
        Rejection::Expired => (rejection.as_str(), "the ticket has expired"),
        Rejection::Used => (rejection.as_str(), "the ticket was used, or issued before this server started"),
        Rejection::Fenced => (rejection.as_str(), "the registration behind the ticket is no longer valid"),
        Rejection::InvalidSignature => (rejection.as_str(), "the ticket is not one of ours"),
        _ => (rejection.as_str(), "the ticket in the URL is incomplete or malformed"),
    };
    let status = match StatusCode::from_u16(rejection.status()).unwrap_or(StatusCode::UNAUTHORIZED) {
        // A stock executor with a connection of its own registers anew on 409, and ends on any other of these.
        status if is_pair_executor && status.is_client_error() => StatusCode::CONFLICT,
        status => status,
    };
    let mut response = problem(status, code, message);
    response.headers_mut().insert(REJECTION_HEADER, HeaderValue::from_static(rejection.as_str()));
    response.extensions_mut().insert(Refused::Ticket(rejection.as_str()));
    response.extensions_mut().insert(rejection);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(COME_BACK));
    }
    response
}

fn problem(status: StatusCode, code: &str, message: &str) -> Response<Body> {
    let body = ProblemBody::plain(status.as_u16(), status.canonical_reason().unwrap_or_default(), code, message);
    let mut response = Response::new(Body::from(body.bytes()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(problem::form("/rendezvous")));
    response
}

#[cfg(test)]
mod tests {
    use std::sync::RwLock;

    use exedra_proto::ticket::{KeyRing, SigningKey};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;
    use tokio::task::JoinSet;

    use super::*;
    use crate::limits::STALL;
    use crate::piped::Nobody;
    use crate::router::Fences;

    #[tokio::test]
    async fn a_connection_accepted_over_tcp_is_taken_as_such_and_sends_at_once() {
        let (found, mut finds) = mpsc::channel(1);
        let handler = get(move |mut request: Request| async move {
            let upgrade = request.extensions_mut().remove::<OnUpgrade>().unwrap();
            let mut task = JoinSet::new();
            task.spawn(async move {
                let nodelay = match io(upgrade.await.unwrap()).0 {
                    Io::Tcp(stream) => Some(stream.nodelay().unwrap()),
                    Io::Secured { .. } | Io::Other(_) => None,
                };
                found.send(nodelay).await.unwrap();
            });
            task.detach_all();
            switch(&HeaderValue::from_static("x"), false)
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, Router::new().route("/", handler)).await.unwrap() });
        let head = "GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        assert_eq!(finds.recv().await.unwrap(), Some(true));
    }

    #[tokio::test]
    async fn another_method_is_told_which_one_is_served() {
        let ring = Arc::new(RwLock::new(KeyRing::new(vec![SigningKey::generate(0).unwrap()])));
        let shared = Shared {
            gate: Gate::new(ring, 0),
            hub: Arc::new(Hub::new(1, Fences::default(), Arc::new(Nobody), STALL)),
            tasks: Tasks::new(),
            times: Times::default(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, router(Arc::new(shared))).await.unwrap() });
        stream.write_all(b"POST /rendezvous/x HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 405 "), "{answer}");
        assert_eq!(head.lines().filter(|line| line.starts_with("allow: GET")).count(), 1, "{answer}");
        let body: ProblemBody = serde_json::from_str(body).unwrap();
        assert_eq!((body.status, body.title.as_str()), (405, "Method Not Allowed"));
        assert_eq!(body.kind, format!("urn:exedra:problem:{}", code::METHOD_NOT_ALLOWED));
        assert_eq!(
            (body.error.code.as_deref(), body.error.message),
            (Some(code::METHOD_NOT_ALLOWED), Some(body.detail))
        );
    }
}
