//! The access log, in pages.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use serde::Serialize;
use utoipa::ToSchema;

use super::{one, only, query};
use crate::http::credentials;
use crate::http::problem::{Problem, ProblemBody};
use crate::service::Service;
use crate::store::Access;

/// Who asked for what.
#[derive(Debug, Serialize, ToSchema)]
pub struct AccessLine {
    /// Its place; no line before has a higher one.
    id: u64,
    /// When, seconds since 1970.
    at: u64,
    /// The request's id.
    request_id: String,
    /// Where it came from.
    address: Option<String>,
    /// The token that was shown.
    token_id: Option<String>,
    /// That token's role.
    role: Option<&'static str>,
    /// Method and path.
    action: String,
    /// The executor that it is about.
    executor_id: Option<String>,
    /// The status of the answer.
    outcome: String,
    /// How many requests the line stands for.
    count: u64,
}

/// A page of the access log.
#[derive(Debug, Serialize, ToSchema)]
pub struct AccessPage {
    /// The oldest first; an empty page is the end.
    lines: Vec<AccessLine>,
}

impl From<Access> for AccessLine {
    fn from(line: Access) -> Self {
        Self {
            id: line.id,
            at: line.at,
            request_id: line.request_id,
            address: line.address,
            token_id: line.token.map(|token| token.as_str().to_owned()),
            role: line.role.map(|role| role.as_str()),
            action: line.action,
            executor_id: line.executor.map(|executor| executor.as_str().to_owned()),
            outcome: line.outcome,
            count: line.count,
        }
    }
}

/// Who asked for what; only ever appended to
#[utoipa::path(
    get, operation_id = "list_access", path = "/v1/access-log", tag = "server",
    params(("after" = Option<u64>, Query, description = "lines with ids above this one")),
    responses((status = 200, body = AccessPage), (status = "4XX", body = ProblemBody), (status = "5XX", body = ProblemBody)),
)]
pub async fn list(
    State(service): State<Arc<Service>>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Json<AccessPage>, Problem> {
    let caller = service.governor(credentials::bearer(&headers).as_ref()).await?;
    let query = query(&uri);
    only(&query, &["after"])?;
    let after = one(&query, "after", |text| text.parse().ok())?.unwrap_or(0);
    let lines = service.access_after(&caller, after).await?;
    Ok(Json(AccessPage { lines: lines.into_iter().map(AccessLine::from).collect() }))
}
