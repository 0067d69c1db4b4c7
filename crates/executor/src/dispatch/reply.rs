//! Answers as text, none of them larger than a message may be.
//!
//! In flow an id and a result or refusal, out flows JSON. It knows no connection.

use exedra_proto::envelope::{self, RequestId, RpcError};
use serde::Serialize;

use super::errors;

/// Largest message that clients take, in bytes (protocol 20).
pub const MAX_MESSAGE: usize = 64 * 1024 * 1024;
/// From here on, text is made and read on the blocking pool, so that one large message does not hold up others.
pub const LARGE: usize = 1024 * 1024;

/// The answer to request `id`. `size` is a guess of its length in bytes.
pub async fn encode<R>(id: RequestId, result: Result<R, RpcError>, size: usize) -> String
where
    R: Serialize + Send + 'static,
{
    let result = match result {
        Err(error) => return refusal(&id, &error),
        Ok(_) if size > MAX_MESSAGE => return refusal(&id, &errors::too_large(size, MAX_MESSAGE)),
        Ok(result) => result,
    };
    if size < LARGE {
        return response(&id, &result, MAX_MESSAGE);
    }
    let worker_id = id.clone();
    let text = tokio::task::spawn_blocking(move || response(&worker_id, &result, MAX_MESSAGE)).await;
    text.unwrap_or_else(|_| refusal(&id, &errors::shutting_down()))
}

/// The answer that request `id` is not served.
pub fn refusal(id: &RequestId, error: &RpcError) -> String {
    // An RpcError is a number and a text: encoding it cannot fail.
    envelope::error(id, error).unwrap_or_default()
}

/// `answer`, or the refusal of request `id` if no message can carry it.
pub fn within_limit(id: &RequestId, answer: String) -> String {
    if answer.len() > MAX_MESSAGE { refusal(id, &errors::too_large(answer.len(), MAX_MESSAGE)) } else { answer }
}

fn response<R: Serialize>(id: &RequestId, result: &R, limit: usize) -> String {
    match envelope::response(id, result) {
        Ok(text) if text.len() > limit => refusal(id, &errors::too_large(text.len(), limit)),
        Ok(text) => text,
        Err(cause) => refusal(id, &errors::not_encodable(&cause)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: RequestId = RequestId::Integer(7);

    #[tokio::test]
    async fn a_large_result_is_encoded_elsewhere_and_the_same() {
        let result = "x".repeat(LARGE);
        let here = encode(ID, Ok(result.clone()), 0).await;
        assert_eq!(here, encode(ID, Ok(result), LARGE).await);
        assert_eq!(here.len(), LARGE + r#"{"id":7,"result":""}"#.len());
    }

    #[tokio::test]
    async fn what_no_message_can_carry_becomes_a_refusal() {
        let guessed = encode(ID, Ok("x"), MAX_MESSAGE + 1).await;
        assert!(guessed.contains("the result takes 67108865 bytes as JSON, a message holds at most 67108864"));
        let measured = response(&ID, &"x".repeat(100), 119);
        assert!(measured.starts_with(r#"{"error":{"code":-32603,"message":"the result takes 120 bytes"#), "{measured}");
        assert!(response(&ID, &"x".repeat(100), 120).starts_with(r#"{"id":7,"result":"#));
    }
}
