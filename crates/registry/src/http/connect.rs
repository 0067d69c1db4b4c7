//! `POST /v1/executors/{id}/connect`: our own clients' way to an executor.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use exedra_proto::registry::ConnectReply;
use utoipa::ToSchema;

use super::problem::{Problem, ProblemBody};
use super::{credentials, limits};
use crate::service::Service;

/// What a client wants.
#[derive(ToSchema)]
#[expect(dead_code, reason = "says what is on the wire; read as `ConnectRequest`")]
struct ConnectBody {
    /// The client's Noise key; null in the clear.
    #[schema(value_type = Option<Object>)]
    public_key: Option<()>,
    /// What the client can speak, best first: `noise`, `relay`, `direct`; none means anything.
    transports: Option<Vec<String>>,
    /// How long to wait for an executor that is away or held, in milliseconds, at most 60000.
    wait_ms: Option<u64>,
}

/// Where to meet.
#[derive(ToSchema)]
#[expect(dead_code, reason = "says what is on the wire; written as `ConnectReply`")]
struct ConnectAnswer {
    /// The executor's id.
    executor_id: String,
    /// Its registration.
    registration_id: String,
    /// How to talk: `noise`, `relay` or `direct`.
    transport: String,
    /// Where to connect: a signed ticket for one websocket.
    url: String,
    /// When the ticket expires, seconds since 1970.
    expires_at: u64,
}

/// Connects a client with an executor.
#[utoipa::path(
    post, operation_id = "connect_executor", path = "/v1/executors/{id}/connect", tag = "executors", params(("id" = String, Path, description = "the executor's id")),
    request_body(content = ConnectBody, example = json!({"transports": ["relay", "direct"], "wait_ms": 0})),
    responses((status = 200, body = ConnectAnswer), (status = "4XX", body = ProblemBody), (status = "5XX", body = ProblemBody)),
)]
pub async fn connect(
    State(service): State<Arc<Service>>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<ConnectReply>, Problem> {
    let bearer = credentials::bearer(&headers);
    let permit = service.permit_client(bearer.as_ref(), &credentials::segment(id)).await?;
    let request = limits::json(body, "connecting needs a JSON body, at least {}").await?;
    Ok(Json(service.connect(&permit, &request).await?))
}
