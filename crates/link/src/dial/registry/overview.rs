//! The registry's own interface, `/v1`, for those who look at it or govern it: one request, one JSON value.
//!
//! In flow a path's segments and a query, out flows what the registry answered. What the values mean is for the caller.

use std::time::Duration;

use serde_json::Value;

use super::RegistryClient;
use super::answer::Failure;
use super::connect::unreached;
pub use super::http::Verb;
use crate::error::ConnectError;

/// Time that the registry has for its answer.
const PATIENCE: Duration = Duration::from_secs(30);

impl RegistryClient {
    /// Asks `/v1/{segments}?{query}`; the answer, null where there is none. Segments may hold anything.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn ask(&self, verb: Verb, segments: &[&str], query: &[(&str, String)]) -> Result<Value, ConnectError> {
        let http = self.http()?;
        let mut url = http.base.beneath("v1", segments).map_err(ConnectError::Config)?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let answer = http.ask(verb, url, PATIENCE).await.map_err(unreached)?;
        if !answer.is_success() {
            let Failure { status, code, message, retry_after, .. } = answer.failure(http.bearer.expose());
            return Err(match answer.is_auth() {
                true => ConnectError::Auth { status, code, message },
                false => ConnectError::Status { status, code, message, retry_after },
            });
        }
        if answer.body.is_empty() { Ok(Value::Null) } else { answer.decode().map_err(ConnectError::Undecodable) }
    }
}
