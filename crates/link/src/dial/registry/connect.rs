//! The client's call: `POST {base}/v1/executors/{id}/connect`.
//!
//! In flow an executor id and how long to wait for it, out flows a ticket for one websocket, or why there is none: the
//! executor is unknown, away or held, or the token does not reach that far.

use std::time::Duration;

use exedra_proto::ids::ExecutorId;
use exedra_proto::registry::{ConnectReply, ConnectRequest, MAX_WAIT_MS, code};
use exedra_proto::secret::Secret;

use super::HttpOptions;
use super::answer::Answer;
use super::base::Base;
use super::bearer::BearerSource;
use super::http::{Http, Unanswered};
use crate::error::{Cause, ConnectError};

/// Time that the registry has for its answer, beyond what it was asked to wait.
const MARGIN: Duration = Duration::from_secs(15);
/// Near names that are passed on.
const MAX_NEAR: usize = 5;

/// A registry and the token for it; `Debug` redacts the token. Clones share connections.
#[derive(Clone, Debug)]
pub struct RegistryClient {
    http: Http,
    source: Option<BearerSource>,
}

impl RegistryClient {
    /// Checks `bearer` and `base_url`, in this order; nothing is sent.
    ///
    /// # Errors
    /// [`ConnectError::Credential`] and [`ConnectError::Config`].
    pub fn new(base_url: &str, bearer: Option<&Secret>, options: &HttpOptions) -> Result<Self, ConnectError> {
        let bearer = bearer.map(|bearer| bearer.expose().trim()).filter(|bearer| !bearer.is_empty());
        let bearer = bearer.ok_or_else(|| ConnectError::Credential("a token is required".to_owned()))?;
        let base =
            Base::normalise(base_url).ok_or_else(|| ConnectError::Config("a server URL is required".to_owned()))?;
        let base = Base::parse(base, options.insecure_http).map_err(ConnectError::Config)?;
        let http = Http::new(base, Secret::new(bearer), options).map_err(ConnectError::Config)?;
        Ok(Self { http, source: None })
    }

    /// The same registry, where the token is read anew before each request, since what it comes from may change.
    #[must_use]
    pub fn reading(self, source: BearerSource) -> Self {
        Self { source: Some(source), ..self }
    }

    /// With the token as it is now.
    pub(super) fn http(&self) -> Result<Http, ConnectError> {
        let Some(source) = &self.source else { return Ok(self.http.clone()) };
        let bearer = source.read().map_err(ConnectError::Credential)?;
        self.http.with_bearer(bearer).map_err(ConnectError::Credential)
    }

    /// Asks to be connected with an executor; waits up to `wait_ms` of the request and 15 s.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect(&self, id: &ExecutorId, request: &ConnectRequest) -> Result<ConnectReply, ConnectError> {
        let http = self.http()?;
        let endpoint = http.base.endpoint("v1/executors", id.as_str(), "connect").map_err(ConnectError::Config)?;
        let body = serde_json::to_string(request).map_err(|error| ConnectError::Config(error.to_string()))?;
        let timeout = Duration::from_millis(request.wait_ms.min(MAX_WAIT_MS)) + MARGIN;
        let answer = http.post(endpoint, body, timeout).await.map_err(unreached)?;
        if answer.is_success() { self.read(id, request, &answer) } else { Err(refused(&http, id, &answer)) }
    }

    fn read(&self, id: &ExecutorId, request: &ConnectRequest, answer: &Answer) -> Result<ConnectReply, ConnectError> {
        let reply: ConnectReply = answer.decode().map_err(ConnectError::Undecodable)?;
        let name = reply.transport.name();
        if !request.transports.is_empty() && !request.transports.iter().any(|offered| offered == name) {
            let cause = format!("it names the transport `{name}`, which was not offered");
            return Err(ConnectError::Undecodable(Cause(cause)));
        }
        if reply.executor_id != *id {
            return Err(ConnectError::Undecodable(Cause("it names another executor".to_owned())));
        }
        let checked = self.http.base.check_ticket(reply.url.expose());
        checked.map_err(|reason| ConnectError::Undecodable(Cause(reason)))?;
        Ok(reply)
    }
}

fn refused(http: &Http, id: &ExecutorId, answer: &Answer) -> ConnectError {
    let failure = answer.failure(http.bearer.expose());
    let (status, message, detail) = (failure.status, failure.message, failure.detail);
    let executor = id.as_str().to_owned();
    match failure.code.as_deref() {
        _ if answer.is_auth() => ConnectError::Auth { status, code: failure.code, message },
        Some(code::EXECUTOR_UNKNOWN) => ConnectError::Unknown { executor, near: near(&detail.near) },
        Some(code::ENVIRONMENT_OFFLINE) => ConnectError::Offline { executor, last_seen: detail.last_seen },
        Some(code::EXECUTOR_BUSY) => ConnectError::Busy { executor, held_since: detail.held_since },
        _ => ConnectError::Status { status, code: failure.code, message, retry_after: failure.retry_after },
    }
}

/// Why there is no answer.
pub(super) fn unreached(unanswered: Unanswered) -> ConnectError {
    match unanswered {
        Unanswered::Failed(text) => ConnectError::Transport(text),
        Unanswered::Redirected(origin) => ConnectError::Redirected(origin),
    }
}

/// Names that could be executors'.
fn near(names: &[String]) -> Vec<String> {
    names.iter().filter(|name| ExecutorId::parse(name).is_ok()).take(MAX_NEAR).cloned().collect()
}
