//! What a registry answered, read: error bodies into code and message, successes into their type. Pure.
//!
//! In flow status, headers and the first 64 KiB of a body, out flow the texts of protocol 3.5. Neither the token nor
//! anything else of the request appears in them, even if the other end repeats it.

use std::borrow::Cow;
use std::time::Duration;

use exedra_proto::registry::{ErrorBody, ErrorDetail};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::Cause;

/// Longest message or preview of a body, in bytes.
const MAX_TEXT: usize = 4096;
/// Shorter tokens are no secrets, and taking them out would garble ordinary words.
const MIN_SECRET: usize = 8;

/// An HTTP answer.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// Status code.
    pub(super) status: u16,
    /// When to come back.
    pub(super) retry_after: Option<Duration>,
    /// The body, cut.
    pub(super) body: Vec<u8>,
    /// The body was longer.
    pub(super) is_cut: bool,
}

/// What an error body says.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Failure {
    /// Status code.
    pub(super) status: u16,
    /// The code in the body.
    pub(super) code: Option<String>,
    /// The message in the body, or a preview of it.
    pub(super) message: String,
    /// When to come back.
    pub(super) retry_after: Option<Duration>,
    /// Further members of the body.
    pub(super) detail: ErrorDetail,
}

/// The part of an error body that stock reads; other members may hold anything.
#[derive(Deserialize)]
struct Shape {
    #[serde(default)]
    error: Option<Members>,
}

#[derive(Deserialize)]
struct Members {
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    message: Option<String>,
}

impl Answer {
    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    pub(super) fn is_auth(&self) -> bool {
        matches!(self.status, 401 | 403)
    }

    /// The body of a success.
    pub(super) fn decode<T: DeserializeOwned>(&self) -> Result<T, Cause> {
        if self.is_cut {
            return Err(Cause("the body is too large".to_owned()));
        }
        serde_json::from_slice(&self.body).map_err(|error| Cause(describe(&error)))
    }

    /// The body of a failure; `secret` is cut out of it.
    pub(super) fn failure(&self, secret: &str) -> Failure {
        let text = String::from_utf8_lossy(&self.body);
        let members = serde_json::from_str::<Shape>(&text).ok().and_then(|shape| shape.error);
        let (code, message) = members.map(|members| (members.code, members.message)).unwrap_or_default();
        let message = match message {
            Some(message) => message,
            None => match text.trim() {
                "" if self.is_auth() => "empty error body".to_owned(),
                "" => "empty or malformed error body".to_owned(),
                text => text.to_owned(),
            },
        };
        Failure {
            status: self.status,
            code: code.map(|code| clean(&code, secret)),
            message: clean(&message, secret),
            retry_after: self.retry_after,
            detail: serde_json::from_slice::<ErrorBody>(&self.body).map(|body| body.error).unwrap_or_default(),
        }
    }
}

/// Cuts `text`, and takes out the token and what would move a terminal's cursor.
fn clean(text: &str, secret: &str) -> String {
    let has_secret = secret.len() >= MIN_SECRET && text.contains(secret);
    let text = if has_secret { Cow::Owned(text.replace(secret, "<redacted>")) } else { Cow::Borrowed(text) };
    let kept = text.get(..text.floor_char_boundary(MAX_TEXT)).unwrap_or_default();
    kept.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

/// The decoder's reason without the values it quotes: a reply holds a ticket.
fn describe(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match error.classify() {
        serde_json::error::Category::Data if text.starts_with("missing field") => text,
        serde_json::error::Category::Data => {
            format!("a value has the wrong type at line {} column {}", error.line(), error.column())
        }
        _ => format!("it is no JSON: error at line {} column {}", error.line(), error.column()),
    }
}

#[cfg(test)]
mod tests {
    use exedra_proto::registry::RegisterReply;

    use super::*;

    fn answer(status: u16, body: impl Into<Vec<u8>>) -> Answer {
        Answer { status, retry_after: None, body: body.into(), is_cut: false }
    }

    fn message(status: u16, body: &str) -> (Option<String>, String) {
        let failure = answer(status, body).failure("token-123");
        (failure.code, failure.message)
    }

    #[test]
    fn the_message_is_chosen_as_stock_does() {
        let code = |code: &str| Some(code.to_owned());
        assert_eq!(message(401, r#"{"error":{"code":"c","message":"nope"}}"#), (code("c"), "nope".into()));
        assert_eq!(message(500, r#"{"error":{"code":"c"}}"#), (code("c"), r#"{"error":{"code":"c"}}"#.into()));
        for odd in [r#"{"error":"boom"}"#, r#"{"error":null}"#, "{}", "<h1>oops</h1>", r#"{"error":{"message":5}}"#] {
            assert_eq!(message(500, &format!("  {odd}\n")), (None, odd.into()));
        }
        assert_eq!(message(403, " \n"), (None, "empty error body".into()));
        assert_eq!(message(404, ""), (None, "empty or malformed error body".into()));
    }

    #[test]
    fn a_preview_counts_bytes_and_ends_with_a_whole_character() {
        for filler in ["a", "ä", "€", "😀"] {
            let (_, preview) = message(500, &format!("x{}", filler.repeat(5000)));
            assert!(preview.len() <= 4096 && preview.len() > 4092, "{}", preview.len());
        }
    }

    #[test]
    fn the_token_and_escape_codes_are_taken_out() {
        assert_eq!(message(500, "bad header: Bearer token-123\x1b[2J\x07").1, "bad header: Bearer <redacted>[2J");
        assert_eq!(message(500, r#"{"error":{"code":"x","message":"token-123"}}"#).1, "<redacted>");
    }

    #[test]
    fn further_members_are_read_where_they_fit() {
        let body = r#"{"error":{"code":"executor_unknown","message":"m","near":["a","b"]}}"#;
        assert_eq!(answer(404, body).failure("t").detail.near, ["a", "b"]);
        let odd = r#"{"error":{"code":"executor_unknown","message":"m","near":5}}"#;
        let failure = answer(404, odd).failure("t");
        assert_eq!((failure.code.as_deref(), failure.detail), (Some("executor_unknown"), ErrorDetail::default()));
    }

    #[test]
    fn an_undecodable_reply_shows_nothing_of_itself() {
        let ticket = "ws://h/?sig=s3cret";
        for body in
            [format!("\"{ticket}\""), format!(r#"{{"id":{{"{ticket}":1}}}}"#), ticket.to_owned(), "hello".into()]
        {
            let cause = answer(200, body).decode::<RegisterReply>().unwrap_err().to_string();
            assert!(!cause.contains("s3cret"), "{cause}");
        }
        let cause = answer(200, r#"{"id":"r","executor_id":"e"}"#).decode::<RegisterReply>().unwrap_err();
        assert!(cause.to_string().starts_with("missing field `url`"), "{cause}");
    }
}
