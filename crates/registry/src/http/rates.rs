//! Strangers are slowed down: whoever has no good token is charged to its address, and nobody else is.
//!
//! Requests and their answers flow through. Who shows something is looked at first, so that a good token counts wherever it comes
//! from: an address that others have used up refuses nobody who may come in. Whether the server lives and is ready is told
//! to everybody at any rate.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use exedra_proto::plane::Origin;

use super::problem::Problem;
use crate::service::{Service, has_noted_token};

/// Answers, or says that the address has to wait.
pub async fn strangers(State(service): State<Arc<Service>>, request: Request, next: Next) -> Response {
    let origin = request.extensions().get::<Origin>().map(|origin| origin.address);
    let Some(address) = origin.filter(|_| !matches!(request.uri().path(), "/healthz" | "/readyz")) else {
        return next.run(request).await;
    };
    if !request.headers().contains_key(AUTHORIZATION) {
        return match service.rates.stranger(address) {
            Ok(()) => next.run(request).await,
            Err(wait) => Problem::stranger(wait).into_response(),
        };
    }
    let response = next.run(request).await;
    let is_stranger = response.status() == StatusCode::UNAUTHORIZED || !has_noted_token();
    // What failed here says nothing of who asked.
    if !is_stranger || response.status().is_server_error() {
        return response;
    }
    match service.rates.stranger(address) {
        Ok(()) => response,
        Err(wait) => Problem::stranger(wait).into_response(),
    }
}
