//! HTTP on one byte stream: one request is read and answered, and an upgrade gives the stream back.
//!
//! In flows a stream, out flows either nothing, the request being answered, or the stream and what the client has sent
//! ahead on it. What to answer is decided in [`super::http`].

use std::convert::Infallible;
use std::error::Error;
use std::io::Cursor;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, UPGRADE};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::http::{Answer, answer as decide};

/// Largest head of a request, in bytes; a larger one is answered 431.
const MAX_HEAD: usize = 16 * 1024;

/// Answers the one request on `stream`.
///
/// # Errors
/// What the client sent is no HTTP, or did not come within `timeout`.
pub async fn answer<S>(stream: S, timeout: Duration) -> Result<Option<(S, Bytes)>, Box<dyn Error + Send + Sync>>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let upgraded = AtomicBool::new(false);
    let service = service_fn(|request: Request<Incoming>| {
        let answer = decide(&request.into_parts().0);
        upgraded.store(matches!(answer, Answer::Upgrade(_)), Ordering::Relaxed);
        std::future::ready(Ok::<_, Infallible>(respond(answer)))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(timeout)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let parts = tokio::time::timeout(timeout, connection.without_shutdown()).await??;
    if !upgraded.load(Ordering::Relaxed) {
        return Ok(None);
    }
    Ok(Some((parts.io.into_inner(), parts.read_buf)))
}

/// `stream` with what was already read from it.
pub fn rewind<S>(stream: S, early: Bytes) -> impl AsyncRead + AsyncWrite + Send + Unpin + 'static
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (reader, writer) = tokio::io::split(stream);
    tokio::io::join(Cursor::new(early).chain(reader), writer)
}

fn respond(answer: Answer) -> Response<Empty<Bytes>> {
    let mut response = Response::new(Empty::new());
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
