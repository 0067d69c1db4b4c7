//! The JSON-RPC envelope: requests, notifications, responses, errors, without a `jsonrpc` member.
//!
//! In flows one message as text, out flows one of the four kinds with `params` and `result` still raw, so that a large
//! payload is decoded once and by whoever knows its type.

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Wrong state, unknown process or session, refused operation.
pub const INVALID_REQUEST: i64 = -32600;
/// Unknown method.
pub const METHOD_NOT_FOUND: i64 = -32601;
/// `params` could not be decoded, or a value is out of range.
pub const INVALID_PARAMS: i64 = -32602;
/// The operation failed.
pub const INTERNAL_ERROR: i64 = -32603;
/// File or directory not found; unknown file handle.
pub const NOT_FOUND: i64 = -32004;
/// The session is attached to another connection.
pub const SESSION_ATTACHED: i64 = -32010;
/// An upload is being written by another connection (`exedra/1`).
pub const UPLOAD_BUSY: i64 = -32011;

/// The id of a request: a text or a 64-bit signed integer; replies echo it with the same type.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RequestId {
    /// An integer, also a negative one.
    Integer(i64),
    /// A text.
    Text(String),
}

impl RequestId {
    /// The id in answers to messages whose own id could not be read.
    pub const UNKNOWN: Self = Self::Integer(-1);

    /// As JSON.
    pub fn json(&self) -> String {
        match self {
            Self::Integer(n) => n.to_string(),
            Self::Text(text) => serde_json::Value::from(text.as_str()).to_string(),
        }
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(n) => write!(f, "{n}"),
            Self::Text(t) => write!(f, "{t:?}"),
        }
    }
}

/// The `error` member of an error message.
#[derive(Clone, Debug, Serialize, Deserialize, thiserror::Error)]
#[error("{message} (code {code})")]
pub struct RpcError {
    /// One of the constants of this module.
    pub code: i64,
    /// More about it; no stock peer sends any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Box<RawValue>>,
    /// For people.
    pub message: String,
}

impl RpcError {
    /// An error without data.
    pub fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, data: None, message: message.into() }
    }
}

impl PartialEq for RpcError {
    fn eq(&self, other: &Self) -> bool {
        self.code == other.code && self.message == other.message
    }
}

/// One message from a peer. `params` and `result` borrow from the text.
#[derive(Debug)]
pub enum Message<'a> {
    /// Wants an answer.
    Request {
        /// To be echoed.
        id: RequestId,
        /// Which method.
        method: String,
        /// Absent equals null.
        params: Option<&'a RawValue>,
    },
    /// Wants none.
    Notification {
        /// Which notification.
        method: String,
        /// Absent equals null.
        params: Option<&'a RawValue>,
    },
    /// Answers one of our requests.
    Response {
        /// Of the request.
        id: RequestId,
        /// Its result.
        result: &'a RawValue,
    },
    /// Answers one of our requests, or [`RequestId::UNKNOWN`], with an error.
    Error {
        /// Of the request.
        id: RequestId,
        /// What went wrong.
        error: RpcError,
    },
}

#[derive(Deserialize)]
struct Members<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    #[serde(default)]
    method: Option<String>,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    result: Option<&'a RawValue>,
    #[serde(default)]
    error: Option<RpcError>,
}

/// Tells `null` (some raw value) from absence (none).
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Why a text is no message, in the words of stock 0.145 and later; [`crate::dialect`] knows those of earlier ones.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It is no JSON.
    #[error("{0}")]
    Syntax(String),
    /// It is JSON, and no object.
    #[error("expected a JSON-RPC object")]
    NoObject,
    /// It is an object that is none of the four kinds.
    #[error("{0}")]
    NoMessage(String),
    /// Its id is neither text nor 64-bit integer.
    #[error("data did not match any variant of untagged enum RequestId")]
    Id,
    /// It has two ids.
    #[error("duplicate JSON object key `id`")]
    DuplicateId,
}

/// Reads one message.
///
/// # Errors
/// The cause; the caller puts its own label in front and answers with [`INVALID_REQUEST`] and [`RequestId::UNKNOWN`].
pub fn parse(text: &str) -> Result<Message<'_>, Unreadable> {
    if !text.trim_start().starts_with('{') {
        // Syntax errors win over the wrong kind of value.
        serde_json::from_str::<&RawValue>(text).map_err(|e| Unreadable::Syntax(e.to_string()))?;
        return Err(Unreadable::NoObject);
    }
    let members: Members<'_> = serde_json::from_str(text).map_err(|e| match e.classify() {
        serde_json::error::Category::Data => match without_position(&e) {
            cause if cause == "duplicate field `id`" => Unreadable::DuplicateId,
            cause => Unreadable::NoMessage(cause),
        },
        _ => Unreadable::Syntax(e.to_string()),
    })?;
    let id = match members.id {
        None => None,
        Some(raw) => Some(serde_json::from_str::<RequestId>(raw.get()).map_err(|_| Unreadable::Id)?),
    };
    match (id, members.method, members.result, members.error) {
        (Some(id), Some(method), _, _) => Ok(Message::Request { id, method, params: members.params }),
        (None, Some(method), _, _) => Ok(Message::Notification { method, params: members.params }),
        (Some(id), None, Some(result), None) => Ok(Message::Response { id, result }),
        (Some(id), None, _, Some(error)) => Ok(Message::Error { id, error }),
        _ => Err(Unreadable::NoMessage("missing field `error`".to_owned())),
    }
}

/// Decodes `params` (absent equals null) with error texts that carry no position, as stock peers do.
///
/// # Errors
/// The text of the decoder.
pub fn decode_params<T: DeserializeOwned>(params: Option<&RawValue>) -> Result<T, String> {
    serde_json::from_str(params.map_or("null", RawValue::get)).map_err(|e| without_position(&e))
}

fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(cut) if error.line() > 0 => text[..cut].to_owned(),
        _ => text,
    }
}

/// A request as text.
///
/// # Errors
/// Never for the types of this crate; the encoder's otherwise.
pub fn request<P: Serialize>(id: &RequestId, method: &str, params: &P) -> Result<String, serde_json::Error> {
    #[derive(Serialize)]
    struct Out<'a, P> {
        id: &'a RequestId,
        method: &'a str,
        params: &'a P,
    }
    serde_json::to_string(&Out { id, method, params })
}

/// A notification as text.
///
/// # Errors
/// Never for the types of this crate; the encoder's otherwise.
pub fn notification<P: Serialize>(method: &str, params: &P) -> Result<String, serde_json::Error> {
    #[derive(Serialize)]
    struct Out<'a, P> {
        method: &'a str,
        params: &'a P,
    }
    serde_json::to_string(&Out { method, params })
}

/// A response as text.
///
/// # Errors
/// Never for the types of this crate; the encoder's otherwise.
pub fn response<R: Serialize>(id: &RequestId, result: &R) -> Result<String, serde_json::Error> {
    #[derive(Serialize)]
    struct Out<'a, R> {
        id: &'a RequestId,
        result: &'a R,
    }
    serde_json::to_string(&Out { id, result })
}

/// An error message as text.
///
/// # Errors
/// Never for the types of this crate; the encoder's otherwise.
pub fn error(id: &RequestId, error: &RpcError) -> Result<String, serde_json::Error> {
    #[derive(Serialize)]
    struct Out<'a> {
        error: &'a RpcError,
        id: &'a RequestId,
    }
    serde_json::to_string(&Out { error, id })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cause(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn the_four_kinds() {
        assert!(matches!(parse(r#"{"id":1,"method":"m"}"#).unwrap(), Message::Request { params: None, .. }));
        assert!(matches!(parse(r#"{"method":"m","params":null}"#).unwrap(), Message::Notification { .. }));
        assert!(matches!(parse(r#" {"id":"x","result":null}"#).unwrap(), Message::Response { .. }));
        assert!(matches!(parse(r#"{"id":-1,"error":{"code":1,"message":"x"}}"#).unwrap(), Message::Error { .. }));
    }

    #[test]
    fn odd_input_is_named_as_stock_names_it() {
        assert_eq!(cause("{bad"), "key must be a string at line 1 column 2");
        assert_eq!(cause(""), "EOF while parsing a value at line 1 column 0");
        for text in ["5", "[1]", r#"[1,"m"]"#] {
            assert_eq!(cause(text), "expected a JSON-RPC object", "{text}");
        }
        for text in [r#"{"foo":1}"#, r#"{"id":1}"#] {
            assert_eq!(cause(text), "missing field `error`", "{text}");
        }
        assert_eq!(cause(r#"{"id":1,"method":5}"#), "invalid type: integer `5`, expected a string");
        for id in ["null", "1.5", "9223372036854775808", "[]", "true"] {
            let text = format!(r#"{{"id":{id},"method":"m"}}"#);
            assert_eq!(parse(&text).unwrap_err(), Unreadable::Id, "{id}");
        }
        assert_eq!(cause(r#"{"id":1,"id":2,"method":"m"}"#), "duplicate JSON object key `id`");
    }

    #[test]
    fn deep_nesting_is_an_answer_and_no_crash() {
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        let text = format!(r#"{{"id":1,"method":"m","params":{deep}}}"#);
        let Message::Request { params, .. } = parse(&text).unwrap() else { panic!("a request") };
        assert!(decode_params::<serde_json::Value>(params).unwrap_err().contains("recursion limit"));
    }

    #[test]
    fn params_errors_carry_no_position() {
        #[derive(Debug, Deserialize)]
        #[expect(dead_code, reason = "only its decoding matters")]
        struct InitializeParams {
            a: bool,
        }
        let null = decode_params::<InitializeParams>(None).unwrap_err();
        assert_eq!(null, "invalid type: null, expected struct InitializeParams");
    }
}
