//! `POST /cloud/executor/{id}/register`: the seed's path, with dialect A's body.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use exedra_proto::registry::RegisterReply;

use super::problem::Problem;
use super::{credentials, limits};
use crate::service::Service;

/// Registers an executor.
pub async fn register(
    State(service): State<Arc<Service>>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<RegisterReply>, Problem> {
    let bearer = credentials::bearer(&headers);
    let permit = service.permit_executor(bearer.as_ref(), &credentials::segment(id)).await?;
    let request = limits::json(body, "registration needs a JSON body with idempotency_id and executor_id").await?;
    Ok(Json(service.register(&permit, request).await?))
}
