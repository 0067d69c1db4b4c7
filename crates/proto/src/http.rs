//! Params, result and notification of `http/request`.

use serde::{Deserialize, Serialize};

use crate::base64::Base64Text;

/// Params of `http/request`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestParams {
    /// Names the body stream; unique among the active ones of the connection.
    pub request_id: String,
    /// Any valid token.
    pub method: String,
    /// Absolute, http or https.
    pub url: String,
    /// In order, repetitions kept.
    #[serde(default)]
    pub headers: Vec<RequestHeader>,
    /// The body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<Base64Text>,
    /// Limit for the whole exchange, in milliseconds; absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// What to do with a redirect (0.145 and later).
    #[serde(default, skip_serializing_if = "RedirectPolicy::is_default")]
    pub redirect_policy: RedirectPolicy,
    /// Send the body as notifications.
    #[serde(default)]
    pub stream_response: bool,
}

/// What to do with a redirect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RedirectPolicy {
    /// Go where it leads.
    #[default]
    Follow,
    /// Return it.
    Stop,
}

impl RedirectPolicy {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A header to be sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestHeader {
    /// In any case.
    pub name: String,
    /// The value, where no variable is named.
    #[serde(default)]
    pub value: String,
    /// The variable of the executor's environment that has the value (0.155 and later).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_env_var: Option<String>,
}

impl From<Header> for RequestHeader {
    fn from(Header { name, value }: Header) -> Self {
        Self { name, value, value_env_var: None }
    }
}

/// A header of a response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// In lower case.
    pub name: String,
    /// The value.
    pub value: String,
}

/// Result of `http/request`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestResult {
    /// Status code.
    pub status: u16,
    /// In order, repetitions kept; values that are not UTF-8 are left out.
    pub headers: Vec<Header>,
    /// The body, empty when it is streamed.
    pub body_base64: Base64Text,
}

/// Params of the notification `http/request/bodyDelta`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BodyDeltaParams {
    /// Of the request.
    pub request_id: String,
    /// From 1, without gaps.
    pub seq: u64,
    /// A piece of the body, empty in the last frame.
    pub delta_base64: Base64Text,
    /// The last frame.
    pub done: bool,
    /// Why the body ended early.
    pub error: Option<String>,
}
