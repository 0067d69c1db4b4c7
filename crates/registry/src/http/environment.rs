//! Dialect D's calls beside registration: `POST /cloud/environment/{id}/connect` of stock clients, and `…/validate` of
//! stock executors, which ask about each client before they answer it.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use exedra_proto::registry::{EnvironmentConnectReply, ValidateReply};

use super::problem::{Problem, ProblemBody};
use super::{credentials, limits};
use crate::service::Service;

/// Connects a client with an executor.
#[utoipa::path(
    post, operation_id = "connect_environment", path = "/cloud/environment/{id}/connect", tag = "stock", params(("id" = String, Path, description = "the executor's id")),
    request_body(content = Object, example = json!({"harness_public_key": {}})),
    responses((status = 200, body = Object), (status = "4XX", body = ProblemBody), (status = "5XX", body = ProblemBody)),
)]
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
#[utoipa::path(
    post, path = "/cloud/environment/{id}/validate", tag = "stock", params(("id" = String, Path, description = "the executor's id")),
    request_body(content = Object, example = json!({"executor_registration_id": "reg", "harness_public_key": {}, "harness_key_authorization": "a"})),
    responses((status = 200, body = Object), (status = "4XX", body = ProblemBody), (status = "5XX", body = ProblemBody)),
)]
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
