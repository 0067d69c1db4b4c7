//! Bodies of the registry's HTTP API, and its error codes.

mod join;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::ids::{ExecutorId, RegistrationId};
use crate::noise::PublicKey;
use crate::secret::Secret;

pub use join::{JoinReply, JoinRequest};

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
    /// What the executor can serve, best first, by the names of [`Transport`]; stock sends none and means
    /// [`Transport::Direct`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub transports: Vec<String>,
    /// What guards the channel that [`Transport::Noise`] means; stock's dialect A sends none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_profile: Option<String>,
    /// The executor's key for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executor_public_key: Option<PublicKey>,
}

/// Body of `POST {base}/cloud/environment/{id}/register`, dialect D.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EnvironmentRegisterRequest {
    /// What guards the channel.
    pub security_profile: String,
    /// The executor's key for it; an instance has its own.
    pub executor_public_key: PublicKey,
}

/// Reply to [`EnvironmentRegisterRequest`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EnvironmentRegisterReply {
    /// The executor's id.
    pub environment_id: String,
    /// Where to connect: a signed ticket.
    pub url: Secret,
    /// What guards the channel.
    pub security_profile: String,
    /// The registration's id.
    pub executor_registration_id: String,
}

/// Body of `POST {base}/cloud/environment/{id}/connect`, dialect D.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EnvironmentConnectRequest {
    /// The client's key.
    pub harness_public_key: PublicKey,
}

/// Reply to [`EnvironmentConnectRequest`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EnvironmentConnectReply {
    /// The executor's id.
    pub environment_id: String,
    /// Where to connect: a signed ticket for one websocket.
    pub url: Secret,
    /// What guards the channel.
    pub security_profile: String,
    /// The executor's registration.
    pub executor_registration_id: String,
    /// The executor's key.
    pub executor_public_key: PublicKey,
    /// What the client shows to the executor.
    pub harness_key_authorization: Secret,
}

/// Body of `POST {base}/cloud/environment/{id}/validate`, dialect D.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ValidateRequest {
    /// The executor's registration.
    pub executor_registration_id: String,
    /// The client's key, as the handshake had it.
    pub harness_public_key: PublicKey,
    /// What the client showed.
    pub harness_key_authorization: Secret,
}

/// Reply to [`ValidateRequest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValidateReply {
    /// Whether the registry said so to this client, about this executor, a short time ago.
    pub valid: bool,
}

/// Reply to [`RegisterRequest`], in any dialect. Unknown members are ignored.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "AnyRegisterReply")]
pub struct RegisterReply {
    /// The registration's id; empty where the registry gives none.
    pub id: String,
    /// The executor's id.
    pub executor_id: String,
    /// Where to connect: a signed ticket.
    pub url: Secret,
    /// Which transport the registry chose, or what its dialect means by not saying.
    pub transport: Transport,
}

/// The members of all dialects (protocol 2 and 17.1).
#[derive(Debug, Deserialize)]
struct AnyRegisterReply {
    id: Option<String>,
    executor_id: Option<String>,
    environment_id: Option<String>,
    executor_registration_id: Option<String>,
    url: Secret,
    transport: Option<Transport>,
    security_profile: Option<String>,
}

impl TryFrom<AnyRegisterReply> for RegisterReply {
    type Error = &'static str;

    fn try_from(reply: AnyRegisterReply) -> Result<Self, Self::Error> {
        let implied = match (&reply.security_profile, &reply.id) {
            (Some(_), _) => Transport::Noise,
            (None, Some(_)) => Transport::Direct,
            // Dialect A always gives an id; without one it is B or C, where a rendezvous carries relay frames.
            (None, None) => Transport::Relay,
        };
        Ok(Self {
            id: reply.id.or(reply.executor_registration_id).unwrap_or_default(),
            executor_id: reply.executor_id.or(reply.environment_id).ok_or("missing field `executor_id`")?,
            url: reply.url,
            transport: reply.transport.unwrap_or(implied),
        })
    }
}

/// Body of `POST {base}/cloud/environment/{id}/direct/register`, dialect E.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectRegisterRequest {
    /// [`DIRECT_TRANSPORT`].
    pub transport: String,
}

/// Reply to [`DirectRegisterRequest`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DirectRegisterReply {
    /// The executor's id.
    pub environment_id: String,
    /// [`DIRECT_TRANSPORT`].
    pub transport: String,
    /// The registration's id.
    pub registration_id: String,
    /// Where to connect: a signed ticket.
    pub url: Secret,
}

/// Dialect E's word for JSON-RPC messages on a websocket of the executor's own.
pub const DIRECT_TRANSPORT: &str = "direct_jsonrpc_v1";

/// How the two ends of a rendezvous talk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// JSON-RPC messages on the websocket, one client at a time.
    Direct,
    /// Relay frames in the clear, many clients.
    Relay,
    /// Relay frames with Noise inside, many clients.
    Noise,
}

impl Transport {
    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Relay => "relay",
            Self::Noise => "noise",
        }
    }

    /// The transport of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Direct, Self::Relay, Self::Noise].into_iter().find(|transport| transport.name() == name)
    }

    /// Whether one client at a time has the executor for itself.
    pub fn is_exclusive(self) -> bool {
        self == Self::Direct
    }
}

/// Body of `POST {base}/v1/executors/{id}/connect`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConnectRequest {
    /// The client's Noise key; none in the clear.
    #[serde(default)]
    pub public_key: Option<PublicKey>,
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
    /// For [`Transport::Noise`], the executor's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executor_public_key: Option<PublicKey>,
    /// For [`Transport::Noise`], what the client shows to the executor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub harness_key_authorization: Option<Secret>,
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
    /// The token allows less than all on an executor, and nobody could hold its bearer to that there.
    pub const RIGHTS_NOT_ENFORCEABLE: &str = "rights_not_enforceable";
    /// The executor's name is bound to another key.
    pub const EXECUTOR_KEY_BOUND: &str = "executor_key_bound";
    /// The token is another issuer's and good, and no rule here is for its bearer.
    pub const WORKLOAD_UNMATCHED: &str = "workload_unmatched";
    /// A signed request cannot be read, or what has to be signed is not.
    pub const SIGNATURE_INVALID: &str = "signature_invalid";
    /// A request is signed for another region or service.
    pub const SIGNATURE_SCOPE: &str = "signature_scope";
    /// A request was signed too long ago, or by a clock that is off.
    pub const SIGNATURE_SKEWED: &str = "signature_skewed";
    /// A signed request came before.
    pub const SIGNATURE_REPLAYED: &str = "signature_replayed";
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
    /// An administrator lets no new client in to the executor.
    pub const EXECUTOR_DRAINING: &str = "executor_draining";
    /// The request has no header `Host`, more than one, or one that makes no sense.
    pub const HOST_INVALID: &str = "host_invalid";
    /// A parameter of the query is not one, or has no such value.
    pub const QUERY_INVALID: &str = "query_invalid";
    /// There is no such signing key.
    pub const KEY_UNKNOWN: &str = "key_unknown";
    /// There is no such token.
    pub const TOKEN_UNKNOWN: &str = "token_unknown";
    /// The token was revoked, or its time is over.
    pub const TOKEN_ENDED: &str = "token_ended";
    /// The executor is connected, and only who says so means that it goes nevertheless.
    pub const EXECUTOR_CONNECTED: &str = "executor_connected";
    /// A join token is to be traded for a name that somebody has.
    pub const EXECUTOR_EXISTS: &str = "executor_exists";
    /// None of the transports offered fits.
    pub const TRANSPORT_UNSUPPORTED: &str = "transport_unsupported";
    /// No such path.
    pub const NOT_FOUND: &str = "not_found";
    /// The path knows another method.
    pub const METHOD_NOT_ALLOWED: &str = "method_not_allowed";
    /// The token, or the address of somebody without a good one, asks more often than it may.
    pub const RATE_LIMITED: &str = "rate_limited";
    /// The client's address has as many connections as it may.
    pub const TOO_MANY_CONNECTIONS: &str = "too_many_connections";
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
            transports: Vec::new(),
            security_profile: None,
            executor_public_key: None,
        };
        assert_eq!(
            serde_json::to_string(&request).unwrap(),
            r#"{"idempotency_id":"i","executor_id":"exec-7","name":"codex-exec-server","labels":{},"metadata":{}}"#
        );
    }

    #[test]
    fn each_dialects_reply_is_understood() {
        let read = |text: &str| {
            let reply = serde_json::from_str::<RegisterReply>(text).map_err(|error| error.to_string())?;
            Ok::<_, String>((reply.id, reply.executor_id, reply.transport))
        };
        let ok = |id: &str, transport| Ok((id.to_owned(), "box".to_owned(), transport));
        assert_eq!(read(r#"{"id":"r","executor_id":"box","url":"u"}"#), ok("r", Transport::Direct), "A");
        assert_eq!(read(r#"{"executor_id":"box","url":"u"}"#), ok("", Transport::Relay), "B");
        assert_eq!(read(r#"{"environment_id":"box","url":"u","id":null}"#), ok("", Transport::Relay), "C");
        let noise = r#"{"environment_id":"box","url":"u","security_profile":"noise_hybrid_ik_v1","executor_registration_id":"r"}"#;
        assert_eq!(read(noise), ok("r", Transport::Noise), "D");
        let both = r#"{"id":"r","executor_id":"box","environment_id":"x","url":"u","transport":"relay","security_profile":"p"}"#;
        assert_eq!(read(both), ok("r", Transport::Relay), "what is said counts");
        assert_eq!(read(r#"{"id":"r","url":"u"}"#), Err("missing field `executor_id`".to_owned()));
        assert!(read(r#"{"id":"r","executor_id":"box"}"#).unwrap_err().contains("url"));
        assert!(read(r#"{"id":"r","executor_id":"box","url":"u","transport":"quic"}"#).unwrap_err().contains("quic"));
        for transport in [Transport::Direct, Transport::Relay, Transport::Noise] {
            assert_eq!(serde_json::to_value(transport).unwrap(), transport.name());
        }
    }
}
