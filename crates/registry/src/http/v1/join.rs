//! A join token traded for the credential of an executor.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use exedra_proto::registry::{JoinReply, JoinRequest};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::http::problem::{Problem, ProblemBody};
use crate::http::{credentials, limits};
use crate::service::Service;

/// What an executor wants for a join token.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JoinBody {
    /// The id that the credential is to be for.
    executor_id: String,
    /// The SHA-256 of the credential's text, 64 hex digits. The same one again is the same trade.
    credential_sha256: String,
    /// What the credential is called, for people.
    name: Option<String>,
}

/// The credential that an executor has from now on.
#[derive(Debug, Serialize, ToSchema)]
pub struct Joined {
    /// The id that it is for.
    executor_id: String,
    /// The id of the token that it is.
    token_id: String,
    /// From that second on it is no longer good.
    expires_at: Option<u64>,
}

/// Trades a join token, the bearer token of the request, for the credential of an executor
#[utoipa::path(
    post, operation_id = "join", path = "/v1/join", tag = "tokens",
    request_body(content = JoinBody, example = json!({
        "executor_id": "gpu-7", "credential_sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    })),
    responses((status = 200, body = Joined), (status = "4XX", body = ProblemBody), (status = "5XX", body = ProblemBody)),
)]
pub async fn join(
    State(service): State<Arc<Service>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Joined>, Problem> {
    let joiner = service.joiner(credentials::bearer(&headers).as_ref()).await?;
    let wanted = "joining needs a JSON body with executor_id and credential_sha256";
    let JoinBody { executor_id, credential_sha256, name } = limits::json(body, wanted).await?;
    let request = JoinRequest { executor_id, credential_sha256, name };
    let JoinReply { executor_id, token_id, expires_at } = service.join(&joiner, request).await?;
    Ok(Json(Joined { executor_id, token_id, expires_at }))
}
