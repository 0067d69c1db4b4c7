//! Bodies of the registry's HTTP API, and its error codes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::ids::{ExecutorId, RegistrationId};
use crate::secret::Secret;

/// Body of `POST {base}/cloud/executor/{id}/register`, dialect A.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RegisterRequest {
    /// The same for all registrations of one process; see [`idempotency_id`].
    pub idempotency_id: String,
    /// The id in the path.
    pub executor_id: String,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Stock sends none.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Stock sends `{}`.
    #[serde(default)]
    pub metadata: Value,
}

/// Reply to [`RegisterRequest`]. Unknown members are ignored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RegisterReply {
    /// The registration's id.
    pub id: String,
    /// The executor's id.
    pub executor_id: String,
    /// Where to connect: a signed ticket.
    pub url: Secret,
    /// Which transport the registry chose; absent from other registries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transport: Option<Transport>,
}

/// How the two ends of a rendezvous talk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// JSON-RPC messages on the websocket, one client at a time.
    Direct,
}

/// Body of `POST {base}/v1/executors/{id}/connect`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConnectRequest {
    /// The client's Noise key; none in the clear.
    #[serde(default)]
    pub public_key: Option<Value>,
    /// What the client can speak, best first; empty means anything.
    #[serde(default)]
    pub transports: Vec<String>,
    /// How long to wait for an executor that is away or held, in milliseconds, at most [`MAX_WAIT_MS`].
    #[serde(default)]
    pub wait_ms: u64,
}

/// Longest `wait_ms`.
pub const MAX_WAIT_MS: u64 = 60_000;
/// Largest body of a request to the registry, in bytes.
pub const MAX_BODY_BYTES: usize = 64 * 1024;

/// Reply to [`ConnectRequest`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConnectReply {
    /// The executor's id.
    pub executor_id: ExecutorId,
    /// Its registration.
    pub registration_id: RegistrationId,
    /// How to talk.
    pub transport: Transport,
    /// Where to connect: a signed ticket for one websocket.
    pub url: Secret,
    /// When the ticket expires, seconds since 1970.
    pub expires_at: u64,
}

/// An error body, in the shape of upstream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What went wrong.
    pub error: ErrorDetail,
}

/// The members of an error. Further members depend on the code.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ErrorDetail {
    /// Stable; one of [`code`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// `executor_unknown`: ids that are nearly the one asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub near: Vec<String>,
    /// `environment_offline`: when the executor was last connected, seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<u64>,
    /// `executor_busy`: since when it is held, seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_since: Option<u64>,
}

/// Stable error codes of our registry.
pub mod code {
    /// No bearer token, or one that is not ours, revoked or expired.
    pub const UNAUTHENTICATED: &str = "unauthenticated";
    /// The token is good and does not reach that far.
    pub const FORBIDDEN: &str = "forbidden";
    /// The id in the path is no executor id, or differs from the one in the body.
    pub const EXECUTOR_ID_INVALID: &str = "executor_id_invalid";
    /// The body is no JSON of the expected shape.
    pub const BODY_INVALID: &str = "body_invalid";
    /// The body passes the limit.
    pub const BODY_TOO_LARGE: &str = "body_too_large";
    /// No executor of that id ever registered.
    pub const EXECUTOR_UNKNOWN: &str = "executor_unknown";
    /// The executor is not connected at the moment.
    pub const ENVIRONMENT_OFFLINE: &str = "environment_offline";
    /// Another client holds the executor.
    pub const EXECUTOR_BUSY: &str = "executor_busy";
    /// None of the transports offered fits.
    pub const TRANSPORT_UNSUPPORTED: &str = "transport_unsupported";
    /// No such path.
    pub const NOT_FOUND: &str = "not_found";
    /// The path knows another method.
    pub const METHOD_NOT_ALLOWED: &str = "method_not_allowed";
    /// The store cannot answer now.
    pub const UNAVAILABLE: &str = "unavailable";
}

/// `codex-exec-server-` and the SHA-256 of id, name, a fixed text and the process's UUID (protocol 3.3).
pub fn idempotency_id(executor_id: &str, name: &str, process: Uuid) -> String {
    let mut hash = Sha256::new();
    for part in [executor_id, name, "codex-exec-server-v1"] {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    hash.update(process.as_bytes());
    let hex: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("codex-exec-server-{hex}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idempotency_id_has_the_worked_value() {
        assert_eq!(
            idempotency_id("exec-1", "codex-exec-server", Uuid::from_u128(1)),
            "codex-exec-server-80931d9e5a0bcd78f297990d47d11213250b4312720f575a3a902be3aa384f97"
        );
    }

    #[test]
    fn the_request_body_is_the_seeds_byte_for_byte() {
        let request = RegisterRequest {
            idempotency_id: "i".into(),
            executor_id: "exec-7".into(),
            name: Some("codex-exec-server".into()),
            labels: BTreeMap::new(),
            metadata: Value::Object(serde_json::Map::new()),
        };
        assert_eq!(
            serde_json::to_string(&request).unwrap(),
            r#"{"idempotency_id":"i","executor_id":"exec-7","name":"codex-exec-server","labels":{},"metadata":{}}"#
        );
    }
}
