//! Executors: listed, shown, drained, labelled, forgotten.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use exedra_proto::ids::ExecutorId;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{one, only, query, wrong};
use crate::auth::Caller;
use crate::http::problem::{Problem, ProblemBody};
use crate::http::{credentials, limits};
use crate::presence;
use crate::service::Service;
use crate::service::fleet::{PAGE_MAX, Seen, Wanted};
use crate::store::ExecutorChange;
use crate::token::Labels;

/// Executors on a page, unless the request says otherwise.
const PAGE: usize = 100;

/// Whether an executor is there.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ExecutorState {
    /// Connected, and a client could have it.
    Online,
    /// Connected, and a client has it for itself.
    Held,
    /// Not connected.
    Away,
}

/// An executor.
#[derive(Debug, Serialize, ToSchema)]
pub struct Executor {
    /// Its id.
    id: String,
    /// For people.
    name: Option<String>,
    /// Whether it is there.
    state: ExecutorState,
    /// Since when it is held, seconds since 1970.
    held_since: Option<u64>,
    /// When it was last connected, seconds since 1970; now, if it is.
    last_seen: Option<u64>,
    /// How it is reached: `direct`, `relay` or `noise`.
    transport: &'static str,
    /// Its newest registration.
    registration_id: String,
    /// That registration's fencing number.
    epoch: u64,
    /// When that was made, seconds since 1970.
    registered_at: u64,
    /// The token by which that came.
    token_id: String,
    /// Labels that decide who may: its token's, and over them those of an administrator.
    labels: BTreeMap<String, String>,
    /// Labels that it gives itself.
    claimed_labels: BTreeMap<String, String>,
    /// What else it says of itself.
    #[schema(value_type = Object)]
    metadata: Value,
    /// Since when no new client is let in, seconds since 1970.
    draining_since: Option<u64>,
    /// The fingerprint of the key to which its name is bound (`serve --bind-key`).
    bound_key: Option<String>,
}

/// A page of executors.
#[derive(Debug, Serialize, ToSchema)]
pub struct ExecutorPage {
    /// By their ids.
    executors: Vec<Executor>,
    /// The value of `after` for the next page, if there is more.
    next: Option<String>,
}

/// Labels that an administrator gives.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LabelsBody {
    /// All of them; those that were given before and are not here are taken away.
    #[schema(value_type = BTreeMap<String, String>)]
    labels: Labels,
}

impl From<presence::State> for ExecutorState {
    fn from(state: presence::State) -> Self {
        match state {
            presence::State::Online => Self::Online,
            presence::State::Held => Self::Held,
            presence::State::Away => Self::Away,
        }
    }
}

impl From<Seen> for Executor {
    fn from(seen: Seen) -> Self {
        let record = seen.record;
        Self {
            bound_key: record.bound_key.clone(),
            labels: record.trusted().into(),
            id: record.current.executor.as_str().to_owned(),
            name: record.name,
            state: seen.state.into(),
            held_since: seen.held_since,
            last_seen: seen.last_seen,
            transport: record.current.transport.name(),
            registration_id: record.current.id.as_str().to_owned(),
            epoch: record.current.epoch,
            registered_at: record.current.created_at,
            token_id: record.token.as_str().to_owned(),
            claimed_labels: record.labels,
            metadata: record.metadata,
            draining_since: record.draining_since,
        }
    }
}

/// The executors that the token reaches
#[utoipa::path(
    get, operation_id = "list_executors", path = "/v1/executors", tag = "executors",
    params(
        ("label" = Option<Vec<String>>, Query, description = "`NAME=VALUE`; given more than once, all have to fit"),
        ("state" = Option<String>, Query, description = "`online`, `held` or `away`"),
        ("after" = Option<String>, Query, description = "those with ids above this one"),
        ("limit" = Option<u32>, Query, description = "at most so many, up to 500; 100 if not given"),
    ),
    responses((status = 200, body = ExecutorPage), (status = "4XX", body = ProblemBody), (status = "5XX", body = ProblemBody)),
)]
pub async fn list(
    State(service): State<Arc<Service>>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Json<ExecutorPage>, Problem> {
    let caller = service.caller(credentials::bearer(&headers).as_ref()).await?;
    let (executors, next) = service.executors(&caller, &wanted(&uri)?).await?;
    let next = next.map(|id| id.as_str().to_owned());
    Ok(Json(ExecutorPage { executors: executors.into_iter().map(Executor::from).collect(), next }))
}

fn wanted(uri: &Uri) -> Result<Wanted, Problem> {
    let query = query(uri);
    only(&query, &["label", "state", "after", "limit"])?;
    let labels = query.iter().filter(|(key, _)| key == "label").map(|(_, value)| {
        let (name, value) = value.split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    });
    let labels: Option<Vec<_>> = labels.collect();
    Ok(Wanted {
        after: one(&query, "after", |text| ExecutorId::parse(text).ok())?,
        labels: labels.and_then(|labels| Labels::new(labels).ok()).ok_or_else(|| wrong("label"))?,
        state: one(&query, "state", presence::State::parse)?,
        limit: one(&query, "limit", |text| text.parse().ok().filter(|limit| (1..=PAGE_MAX).contains(limit)))?
            .unwrap_or(PAGE),
    })
}

/// One executor
#[utoipa::path(
    get, operation_id = "show_executor", path = "/v1/executors/{id}", tag = "executors", params(("id" = String, Path, description = "its id")),
    responses((status = 200, body = Executor), (status = "4XX", body = ProblemBody), (status = "5XX", body = ProblemBody)),
)]
pub async fn show(
    State(service): State<Arc<Service>>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Json<Executor>, Problem> {
    let caller = service.caller(credentials::bearer(&headers).as_ref()).await?;
    Ok(Json(service.show(&caller, &credentials::segment(id)).await?.into()))
}

/// Forgets an executor that is away: its registrations are worth nothing, its name is free
#[utoipa::path(
    delete, operation_id = "forget_executor", path = "/v1/executors/{id}", tag = "executors",
    params(
        ("id" = String, Path, description = "its id"),
        (
            "force" = Option<bool>, Query, example = true,
            description = "`true`: also one that is connected, which is cut off; without it that is 409 `executor_connected`",
        ),
    ),
    responses((status = 204), (status = "4XX", body = ProblemBody), (status = "5XX", body = ProblemBody)),
)]
pub async fn forget(
    State(service): State<Arc<Service>>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<StatusCode, Problem> {
    let (caller, id) = administered(&service, &headers, id).await?;
    let query = query(&uri);
    only(&query, &["force"])?;
    let force = one(&query, "force", |text| text.parse().ok())?.unwrap_or(false);
    service.forget(&caller, &id, force).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lets no new client in; those who are there stay
#[utoipa::path(
    post, operation_id = "drain_executor", path = "/v1/executors/{id}/drain", tag = "executors", params(("id" = String, Path, description = "its id")),
    responses((status = 200, body = Executor), (status = "4XX", body = ProblemBody), (status = "5XX", body = ProblemBody)),
)]
pub async fn drain(
    State(service): State<Arc<Service>>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Json<Executor>, Problem> {
    let (caller, id) = administered(&service, &headers, id).await?;
    Ok(Json(service.drain_executor(&caller, &id, true).await?.into()))
}

/// Lets clients in again
#[utoipa::path(
    delete, operation_id = "resume_executor", path = "/v1/executors/{id}/drain", tag = "executors", params(("id" = String, Path, description = "its id")),
    responses((status = 200, body = Executor), (status = "4XX", body = ProblemBody), (status = "5XX", body = ProblemBody)),
)]
pub async fn resume(
    State(service): State<Arc<Service>>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Json<Executor>, Problem> {
    let (caller, id) = administered(&service, &headers, id).await?;
    Ok(Json(service.drain_executor(&caller, &id, false).await?.into()))
}

/// Gives an executor labels, which count over those of its token
#[utoipa::path(
    put, operation_id = "label_executor", path = "/v1/executors/{id}/labels", tag = "executors", params(("id" = String, Path, description = "its id")),
    request_body(content = LabelsBody, example = json!({"labels": {"team": "a"}})),
    responses((status = 200, body = Executor), (status = "4XX", body = ProblemBody), (status = "5XX", body = ProblemBody)),
)]
pub async fn label(
    State(service): State<Arc<Service>>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Executor>, Problem> {
    let (caller, id) = administered(&service, &headers, id).await?;
    let body: LabelsBody =
        limits::json(body, "labels are an object with texts, as in {\"labels\":{\"team\":\"a\"}}").await?;
    let change = ExecutorChange { assigned: Some(body.labels), ..ExecutorChange::default() };
    Ok(Json(service.change(&caller, &id, &change).await?.into()))
}

/// Who asks, and which executor that caller may change.
async fn administered(
    service: &Service,
    headers: &HeaderMap,
    id: Result<Path<String>, PathRejection>,
) -> Result<(Caller, ExecutorId), Problem> {
    let caller = service.caller(credentials::bearer(headers).as_ref()).await?;
    let id = service.administered(&caller, &credentials::segment(id)).await?;
    Ok((caller, id))
}
