//! `POST /cloud/executor/{id}/register`, the seed's path, with dialect A's body or with dialect B's, none; and
//! `POST /cloud/environment/{id}/register` of dialect C, which has none either.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use exedra_proto::registry::RegisterReply;
use serde::Serialize;
use serde_json::Value;

use super::problem::Problem;
use super::{credentials, limits};
use crate::service::{Refusal, Service};

/// Registers an executor.
pub async fn register(
    State(service): State<Arc<Service>>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<RegisterReply>, Problem> {
    let bearer = credentials::bearer(&headers);
    let permit = service.permit_executor(bearer.as_ref(), &credentials::segment(id)).await?;
    let wanted = "registration needs a JSON body with idempotency_id and executor_id, or none";
    Ok(Json(match limits::json_or_nothing(body, wanted).await? {
        Some(request) => service.register(&permit, request).await?,
        None => service.register_plain(&permit).await?,
    }))
}

/// Registers an executor that calls itself an environment.
pub async fn register_environment(
    State(service): State<Arc<Service>>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Environment>, Problem> {
    let bearer = credentials::bearer(&headers);
    let permit = service.permit_executor(bearer.as_ref(), &credentials::segment(id)).await?;
    if limits::json_or_nothing::<Value>(body, "registration of an environment needs no body").await?.is_some() {
        // Dialect D offers a channel that is not carried here yet.
        return Err(Refusal::Transport.into());
    }
    let reply = service.register_plain(&permit).await?;
    Ok(Json(Environment { environment_id: reply.executor_id.clone(), reply }))
}

/// The reply to an environment.
#[derive(Debug, Serialize)]
pub struct Environment {
    environment_id: String,
    #[serde(flatten)]
    reply: RegisterReply,
}
