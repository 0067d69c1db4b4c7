//! The one place where JSON-RPC codes are made: every refusal and failure that a client can get.
//!
//! In flow the typed errors of the host and the states of sessions and connections, out flow code and text as stock
//! peers give them (protocol 4.2 and 21). It decides nothing.

use exedra_host::fetch::FetchError;
use exedra_host::fs::{FsError, FsErrorKind};
use exedra_host::process::{StartError, UnknownProcess, WriteFailed};
use exedra_proto::envelope::{
    INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST, NOT_FOUND, RequestId, RpcError, SESSION_ATTACHED, UPLOAD_BUSY,
};
use exedra_proto::ids::SessionId;
use exedra_proto::method::Group;

use crate::audit::Unwritable;
use crate::session::table::Refusal;

/// A notification of ours that cannot be read.
pub fn bad_notification(method: &str, cause: &str) -> RpcError {
    RpcError::new(INVALID_PARAMS, format!("the notification `{method}` cannot be read: {cause}"))
}

/// `process/resize` to nothing.
pub fn no_size() -> RpcError {
    RpcError::new(INVALID_PARAMS, "a terminal has at least one row and one column")
}

/// A message that is none.
pub fn unreadable(label: &str, cause: &str) -> RpcError {
    RpcError::new(INVALID_REQUEST, format!("failed to parse {label}: {cause}"))
}

/// A notification that no version of the protocol knows.
pub fn unknown_notification(method: &str) -> RpcError {
    RpcError::new(INVALID_REQUEST, format!("the exec-server knows no notification `{method}`"))
}

/// `initialized` came first.
pub fn initialized_too_early() -> RpcError {
    RpcError::new(INVALID_REQUEST, "client must call initialize before sending initialized")
}

/// An answer to a question that was not asked.
pub fn unexpected_answer(id: &RequestId) -> RpcError {
    RpcError::new(INVALID_REQUEST, format!("the exec-server sent no request with id {id}"))
}

/// `initialize` after it succeeded.
pub fn initialized_twice() -> RpcError {
    RpcError::new(INVALID_REQUEST, "initialize may only be sent once per connection")
}

/// A method before `initialize`.
pub fn not_initialized(group: Group) -> RpcError {
    let group = group.as_str();
    RpcError::new(INVALID_REQUEST, format!("client must call initialize before using {group} methods"))
}

/// A method between `initialize` and `initialized`.
pub fn not_confirmed(group: Group) -> RpcError {
    let group = group.as_str();
    RpcError::new(INVALID_REQUEST, format!("client must send initialized before using {group} methods"))
}

/// Why a connection has no session: the one that it wanted, or a new one.
pub fn no_session(refusal: Refusal, wanted: Option<&SessionId>) -> RpcError {
    match (refusal, wanted) {
        (Refusal::Unknown, Some(id)) => RpcError::new(INVALID_REQUEST, format!("unknown session id {id}")),
        // Clients retry on this code.
        (Refusal::Attached(_), Some(id)) => {
            RpcError::new(SESSION_ATTACHED, format!("session {id} is already attached to another connection"))
        }
        (Refusal::Rights, Some(id)) => {
            let text = format!("rights: session {id} was used with rights that the client's token does not give");
            RpcError::new(INVALID_REQUEST, text)
        }
        (Refusal::Full(max), _) => {
            RpcError::new(INTERNAL_ERROR, format!("there are {max} sessions here, and that is as many as may be"))
        }
        (Refusal::Closed | Refusal::Unknown | Refusal::Attached(_) | Refusal::Rights, _) => shutting_down(),
    }
}

/// Another connection took the session over.
pub fn session_resumed_elsewhere() -> RpcError {
    RpcError::new(INVALID_REQUEST, "session has been resumed by another connection")
}

/// No session can be made any more.
pub fn shutting_down() -> RpcError {
    RpcError::new(INTERNAL_ERROR, "the executor is shutting down")
}

/// `process/start` failed.
pub fn from_start(error: &StartError) -> RpcError {
    let code = match error {
        StartError::EmptyArgv
        | StartError::SandboxUnavailable
        | StartError::SandboxMissing
        | StartError::VariableName
        | StartError::LimitUnavailable(_) => INVALID_PARAMS,
        StartError::AlreadyExists(_)
        | StartError::Cancelled(_)
        | StartError::SandboxMissingCwd
        | StartError::Refused(_) => INVALID_REQUEST,
        _ => INTERNAL_ERROR,
    };
    RpcError::new(code, error.to_string())
}

/// `process/read` failed.
pub fn from_unknown_process(error: &UnknownProcess) -> RpcError {
    RpcError::new(INVALID_REQUEST, error.to_string())
}

/// `process/write` failed.
pub fn from_write(error: WriteFailed) -> RpcError {
    RpcError::new(INTERNAL_ERROR, error.to_string())
}

/// A newer client's write has no id to tell a repeat by.
pub fn missing_write_id() -> RpcError {
    RpcError::new(INVALID_PARAMS, "missing field `writeId`")
}

/// An id that cannot tell a repeat.
pub fn empty_write_id() -> RpcError {
    RpcError::new(INVALID_PARAMS, "writeId must not be empty")
}

/// The bytes for stdin are no base64.
pub fn bad_chunk(cause: String) -> RpcError {
    RpcError::new(INVALID_PARAMS, cause)
}

/// Limits of a client that did not agree on them: it would not learn that one was passed.
pub fn limits_not_agreed() -> RpcError {
    RpcError::new(INVALID_PARAMS, "`limits` needs the part `limits` of exedra/1, which was not agreed on")
}

/// An `fs` method failed.
pub fn from_fs(error: FsError) -> RpcError {
    let code = match error.kind {
        FsErrorKind::NotFound => NOT_FOUND,
        FsErrorKind::Invalid => INVALID_REQUEST,
        FsErrorKind::Busy => UPLOAD_BUSY,
        FsErrorKind::Other => INTERNAL_ERROR,
    };
    RpcError::new(code, error.text)
}

/// `http/request` failed.
pub fn from_fetch(error: &FetchError) -> RpcError {
    let code = match error {
        FetchError::Invalid(_) => INVALID_PARAMS,
        FetchError::Refused(_) => INVALID_REQUEST,
        _ => INTERNAL_ERROR,
    };
    RpcError::new(code, error.to_string())
}

/// The name of a body stream is taken.
pub fn stream_active(request_id: &str) -> RpcError {
    RpcError::new(INVALID_PARAMS, format!("http/request streamResponse requestId `{request_id}` is already active"))
}

/// One body stream too many.
pub fn too_many_streams(limit: usize) -> RpcError {
    RpcError::new(INTERNAL_ERROR, format!("at most {limit} response bodies may be streamed per connection"))
}

/// A text of the client's choice that is kept here is too long.
pub fn too_long(name: &str, bytes: usize, limit: usize) -> RpcError {
    RpcError::new(INVALID_PARAMS, format!("{name} has {bytes} bytes, at most {limit} are allowed"))
}

/// Nothing new is done, since it could not be written down.
pub fn unwritable(error: &Unwritable) -> RpcError {
    RpcError::new(INTERNAL_ERROR, error.to_string())
}

/// The owner of the machine, or the client's token, does not allow it; the text says which.
pub fn refused(text: String) -> RpcError {
    RpcError::new(INVALID_REQUEST, text)
}

/// A result that no message can carry.
pub fn too_large(bytes: usize, limit: usize) -> RpcError {
    let text = format!("the result takes {bytes} bytes as JSON, a message holds at most {limit}");
    RpcError::new(INTERNAL_ERROR, text)
}

/// What the encoder could not write.
pub fn not_encodable(cause: &serde_json::Error) -> RpcError {
    RpcError::new(INTERNAL_ERROR, format!("the result cannot be written as JSON: {cause}"))
}

/// A mistake of ours.
pub fn panicked() -> RpcError {
    RpcError::new(INTERNAL_ERROR, "internal error")
}
