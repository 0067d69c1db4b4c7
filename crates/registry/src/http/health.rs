//! `GET /healthz`: the process is up. `GET /readyz`: it can take new work.

use std::sync::Arc;

use axum::extract::State;

use super::problem::Problem;
use crate::service::Service;

/// The process is up.
pub async fn alive() -> &'static str {
    "ok\n"
}

/// The store answers, and the server is not shutting down.
pub async fn ready(State(service): State<Arc<Service>>) -> Result<&'static str, Problem> {
    service.check().await?;
    Ok("ready\n")
}
