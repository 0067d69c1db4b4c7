//! The keys that sign tickets: listed, replaced, revoked.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::credentials;
use crate::http::problem::{Problem, ProblemBody};
use crate::keys::KeyInfo;
use crate::service::Service;

/// A signing key, without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub struct Key {
    /// Its name, the `kid` of tickets.
    id: String,
    /// When it was made, seconds since 1970.
    created_at: u64,
    /// Whether it is the one that signs; the others are there for tickets from before.
    signs: bool,
}

/// All signing keys.
#[derive(Debug, Serialize, ToSchema)]
pub struct KeyList {
    /// The oldest first.
    keys: Vec<Key>,
}

impl From<Vec<KeyInfo>> for KeyList {
    fn from(keys: Vec<KeyInfo>) -> Self {
        let shown = |KeyInfo { id, created_at, signs }| Key { id, created_at, signs };
        Self { keys: keys.into_iter().map(shown).collect() }
    }
}

/// All signing keys, without their secrets
#[utoipa::path(
    get, operation_id = "list_keys", path = "/v1/keys", tag = "keys",
    responses((status = 200, body = KeyList), (status = "4XX", body = ProblemBody), (status = "5XX", body = ProblemBody)),
)]
pub async fn list(State(service): State<Arc<Service>>, headers: HeaderMap) -> Result<Json<KeyList>, Problem> {
    let caller = service.caller(credentials::bearer(&headers).as_ref()).await?;
    Ok(Json(service.list_keys(&caller)?.into()))
}

/// Has another key sign from now on; open tickets stay good
#[utoipa::path(
    post, operation_id = "rotate_keys", path = "/v1/keys/rotate", tag = "keys",
    responses((status = 200, body = KeyList), (status = "4XX", body = ProblemBody), (status = "5XX", body = ProblemBody)),
)]
pub async fn rotate(State(service): State<Arc<Service>>, headers: HeaderMap) -> Result<Json<KeyList>, Problem> {
    let caller = service.caller(credentials::bearer(&headers).as_ref()).await?;
    Ok(Json(service.rotate_keys(&caller).await?.into()))
}

/// Makes all tickets of a key worthless; what is open with them is closed within 2 s, and opened again with others
#[utoipa::path(
    delete, operation_id = "revoke_key", path = "/v1/keys/{id}", tag = "keys", params(("id" = String, Path, description = "its id")),
    responses((status = 200, body = KeyList), (status = "4XX", body = ProblemBody), (status = "5XX", body = ProblemBody)),
)]
pub async fn revoke(
    State(service): State<Arc<Service>>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Json<KeyList>, Problem> {
    let caller = service.caller(credentials::bearer(&headers).as_ref()).await?;
    Ok(Json(service.revoke_key(&caller, &credentials::segment(id)).await?.into()))
}
