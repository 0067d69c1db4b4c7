//! The registry over HTTP: paths, headers and bodies in, service calls and replies out.
//!
//! Handlers know the service and nothing behind it; error bodies are made in `problem` alone. Whoever serves the router
//! sets TCP_NODELAY on accepted sockets, a deadline for reading a request's head (hyper's `header_read_timeout`) and a
//! limit on connections, and leaves `half_close` off: a client that hangs up while it waits must be noticed.

mod connect;
mod credentials;
mod direct;
mod environment;
mod health;
mod journal;
mod limits;
mod problem;
mod register;

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn;
use axum::routing::{get, post};

use crate::service::Service;

/// The routes over `service`, and answers to all other paths.
pub fn router(service: Arc<Service>) -> Router {
    Router::new()
        .route("/cloud/executor/{id}/register", post(register::register))
        .route("/cloud/environment/{id}/register", post(register::register_environment))
        .route("/cloud/environment/{id}/direct/register", post(direct::register))
        .route("/cloud/environment/{id}/connect", post(environment::connect))
        .route("/cloud/environment/{id}/validate", post(environment::validate))
        .route("/v1/executors/{id}/connect", post(connect::connect))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .fallback(problem::not_found)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(from_fn(journal::request))
        .with_state(service)
}
