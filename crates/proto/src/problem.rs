//! The body of an answer that is no success, whoever answers: registry, rendezvous, or the door before them.
//!
//! Status, words and an [`ErrorDetail`] flow in, one shape flows out: the members of RFC 9457, and beside them upstream's.
//! Knows no HTTP library; which code goes with which status is said by whoever answers.

use serde::{Deserialize, Serialize};

use crate::registry::ErrorDetail;

/// Under these paths the form of a body says that it is a problem; stock peers, which ask under others, know JSON alone.
const OWN: &str = "/v1/";

/// The body.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProblemBody {
    /// `urn:exedra:problem:` and the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// What the status means.
    pub title: String,
    /// The status.
    pub status: u16,
    /// What went wrong, for people.
    pub detail: String,
    /// The same in upstream's shape.
    pub error: ErrorDetail,
}

impl ProblemBody {
    /// That of a status, which is called `title`.
    pub fn new(status: u16, title: &str, error: ErrorDetail) -> Self {
        let code = error.code.as_deref().unwrap_or_default();
        let kind = format!("urn:exedra:problem:{code}");
        Self { kind, title: title.to_owned(), status, detail: error.message.clone().unwrap_or_default(), error }
    }

    /// One that has a code and words, and no more.
    pub fn plain(status: u16, title: &str, code: &str, message: &str) -> Self {
        let (code, message) = (Some(code.to_owned()), Some(message.to_owned()));
        Self::new(status, title, ErrorDetail { code, message, ..ErrorDetail::default() })
    }

    /// As it is sent.
    pub fn bytes(&self) -> Vec<u8> {
        // It has no member that cannot be written.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// The content type of such a body where this path was asked for.
pub fn form(path: &str) -> &'static str {
    if path.starts_with(OWN) { "application/problem+json" } else { "application/json" }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::registry::code;

    #[test]
    fn it_has_the_members_of_rfc_9457_and_those_of_upstream() {
        let body = ProblemBody::plain(403, "Forbidden", code::FORBIDDEN, "not here");
        let sent: serde_json::Value = serde_json::from_slice(&body.bytes()).unwrap();
        let error = json!({"code": "forbidden", "message": "not here"});
        assert_eq!(
            sent,
            json!({
                "type": "urn:exedra:problem:forbidden", "title": "Forbidden", "status": 403, "detail": "not here",
                "error": error,
            })
        );
    }

    #[test]
    fn stock_peers_are_told_that_it_is_json() {
        assert_eq!(form("/v1/executors"), "application/problem+json");
        for path in ["/cloud/executor/v1/register", "/rendezvous/v1", "/readyz", "/v1"] {
            assert_eq!(form(path), "application/json", "{path}");
        }
    }
}
