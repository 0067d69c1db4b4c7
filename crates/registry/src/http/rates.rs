//! Strangers are slowed down: whoever has no good token is charged to its address, and nobody else is.
//!
//! Requests and their answers flow through. Who shows something is looked at first, so that a good token counts wherever it comes
//! from: an address that others have used up refuses nobody who may come in. Whether the server lives and is ready is told
//! to everybody at any rate.
//!
//! At the rendezvous it is the ticket that counts: one that was never ours is charged like a bad token. One that was ours, and is
//! no longer good, is not: whoever has it had a token. An executor is told at any rate what is wrong with its ticket, for that tells
//! it to register again: the key that signed it may be gone.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use exedra_proto::plane::Origin;
use exedra_proto::ticket::Rejection;

use super::problem::Problem;
use crate::rates::Rates;
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

/// Lets a request for a websocket through, and charges its address for a ticket that was never ours.
pub async fn tickets(State(rates): State<Arc<Rates>>, request: Request, next: Next) -> Response {
    let origin = request.extensions().get::<Origin>().map(|origin| origin.address);
    let says_executor = request.uri().query().is_some_and(|query| query.split('&').any(|part| part == "role=executor"));
    let response = next.run(request).await;
    let is_strangers = response.extensions().get::<Rejection>().is_some_and(|rejection| rejection.is_strangers());
    let Some(address) = origin.filter(|_| is_strangers) else { return response };
    match rates.stranger(address) {
        Err(wait) if !says_executor => Problem::stranger(wait).into_response(),
        _ => response,
    }
}
