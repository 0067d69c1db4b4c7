//! One line in the log for each request: method, path without its query, status, time taken, the client's address, and the
//! ids of request and trace.
//!
//! The request's id is the client's, if it sent a decent one, and goes back to it; so is that of the trace, which it may
//! have sent as W3C's `traceparent`. Bodies and other headers are never logged.

use std::time::Instant;

use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use exedra_proto::ids::ExecutorId;
use exedra_proto::plane::Origin;
use exedra_proto::problem;
use tracing::field::Empty;
use tracing::{Instrument as _, Level};
use uuid::Uuid;

use crate::service::{Service, noting};
use crate::store::Access;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");
/// Longest id that is taken over.
const MAX_ID: usize = 64;
/// So much of a path is logged.
const MAX_PATH: usize = 256;

/// Runs the request in a span with its id, and logs how it ended.
pub async fn request(State(service): State<Arc<Service>>, request: Request, next: Next) -> Response {
    let mut line = access(&request);
    let id = request_id(&request);
    let method = request.method().clone();
    let path: String = request.uri().path().chars().take(MAX_PATH).collect();
    let started = Instant::now();
    let span = tracing::info_span!("request", id = %id, trace = Empty, client = Empty);
    if let Some(trace) = trace_id(&request) {
        span.record("trace", trace);
    }
    let address = request.extensions().get::<Origin>().map(|origin| origin.address);
    if let Some(address) = address {
        span.record("client", tracing::field::display(address));
    }
    let (mut response, noted) = noting(address, next.run(request).instrument(span.clone())).await;
    let status = response.status();
    (line.token, line.role) = noted.token.unzip();
    line.executor = line.executor.or(noted.executor);
    line.request_id.clone_from(&id);
    line.outcome = status.as_str().to_owned();
    service.note_access(line);
    if status.is_client_error() || status.is_server_error() {
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(problem::form(&path)));
    }
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

/// The trace's id in a well-formed `traceparent`: version, trace, span and flags in lower-case hex.
fn trace_id(request: &Request) -> Option<&str> {
    let mut parts = request.headers().get(TRACE_PARENT)?.to_str().ok()?.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_hex = |text: &str, len| {
        text.len() == len && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    let is_set = |text: &str| text.bytes().any(|byte| byte != b'0');
    // A later version may have more parts.
    let is_whole = version != "ff" && (version != "00" || parts.next().is_none());
    let is_well_formed = is_whole && is_hex(version, 2) && is_hex(trace, 32) && is_hex(span, 16) && is_hex(flags, 2);
    (is_well_formed && is_set(trace) && is_set(span)).then_some(trace)
}

/// What the access log says of a request before it is answered.
fn access(request: &Request) -> Access {
    let template = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str).unwrap_or("(no such path)");
    let address = request.extensions().get::<Origin>().map(|origin| origin.address.to_string());
    let is_of_executor = ["/cloud/", "/v1/executors/"].iter().any(|prefix| template.starts_with(prefix));
    let id = template.split('/').zip(request.uri().path().split('/')).find(|(name, _)| *name == "{id}");
    let executor = id.filter(|_| is_of_executor).and_then(|(_, id)| ExecutorId::parse(id).ok());
    Access { address, action: format!("{} {template}", request.method()), executor, ..Access::default() }
}

fn request_id(request: &Request) -> String {
    let given = request.headers().get(REQUEST_ID).and_then(|value| value.to_str().ok());
    let is_decent = |id: &&str| {
        (1..=MAX_ID).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    given.filter(is_decent).map_or_else(|| Uuid::new_v4().simple().to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    #[test]
    fn only_a_well_formed_trace_is_taken() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let of = |header: &str| {
            let request = Request::builder().header(TRACE_PARENT, header).body(Body::empty()).unwrap();
            trace_id(&request).map(str::to_owned)
        };
        assert_eq!(of(&format!("00-{trace}-00f067aa0ba902b7-01")), Some(trace.to_owned()));
        assert_eq!(of(&format!("01-{trace}-00f067aa0ba902b7-01-later")), Some(trace.to_owned()));
        for wrong in [
            String::new(),
            trace.to_owned(),
            format!("00-{trace}-00f067aa0ba902b7"),
            format!("00-{trace}-00f067aa0ba902b7-01-more"),
            format!("ff-{trace}-00f067aa0ba902b7-01"),
            format!("00-{}-00f067aa0ba902b7-01", trace.to_uppercase()),
            format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            format!("00-{trace}-{}-01", "0".repeat(16)),
            format!("00-{trace}\u{7f}-00f067aa0ba902b7-01"),
        ] {
            if axum::http::HeaderValue::from_str(&wrong).is_ok() {
                assert_eq!(of(&wrong), None, "{wrong}");
            }
        }
    }
}
