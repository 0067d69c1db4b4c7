//! `POST /v1/executors/{id}/connect`: our own clients' way to an executor.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use exedra_proto::registry::ConnectReply;

use super::problem::Problem;
use super::{credentials, limits};
use crate::service::Service;

/// Connects a client with an executor.
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
