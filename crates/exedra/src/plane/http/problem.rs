//! What is answered before the router is asked, in the shape that the router's answers have.

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Response, StatusCode};
use exedra_proto::problem::{self, ProblemBody};

/// The body alone.
pub fn body(status: StatusCode, code: &str, message: &str) -> Vec<u8> {
    ProblemBody::plain(status.as_u16(), status.canonical_reason().unwrap_or_default(), code, message).bytes()
}

/// The answer to somebody who asked for `path`.
pub fn answer(path: &str, status: StatusCode, code: &str, message: &str) -> Response<Body> {
    let mut response = Response::new(Body::from(body(status, code, message)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(problem::form(path)));
    response
}
