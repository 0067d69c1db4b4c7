//! One line in the log for each request: method, path without its query, status, time taken, and the request's id.
//!
//! The id is the client's, if it sent a decent one, and goes back to it; bodies and headers are never logged.

use std::time::Instant;

use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use tracing::{Instrument as _, Level};
use uuid::Uuid;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest id that is taken over.
const MAX_ID: usize = 64;
/// So much of a path is logged.
const MAX_PATH: usize = 256;

/// Runs the request in a span with its id, and logs how it ended.
pub async fn request(request: Request, next: Next) -> Response {
    let id = request_id(&request);
    let method = request.method().clone();
    let path: String = request.uri().path().chars().take(MAX_PATH).collect();
    let started = Instant::now();
    let span = tracing::info_span!("request", id = %id);
    let mut response = next.run(request).instrument(span.clone()).await;
    let status = response.status();
    let ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    span.in_scope(|| {
        if path == "/healthz" || path == "/readyz" {
            tracing::event!(Level::DEBUG, %method, path, status = status.as_u16(), ms, "answered");
        } else {
            tracing::event!(Level::INFO, %method, path, status = status.as_u16(), ms, "answered");
        }
    });
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

fn request_id(request: &Request) -> String {
    let given = request.headers().get(REQUEST_ID).and_then(|value| value.to_str().ok());
    let is_decent = |id: &&str| {
        (1..=MAX_ID).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    given.filter(is_decent).map_or_else(|| Uuid::new_v4().simple().to_string(), str::to_owned)
}
