//! `GET /healthz`: the process is up. `GET /readyz`: it can take new work.

use std::sync::Arc;

use axum::extract::State;

use super::problem::{Problem, ProblemBody};
use crate::service::Service;

/// The process is up.
#[utoipa::path(get, path = "/healthz", tag = "server", security(()), responses((status = 200, body = String)))]
pub async fn alive() -> &'static str {
    "ok\n"
}

/// The store answers, and the server is not shutting down.
#[utoipa::path(
    get, path = "/readyz", tag = "server", security(()),
    responses((status = 200, body = String), (status = "5XX", body = ProblemBody)),
)]
pub async fn ready(State(service): State<Arc<Service>>) -> Result<&'static str, Problem> {
    service.check().await?;
    Ok("ready\n")
}
