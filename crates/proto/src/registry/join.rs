//! Bodies of `POST {base}/v1/join`: an executor trades a join token for a credential of its own, which it made itself.

use serde::{Deserialize, Serialize};

/// What the executor asks for. The join token is the request's bearer token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinRequest {
    /// The id that the credential is to be for.
    pub executor_id: String,
    /// The SHA-256 of the credential's text, as 64 hex digits: the registry never learns the credential itself before it is
    /// used. The same hash asked for again is the same trade, and costs no further use.
    pub credential_sha256: String,
    /// What the credential is called, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// What it gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinReply {
    /// The id that the credential is for.
    pub executor_id: String,
    /// The credential's id, by which people speak of it.
    pub token_id: String,
    /// When it ends, seconds since 1970; none: when it is revoked.
    #[serde(default)]
    pub expires_at: Option<u64>,
}
