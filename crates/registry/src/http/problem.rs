//! The one place that makes error bodies: what status, code and words a [`Refusal`] becomes.
//!
//! The shape is upstream's, the codes are stable (`exedra_proto::registry::code`), the words are for people.

use axum::Json;
use axum::http::header::{HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use exedra_proto::plane::Refused;
use exedra_proto::problem;
use exedra_proto::registry::{ErrorDetail, code};
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::RegistryError;
use crate::rates::Wait;
use crate::service::{Denied, Refusal};
use crate::sigv4::Fault;
use crate::workload;

/// After how many seconds somebody may come back who met a store that cannot answer.
const STORE_RETRY: u64 = 2;
/// After how many seconds somebody may come back who met a server that was shutting down.
const DRAIN_RETRY: u64 = 3;

/// After how many seconds somebody may come back who found no place among those who wait for events.
const CROWD_RETRY: u64 = 10;

/// The body of an answer that is no success: the members of RFC 9457, and beside them upstream's shape.
// As `problem::ProblemBody`, which knows no schema.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProblemBody {
    /// `urn:exedra:problem:` and the code.
    #[serde(rename = "type")]
    kind: String,
    /// What the status means.
    title: String,
    /// The status.
    status: u16,
    /// What went wrong, for people.
    detail: String,
    /// The same in upstream's shape: `code`, which is stable, `message`, and members that depend on the code.
    #[schema(value_type = Object)]
    error: ErrorDetail,
}

impl From<problem::ProblemBody> for ProblemBody {
    fn from(body: problem::ProblemBody) -> Self {
        let problem::ProblemBody { kind, title, status, detail, error } = body;
        Self { kind, title, status, detail, error }
    }
}

/// An answer that is no success.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    detail: Box<ErrorDetail>,
    header: Option<(HeaderName, HeaderValue)>,
    refused: Option<Refused>,
}

impl Problem {
    fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        let detail =
            ErrorDetail { code: Some(code.to_owned()), message: Some(message.into()), ..ErrorDetail::default() };
        Self { status, detail: Box::new(detail), header: None, refused: None }
    }

    /// The body passes the limit.
    pub fn body_too_large() -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, code::BODY_TOO_LARGE, "the body is larger than 64 KiB")
    }

    /// The body is not what it should be.
    pub fn body_invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code::BODY_INVALID, message)
    }

    /// The query is not what it should be.
    pub fn query_invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code::QUERY_INVALID, message)
    }

    /// Code and message.
    pub fn words(&self) -> (&str, &str) {
        let ErrorDetail { code, message, .. } = &*self.detail;
        (code.as_deref().unwrap_or_default(), message.as_deref().unwrap_or_default())
    }

    /// The body did not arrive.
    pub fn body_late() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, code::BODY_INVALID, "the body did not arrive in time")
    }

    fn denied(denied: &Denied) -> Self {
        let problem = Self::of_denied(denied);
        Self { refused: denied.reason().map(Refused::Token).or(problem.refused), ..problem }
    }

    fn of_denied(denied: &Denied) -> Self {
        let message = denied.to_string();
        match denied {
            Denied::Missing | Denied::Unknown | Denied::Revoked | Denied::Expired | Denied::UsedUp => {
                let problem = Self::new(StatusCode::UNAUTHORIZED, code::UNAUTHENTICATED, message);
                Self { header: Some((WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))), ..problem }
            }
            Denied::Role { .. } | Denied::Pattern(_) | Denied::Labels | Denied::OtherToken | Denied::Partial => {
                Self::new(StatusCode::FORBIDDEN, code::FORBIDDEN, message)
            }
            Denied::Workload(fault) => Self::untaken(fault, message),
            Denied::NotEnforceable(_) => Self::new(StatusCode::FORBIDDEN, code::RIGHTS_NOT_ENFORCEABLE, message),
            Denied::TooOften(wait) => Self::too_often(*wait, "token", message),
            Denied::ExecutorId(_) => Self::new(StatusCode::BAD_REQUEST, code::EXECUTOR_ID_INVALID, message),
            Denied::Store(_) => Self::unavailable("the store cannot answer at the moment", STORE_RETRY),
        }
    }

    /// Another issuer's token that is not taken.
    fn untaken(fault: &workload::Fault, message: String) -> Self {
        if let Some(seconds) = fault.retry_after() {
            return Self::unavailable(&message, seconds);
        }
        if fault.is_proven() {
            return Self::new(StatusCode::FORBIDDEN, code::WORKLOAD_UNMATCHED, message);
        }
        let problem = Self::new(StatusCode::UNAUTHORIZED, code::UNAUTHENTICATED, message);
        Self { header: Some((WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))), ..problem }
    }

    /// A signature that is not good. Who has none, or one that does not match, is a stranger.
    fn unsigned(fault: Fault) -> Self {
        let (status, code) = match fault {
            Fault::Missing | Fault::Mismatch => (StatusCode::UNAUTHORIZED, code::UNAUTHENTICATED),
            Fault::Malformed | Fault::Uncovered | Fault::Body => (StatusCode::BAD_REQUEST, code::SIGNATURE_INVALID),
            Fault::Scope => (StatusCode::FORBIDDEN, code::SIGNATURE_SCOPE),
            Fault::Skewed => (StatusCode::FORBIDDEN, code::SIGNATURE_SKEWED),
            Fault::Replayed => (StatusCode::FORBIDDEN, code::SIGNATURE_REPLAYED),
        };
        let problem = Self::new(status, code, fault.to_string());
        let challenge = (status == StatusCode::UNAUTHORIZED)
            .then_some((WWW_AUTHENTICATE, HeaderValue::from_static("AWS4-HMAC-SHA256")));
        Self { header: challenge, refused: Some(Refused::Token("signature")), ..problem }
    }

    /// Somebody without a good token came too often from one address.
    pub fn stranger(wait: Wait) -> Self {
        let message = "too many requests without a good token came from this address";
        Self::too_often(wait, "address", message.to_owned())
    }

    fn too_often(wait: Wait, by: &'static str, message: String) -> Self {
        let problem = Self::new(StatusCode::TOO_MANY_REQUESTS, code::RATE_LIMITED, message);
        let header = Some((RETRY_AFTER, HeaderValue::from(wait.secs())));
        Self { header, refused: Some(Refused::Rate(by)), ..problem }
    }

    fn unavailable(message: &str, retry_after: u64) -> Self {
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, code::UNAVAILABLE, message);
        Self { header: Some((RETRY_AFTER, HeaderValue::from(retry_after))), ..problem }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Denied(denied) => Self::denied(&denied),
            Refusal::OtherExecutor => Self::new(
                StatusCode::BAD_REQUEST,
                code::EXECUTOR_ID_INVALID,
                "the executor_id in the body is not the one in the path",
            ),
            Refusal::Incomplete(member) => Self::body_invalid(format!("the member {member} of the body is empty")),
            Refusal::TooLong { what, limit } => {
                Self::body_invalid(format!("{what} of the body is longer than {limit} bytes"))
            }
            Refusal::Unknown { near } => {
                let mut problem =
                    Self::new(StatusCode::NOT_FOUND, code::EXECUTOR_UNKNOWN, "no executor of that id ever registered");
                problem.detail.near = near.iter().map(|id| id.as_str().to_owned()).collect();
                problem
            }
            Refusal::Offline { last_seen } => {
                let mut problem =
                    Self::new(StatusCode::CONFLICT, code::ENVIRONMENT_OFFLINE, "the executor is not connected");
                problem.detail.last_seen = last_seen;
                problem
            }
            Refusal::Busy { since } => {
                let mut problem =
                    Self::new(StatusCode::CONFLICT, code::EXECUTOR_BUSY, "another client holds the executor");
                problem.detail.held_since = Some(since);
                problem
            }
            Refusal::Connected => Self::new(
                StatusCode::CONFLICT,
                code::EXECUTOR_CONNECTED,
                "the executor is connected, and would come back by itself: stop it or revoke its token first; \
                 `force=true` forgets it nevertheless",
            ),
            Refusal::Signature(fault) => Self::unsigned(fault),
            Refusal::Drained { since } => {
                let message = "an administrator lets no new client in to the executor";
                let mut problem = Self::new(StatusCode::CONFLICT, code::EXECUTOR_DRAINING, message);
                problem.detail.held_since = Some(since);
                problem
            }
            Refusal::Invalid(text) => Self::body_invalid(text),
            Refusal::UnknownKey => Self::new(StatusCode::NOT_FOUND, code::KEY_UNKNOWN, "there is no such signing key"),
            Refusal::UnknownToken => Self::new(StatusCode::NOT_FOUND, code::TOKEN_UNKNOWN, "there is no such token"),
            Refusal::EndedToken => Self::new(StatusCode::CONFLICT, code::TOKEN_ENDED, "the token has ended"),
            Refusal::NameTaken => Self::new(
                StatusCode::CONFLICT,
                code::EXECUTOR_EXISTS,
                "somebody has that name: an executor of that id is registered, or another token is for it alone; an \
                 administrator can revoke that token and forget the executor",
            ),
            Refusal::Crowded => Self::unavailable("too many follow the events at the moment", CROWD_RETRY),
            Refusal::CrowdedByOwn => {
                let message = "this token follows the events as often as it may; end one of its streams";
                let problem = Self::new(StatusCode::TOO_MANY_REQUESTS, code::TOO_MANY_CONNECTIONS, message);
                Self { header: Some((RETRY_AFTER, HeaderValue::from(CROWD_RETRY))), ..problem }
            }
            Refusal::OtherKey => Self::new(
                StatusCode::FORBIDDEN,
                code::EXECUTOR_KEY_BOUND,
                "this name is bound to a key that this executor did not show (`noise` alone shows one); `exedra forget-key ID` on the \
                 server lets another have it",
            ),
            Refusal::Transport => Self::new(
                StatusCode::BAD_REQUEST,
                code::TRANSPORT_UNSUPPORTED,
                "none of the transports offered can be served; this server has `direct`, `relay`, and `noise` with the \
                 profile `noise_hybrid_ik_v1` and a public key of each end",
            ),
            Refusal::Full => Self::unavailable("the server's disk is full", STORE_RETRY),
            Refusal::ReadOnly => Self::unavailable("the server's disk is read-only", STORE_RETRY),
            Refusal::Unavailable => Self::unavailable("the store cannot answer at the moment", STORE_RETRY),
            Refusal::Draining => Self::unavailable("the server is shutting down", DRAIN_RETRY),
        }
    }
}

impl From<RegistryError> for Problem {
    fn from(error: RegistryError) -> Self {
        Refusal::from(error).into()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let title = self.status.canonical_reason().unwrap_or_default();
        let body = problem::ProblemBody::new(self.status.as_u16(), title, *self.detail);
        let mut response = (self.status, Json(ProblemBody::from(body))).into_response();
        if let Some((name, value)) = self.header {
            response.headers_mut().insert(name, value);
        }
        if let Some(refused) = self.refused {
            response.extensions_mut().insert(refused);
        }
        response
    }
}

/// No such path.
pub async fn not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, code::NOT_FOUND, "there is nothing at this path")
}

/// The path knows another method.
pub async fn method_not_allowed() -> Problem {
    let message = "this path does not know that method";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, code::METHOD_NOT_ALLOWED, message)
}
