//! Who is connected with whom.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use exedra_proto::ticket::Role;
use serde::Serialize;
use utoipa::ToSchema;

use super::{only, query};
use crate::http::credentials;
use crate::http::problem::{Problem, ProblemBody};
use crate::service::Service;
use crate::service::fleet::Meeting;

/// One websocket at the rendezvous.
#[derive(Debug, Serialize, ToSchema)]
pub struct Connection {
    /// The executor that it is of or for.
    executor_id: String,
    /// That one's registration.
    registration_id: String,
    /// Whose side: `executor` or `client`.
    side: &'static str,
    /// The token behind it.
    token_id: String,
    /// Since when, seconds since 1970.
    since: u64,
    /// Payload that went through it, both ways.
    bytes: u64,
}

/// All connections.
#[derive(Debug, Serialize, ToSchema)]
pub struct Connections {
    /// The oldest first.
    connections: Vec<Connection>,
}

impl From<Meeting> for Connection {
    fn from(meeting: Meeting) -> Self {
        let connection = meeting.connection;
        Self {
            executor_id: meeting.executor.as_str().to_owned(),
            registration_id: connection.registration.as_str().to_owned(),
            side: if connection.role == Role::Executor { "executor" } else { "client" },
            token_id: connection.token.as_str().to_owned(),
            since: connection.since,
            bytes: connection.bytes,
        }
    }
}

/// Who is on which of the executors that the token reaches
#[utoipa::path(
    get, operation_id = "list_connections", path = "/v1/connections", tag = "connections",
    responses((status = 200, body = Connections), (status = "4XX", body = ProblemBody), (status = "5XX", body = ProblemBody)),
)]
pub async fn list(
    State(service): State<Arc<Service>>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Json<Connections>, Problem> {
    let caller = service.caller(credentials::bearer(&headers).as_ref()).await?;
    only(&query(&uri), &[])?;
    let meetings = service.meetings(&caller).await?;
    Ok(Json(Connections { connections: meetings.into_iter().map(Connection::from).collect() }))
}
