//! `POST /cloud/executor/{id}/register`, the seed's path, with dialect A's body or with dialect B's, none; and
//! `POST /cloud/environment/{id}/register` of dialect C, which has none either, and of dialect D, which has a key.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use exedra_proto::noise::PROFILE;
use exedra_proto::registry::{EnvironmentRegisterReply, RegisterReply, Transport};
use serde::Serialize;

use super::problem::{Problem, ProblemBody};
use super::{credentials, limits};
use crate::service::Service;

/// Registers an executor.
#[utoipa::path(
    post, path = "/cloud/executor/{id}/register", tag = "stock", params(("id" = String, Path, description = "the executor's id")),
    request_body(content = Option<Object>, example = json!({"idempotency_id": "i", "executor_id": "box"})),
    responses((status = 200, body = Object), (status = "4XX", body = ProblemBody), (status = "5XX", body = ProblemBody)),
)]
pub async fn register(
    State(service): State<Arc<Service>>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Registered>, Problem> {
    let bearer = credentials::bearer(&headers);
    let permit = service.permit_executor(bearer.as_ref(), &credentials::segment(id)).await?;
    let wanted = "registration needs a JSON body with idempotency_id and executor_id, or none";
    let reply = match limits::json_or_nothing(body, wanted).await? {
        Some(request) => service.register(&permit, request).await?,
        None => service.register_plain(&permit).await?,
    };
    let is_noise = reply.transport == Transport::Noise;
    Ok(Json(Registered {
        security_profile: is_noise.then_some(PROFILE),
        executor_registration_id: is_noise.then(|| reply.id.clone()),
        environment_id: None,
        reply,
    }))
}

/// Registers an executor that calls itself an environment.
#[utoipa::path(
    post, path = "/cloud/environment/{id}/register", tag = "stock", params(("id" = String, Path, description = "the executor's id")),
    request_body(content = Option<Object>, example = json!(null)),
    responses((status = 200, body = Object), (status = "4XX", body = ProblemBody), (status = "5XX", body = ProblemBody)),
)]
pub async fn register_environment(
    State(service): State<Arc<Service>>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let bearer = credentials::bearer(&headers);
    let permit = service.permit_executor(bearer.as_ref(), &credentials::segment(id)).await?;
    let wanted =
        "registration of an environment needs a JSON body with security_profile and executor_public_key, or none";
    let Some(request) = limits::json_or_nothing(body, wanted).await? else {
        let reply = service.register_plain(&permit).await?;
        let environment_id = Some(reply.executor_id.clone());
        let (security_profile, executor_registration_id) = (None, None);
        return Ok(
            Json(Registered { reply, environment_id, security_profile, executor_registration_id }).into_response()
        );
    };
    let reply = service.register_environment(&permit, request).await?;
    Ok(Json(EnvironmentRegisterReply {
        environment_id: reply.executor_id,
        url: reply.url,
        security_profile: PROFILE.to_owned(),
        executor_registration_id: reply.id,
    })
    .into_response())
}

/// The reply to an executor of any dialect but D: what each of them looks for.
#[derive(Debug, Serialize)]
pub struct Registered {
    #[serde(flatten)]
    reply: RegisterReply,
    #[serde(skip_serializing_if = "Option::is_none")]
    environment_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    security_profile: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    executor_registration_id: Option<String>,
}
