//! Dialect D's calls beside registration: `POST /cloud/environment/{id}/connect` of stock clients, and `…/validate` of
//! stock executors, which ask about each client before they answer it.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use exedra_proto::registry::{EnvironmentConnectReply, ValidateReply};

use super::problem::Problem;
use super::{credentials, limits};
use crate::service::Service;

/// Connects a client with an executor.
pub async fn connect(
    State(service): State<Arc<Service>>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<EnvironmentConnectReply>, Problem> {
    let bearer = credentials::bearer(&headers);
    let permit = service.permit_client(bearer.as_ref(), &credentials::segment(id)).await?;
    let request = limits::json(body, "connecting needs a JSON body with harness_public_key").await?;
    Ok(Json(service.connect_environment(&permit, request).await?))
}

/// Tells an executor whether a client's key was authorized here.
pub async fn validate(
    State(service): State<Arc<Service>>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<ValidateReply>, Problem> {
    let bearer = credentials::bearer(&headers);
    let permit = service.permit_executor(bearer.as_ref(), &credentials::segment(id)).await?;
    let wanted = "validation needs a JSON body with executor_registration_id, harness_public_key and \
                  harness_key_authorization";
    let request = limits::json(body, wanted).await?;
    Ok(Json(ValidateReply { valid: service.validate(&permit, &request).await? }))
}
