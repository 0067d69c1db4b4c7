//! Tokens: made, listed, shown, renewed, revoked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::http::problem::{Problem, ProblemBody};
use crate::http::{credentials, limits};
use crate::service::Service;
use crate::service::tokens::{CreatedToken, NewToken};
use crate::store::{TokenRecord, Workload};
use crate::token::{Labels, Pattern, Rights, Role};

/// A token, without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub struct Token {
    /// Its id.
    id: String,
    /// For people.
    name: String,
    /// `executor`, `client`, `admin` or `join`.
    role: &'static str,
    /// The executors that it reaches: an id, or a pattern with `*`.
    executors: String,
    /// What an executor gets with it, and what one must have to be reached with it.
    labels: BTreeMap<String, String>,
    /// What executors are told of a client that shows it, and their policies ask for.
    client_labels: BTreeMap<String, String>,
    /// Of `exec`, `files`, `http`, `pty`.
    rights: Vec<&'static str>,
    /// Seconds since 1970.
    created_at: u64,
    /// From that second on it is no longer good.
    expires_at: Option<u64>,
    /// From that second on it is no longer good.
    revoked_at: Option<u64>,
    /// When it was last used.
    last_used: Option<u64>,
    /// Of a join token: how often it can still be traded.
    uses_left: Option<u32>,
    /// The join token that it was traded for.
    joined_with: Option<String>,
    /// Whose it is, if it stands for a workload of another issuer.
    #[schema(value_type = Option<Object>, example = json!({"issuer": "https://i", "subject": "s", "rule": "r"}))]
    workload: Option<Workload>,
}

/// All tokens.
#[derive(Debug, Serialize, ToSchema)]
pub struct TokenList {
    /// The oldest first.
    tokens: Vec<Token>,
}

/// A token with its secret, this one time.
#[derive(Debug, Serialize, ToSchema)]
pub struct SecretToken {
    /// The secret; it is nowhere else.
    secret: String,
    /// What is kept of it.
    token: Token,
}

/// What a token is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTokenBody {
    /// `executor`, `client`, `admin` or `join`.
    role: String,
    /// The executors that it reaches; all, if not given.
    executors: Option<String>,
    /// Labels; none, if not given.
    #[serde(default)]
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    labels: Labels,
    /// What executors are told of a client; if not given, its labels.
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    client_labels: Option<Labels>,
    /// Rights; all, if not given.
    rights: Option<Vec<String>>,
    /// For people.
    name: Option<String>,
    /// How long it is good, in seconds; if not given a join token for an hour, and any other until it is revoked.
    expires_in: Option<u64>,
    /// Of a join token: how often it can be traded; once, if not given.
    uses: Option<u32>,
}

/// How a token is renewed.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateBody {
    /// How long the old secret stays good, in seconds; not at all, if not given.
    #[serde(default)]
    #[schema(value_type = Option<u64>)]
    grace: u64,
}

impl From<TokenRecord> for Token {
    fn from(record: TokenRecord) -> Self {
        Self {
            id: record.id.as_str().to_owned(),
            name: record.name,
            role: record.role.as_str(),
            executors: record.executors.as_str().to_owned(),
            labels: record.labels.into(),
            client_labels: record.client_labels.into(),
            rights: record.rights.words().collect(),
            created_at: record.created_at,
            expires_at: record.expires_at,
            revoked_at: record.revoked_at,
            last_used: record.last_used,
            uses_left: record.uses_left,
            joined_with: record.joined_with.map(|token| token.as_str().to_owned()),
            workload: record.workload,
        }
    }
}

impl From<CreatedToken> for SecretToken {
    fn from(created: CreatedToken) -> Self {
        Self { secret: created.secret.expose().to_owned(), token: created.record.into() }
    }
}

impl NewTokenBody {
    fn read(self) -> Result<NewToken, Problem> {
        let role = Role::parse(&self.role);
        let role = role.ok_or_else(|| Problem::body_invalid("the role is none of executor, client, admin and join"))?;
        let rights = self.rights.map(|words| Rights::parse(&words.join(","))).transpose();
        let executors = self.executors.map(|text| Pattern::parse(&text)).transpose();
        Ok(NewToken {
            executors: executors.map_err(|error| Problem::body_invalid(error.to_string()))?.unwrap_or(Pattern::any()),
            labels: self.labels,
            client_labels: self.client_labels,
            rights: rights.map_err(|error| Problem::body_invalid(error.to_string()))?.unwrap_or(Rights::ALL),
            name: self.name.unwrap_or_default(),
            lifetime: self.expires_in.map(Duration::from_secs),
            uses: self.uses,
            ..NewToken::of(role)
        })
    }
}

/// All tokens, without their secrets
#[utoipa::path(
    get, operation_id = "list_tokens", path = "/v1/tokens", tag = "tokens",
    responses((status = 200, body = TokenList), (status = "4XX", body = ProblemBody), (status = "5XX", body = ProblemBody)),
)]
pub async fn list(State(service): State<Arc<Service>>, headers: HeaderMap) -> Result<Json<TokenList>, Problem> {
    service.governor(credentials::bearer(&headers).as_ref()).await?;
    let tokens = service.tokens.list().await?;
    Ok(Json(TokenList { tokens: tokens.into_iter().map(|token| service.as_used(token).into()).collect() }))
}

/// Makes a token
#[utoipa::path(
    post, operation_id = "create_token", path = "/v1/tokens", tag = "tokens",
    request_body(content = NewTokenBody, example = json!({"role": "client", "executors": "gpu-*", "expires_in": 86400})),
    responses((status = 201, body = SecretToken), (status = "4XX", body = ProblemBody), (status = "5XX", body = ProblemBody)),
)]
pub async fn create(
    State(service): State<Arc<Service>>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<SecretToken>), Problem> {
    service.governor(credentials::bearer(&headers).as_ref()).await?;
    let body: NewTokenBody = limits::json(body, "a token needs at least a role, as in {\"role\":\"client\"}").await?;
    let created = service.tokens.create(body.read()?).await?;
    Ok((StatusCode::CREATED, Json(created.into())))
}

/// One token, without its secret
#[utoipa::path(
    get, operation_id = "show_token", path = "/v1/tokens/{id}", tag = "tokens", params(("id" = String, Path, description = "its id")),
    responses((status = 200, body = Token), (status = "4XX", body = ProblemBody), (status = "5XX", body = ProblemBody)),
)]
pub async fn show(
    State(service): State<Arc<Service>>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Json<Token>, Problem> {
    service.governor(credentials::bearer(&headers).as_ref()).await?;
    Ok(Json(service.as_used(service.tokens.show(&credentials::segment(id)).await?).into()))
}

/// Gives a token another secret; when the old one ends, what was opened until then is closed, and comes back with the new one
#[utoipa::path(
    post, operation_id = "rotate_token", path = "/v1/tokens/{id}/rotate", tag = "tokens", params(("id" = String, Path, description = "its id")),
    request_body(content = Option<RotateBody>, example = json!({"grace": 60})),
    responses((status = 200, body = SecretToken), (status = "4XX", body = ProblemBody), (status = "5XX", body = ProblemBody)),
)]
pub async fn rotate(
    State(service): State<Arc<Service>>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<SecretToken>, Problem> {
    service.governor(credentials::bearer(&headers).as_ref()).await?;
    let body: Option<RotateBody> = limits::json_or_nothing(body, "a body has grace, in seconds").await?;
    let grace = Duration::from_secs(body.unwrap_or_default().grace);
    let rotated = service.tokens.rotate(&credentials::segment(id), grace).await?;
    service.cut_ended().await.map_err(crate::service::Refusal::from)?;
    Ok(Json(rotated.into()))
}

/// Makes a token worthless; what is open with it is closed within 2 s
#[utoipa::path(
    delete, operation_id = "revoke_token", path = "/v1/tokens/{id}", tag = "tokens", params(("id" = String, Path, description = "its id")),
    responses((status = 200, body = Token), (status = "4XX", body = ProblemBody), (status = "5XX", body = ProblemBody)),
)]
pub async fn revoke(
    State(service): State<Arc<Service>>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Json<Token>, Problem> {
    service.governor(credentials::bearer(&headers).as_ref()).await?;
    let revoked = service.tokens.revoke(&credentials::segment(id)).await?;
    // Not left to the next look, since somebody waits for it here.
    service.cut_ended().await.map_err(crate::service::Refusal::from)?;
    Ok(Json(revoked.into()))
}
