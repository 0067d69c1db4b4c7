//! HTTP on one byte stream: one request is read and answered, and an upgrade gives the stream back.
//!
//! In flows a stream, out flows either nothing, the request being answered, or the stream and what the client has sent
//! ahead on it. What to answer is decided in [`super::http`].

use std::convert::Infallible;
use std::error::Error;
use std::io::Cursor;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, SEC_WEBSOCKET_ACCEPT, UPGRADE, WWW_AUTHENTICATE};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::auth::WsAuth;
use super::http::{Answer, answer as decide};
use crate::peer::Client;

/// Largest head of a request, in bytes; a larger one is answered 431.
const MAX_HEAD: usize = 16 * 1024;

/// What an upgrade leaves.
pub struct Upgraded<S> {
    /// The stream.
    pub stream: S,
    /// What the client has sent ahead.
    pub early: Bytes,
    /// Who it is.
    pub client: Client,
}

/// What came of a request.
pub enum Answered<S> {
    /// A websocket follows.
    Upgraded(Upgraded<S>),
    /// The handshake was refused, in these words.
    Denied(&'static str),
    /// It was answered with this status.
    Status(StatusCode),
    /// There was none.
    Nothing,
}

/// Answers the one request on `stream`; `auth` says what a client must show, if anything.
///
/// # Errors
/// What the client sent is no HTTP, or did not come within `timeout`.
pub async fn answer<S>(
    stream: S,
    timeout: Duration,
    auth: Option<&WsAuth>,
) -> Result<Answered<S>, Box<dyn Error + Send + Sync>>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let came_to = Mutex::new(Answered::<()>::Nothing);
    let service = service_fn(|request: Request<Incoming>| {
        let parts = request.into_parts().0;
        let answer = decide(&parts);
        let admitted = auth.map_or_else(|| Ok(Client::default()), |auth| auth.admit(&parts));
        let (response, outcome) = match (answer, admitted) {
            (Answer::Upgrade(_), Err(denial)) => (unauthorized(denial.0), Answered::Denied(denial.0)),
            (answer @ Answer::Upgrade(_), Ok(client)) => {
                let upgraded = Upgraded { stream: (), early: Bytes::new(), client };
                (respond(answer), Answered::Upgraded(upgraded))
            }
            (answer @ Answer::Status(status, _), _) => (respond(answer), Answered::Status(status)),
        };
        *came_to.lock().unwrap_or_else(PoisonError::into_inner) = outcome;
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(timeout)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let parts = tokio::time::timeout(timeout, connection.without_shutdown()).await??;
    let came_to = std::mem::replace(&mut *came_to.lock().unwrap_or_else(PoisonError::into_inner), Answered::Nothing);
    Ok(match came_to {
        Answered::Upgraded(Upgraded { client, .. }) => {
            Answered::Upgraded(Upgraded { stream: parts.io.into_inner(), early: parts.read_buf, client })
        }
        Answered::Denied(words) => Answered::Denied(words),
        Answered::Status(status) => Answered::Status(status),
        Answered::Nothing => Answered::Nothing,
    })
}

/// `stream` with what was already read from it.
pub fn rewind<S>(stream: S, early: Bytes) -> impl AsyncRead + AsyncWrite + Send + Unpin + 'static
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (reader, writer) = tokio::io::split(stream);
    tokio::io::join(Cursor::new(early).chain(reader), writer)
}

fn unauthorized(text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = StatusCode::UNAUTHORIZED;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

fn respond(answer: Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    match answer {
        Answer::Upgrade(key) => {
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            let headers = response.headers_mut();
            headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            if let Ok(accept) = HeaderValue::from_str(&derive_accept_key(key.as_bytes())) {
                headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
            }
        }
        Answer::Status(status, header) => {
            *response.status_mut() = status;
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            if let Some((name, value)) = header {
                response.headers_mut().insert(name, value);
            }
        }
    }
    response
}
