//! How the server is.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::credentials;
use crate::http::problem::{Problem, ProblemBody};
use crate::service::Service;

/// How the server is.
#[derive(Debug, Serialize, ToSchema)]
pub struct Status {
    /// Its version.
    version: &'static str,
    /// When it started, seconds since 1970.
    started_at: u64,
    /// What its clock says, seconds since 1970.
    now: u64,
    /// Whether new work may come.
    ready: bool,
    /// Executors that ever registered and are not forgotten.
    executors_known: u64,
    /// Executors that are connected.
    executors_online: u64,
    /// Websockets at the rendezvous.
    connections: u64,
    /// Clients that wait for an executor.
    waiting: u64,
}

/// How the server is
#[utoipa::path(
    get, operation_id = "server_status", path = "/v1/status", tag = "server",
    responses((status = 200, body = Status), (status = "4XX", body = ProblemBody), (status = "5XX", body = ProblemBody)),
)]
pub async fn status(State(service): State<Arc<Service>>, headers: HeaderMap) -> Result<Json<Status>, Problem> {
    let caller = service.governor(credentials::bearer(&headers).as_ref()).await?;
    let now = service.status(&caller).await?;
    Ok(Json(Status {
        version: env!("CARGO_PKG_VERSION"),
        started_at: now.started_at,
        now: now.now,
        ready: now.ready,
        executors_known: now.executors_known,
        executors_online: now.executors_online,
        connections: now.connections,
        waiting: now.waiting,
    }))
}
