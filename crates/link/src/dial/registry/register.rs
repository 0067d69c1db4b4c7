//! The executor's call: `POST {base}/cloud/executor/{id}/register`, dialect A (protocol 3).
//!
//! In flows what the executor was started with; the checks and their texts are those of stock 0.130, in its order. Out
//! flow replies whose parts have been checked, among them a ticket, which is never printed.

use std::collections::BTreeMap;

use exedra_proto::registry::{JoinReply, JoinRequest, RegisterReply, RegisterRequest, Transport, idempotency_id};
use exedra_proto::secret::Secret;
use serde::Serialize;
use serde_json::{Map, Value};
use url::Url;
use uuid::Uuid;

use super::HttpOptions;
use super::answer::Answer;
use super::base::Base;
use super::http::{Http, Unanswered};
use crate::error::{Cause, RegisterError};

/// The environment variable that stock executors take their token from.
pub const BEARER_VARIABLE: &str = "CODEX_EXEC_SERVER_REMOTE_BEARER_TOKEN";
/// The name of an executor that was given none.
pub const DEFAULT_NAME: &str = "codex-exec-server";

/// What an executor is started with.
#[derive(Clone, Debug)]
pub struct RegistrationConfig {
    /// The registry; surrounding white space and trailing slashes do not matter.
    pub base_url: String,
    /// The executor's id; surrounding white space does not matter.
    pub executor_id: String,
    /// For people; blank means [`DEFAULT_NAME`].
    pub name: Option<String>,
    /// The token; none if [`BEARER_VARIABLE`] is not set.
    pub bearer: Option<Secret>,
    /// Names this process; one per process start, so that all its registrations count as one.
    pub instance: Uuid,
    /// What it tells beyond stock.
    pub about: Description,
    /// How to talk to the registry.
    pub http: HttpOptions,
}

/// What an executor tells a registry beyond what stock tells; empty, the request is stock's to the byte.
#[derive(Clone, Debug, Default)]
pub struct Description {
    /// For people.
    pub labels: BTreeMap<String, String>,
    /// For people.
    pub metadata: Map<String, Value>,
    /// What it can serve, best first.
    pub transports: Vec<Transport>,
}

/// An executor's registration: checked, and ready to be sent as often as needed. `Debug` redacts the token.
#[derive(Clone, Debug)]
pub struct Registration {
    http: Http,
    endpoint: Url,
    request: RegisterRequest,
    options: HttpOptions,
}

impl Registration {
    /// Checks token, executor id and base URL, in this order; nothing is sent.
    ///
    /// # Errors
    /// [`RegisterError::Credential`] and [`RegisterError::Config`], in the words of stock 0.130.
    pub fn new(config: &RegistrationConfig) -> Result<Self, RegisterError> {
        let bearer = config.bearer.as_ref().ok_or_else(|| missing("not set"))?;
        let bearer = trimmed(bearer)?;
        let id = config.executor_id.trim();
        if id.is_empty() {
            return Err(wrong("executor id is required for remote exec-server registration"));
        }
        let base = Base::normalise(&config.base_url).ok_or_else(|| wrong("executor registry base URL is required"))?;
        let base = Base::parse(base, config.http.insecure_http).map_err(RegisterError::Config)?;
        let endpoint = base.endpoint("cloud/executor", id, "register").map_err(RegisterError::Config)?;
        let name = config.name.as_deref().map(str::trim).filter(|name| !name.is_empty()).unwrap_or(DEFAULT_NAME);
        let request = RegisterRequest {
            idempotency_id: idempotency_id(id, name, config.instance),
            executor_id: id.to_owned(),
            name: Some(name.to_owned()),
            labels: config.about.labels.clone(),
            metadata: Value::Object(config.about.metadata.clone()),
            transports: config.about.transports.iter().map(|transport| transport.name().to_owned()).collect(),
            security_profile: None,
            executor_public_key: None,
        };
        let http = Http::new(base, bearer, &config.http).map_err(RegisterError::Config)?;
        Ok(Self { http, endpoint, request, options: config.http.clone() })
    }

    /// The executor's id.
    pub fn executor_id(&self) -> &str {
        &self.request.executor_id
    }

    /// Uses another token from now on, for example after its file was read again.
    ///
    /// # Errors
    /// [`RegisterError::Credential`] if it is blank, [`RegisterError::Config`] if no header can hold it.
    pub fn set_bearer(&mut self, bearer: &Secret) -> Result<(), RegisterError> {
        self.http = self.http.with_bearer(trimmed(bearer)?).map_err(RegisterError::Config)?;
        Ok(())
    }

    /// Registers.
    ///
    /// # Errors
    /// See [`RegisterError`].
    pub async fn register(&self) -> Result<RegisterReply, RegisterError> {
        let answer = self.post(&self.http, self.endpoint.clone(), &self.request).await?;
        self.read(&answer)
    }

    /// Trades a join token for the credential with this SHA-256 (64 hex digits), which is to be this executor's own.
    ///
    /// # Errors
    /// See [`RegisterError`].
    pub async fn join(&self, join_token: &Secret, credential_sha256: &str) -> Result<JoinReply, RegisterError> {
        let endpoint = self.http.base.beneath("v1", &["join"]).map_err(RegisterError::Config)?;
        let http = self.http.with_bearer(trimmed(join_token)?).map_err(RegisterError::Config)?;
        let request = JoinRequest {
            executor_id: self.request.executor_id.clone(),
            credential_sha256: credential_sha256.to_owned(),
            name: self.request.name.clone().filter(|name| name != DEFAULT_NAME),
        };
        let answer = self.post(&http, endpoint, &request).await?;
        let reply: JoinReply = answer.decode().map_err(RegisterError::Undecodable)?;
        if reply.executor_id != self.request.executor_id {
            return Err(other_executor());
        }
        Ok(reply)
    }

    /// The answer to a POST, which is a success.
    async fn post(&self, http: &Http, endpoint: Url, request: &impl Serialize) -> Result<Answer, RegisterError> {
        let body = serde_json::to_string(request).map_err(|error| RegisterError::Config(error.to_string()))?;
        let posted = http.post(endpoint, body, self.options.request_timeout).await;
        let answer = posted.map_err(|unanswered| match unanswered {
            Unanswered::Failed(text) => RegisterError::Transport(text),
            Unanswered::Redirected(origin) => RegisterError::Redirected(origin),
        })?;
        if answer.is_success() { Ok(answer) } else { Err(refused(http, &answer)) }
    }

    fn read(&self, answer: &Answer) -> Result<RegisterReply, RegisterError> {
        let reply: RegisterReply = answer.decode().map_err(RegisterError::Undecodable)?;
        if reply.executor_id != self.request.executor_id {
            return Err(other_executor());
        }
        let checked = self.http.base.check_ticket(reply.url.expose());
        checked.map_err(|reason| RegisterError::Undecodable(Cause(reason)))?;
        Ok(reply)
    }
}

fn refused(http: &Http, answer: &Answer) -> RegisterError {
    let failure = answer.failure(http.bearer.expose());
    let (status, code, message) = (failure.status, failure.code, failure.message);
    if answer.is_auth() {
        RegisterError::Auth { status, code, message }
    } else {
        RegisterError::Status { status, code, message, retry_after: failure.retry_after }
    }
}

fn other_executor() -> RegisterError {
    RegisterError::Undecodable(Cause("it names another executor".to_owned()))
}

fn trimmed(bearer: &Secret) -> Result<Secret, RegisterError> {
    match bearer.expose().trim() {
        "" => Err(missing("empty")),
        bearer => Ok(Secret::new(bearer)),
    }
}

fn missing(what: &str) -> RegisterError {
    RegisterError::Credential(format!(
        "executor registry bearer token environment variable `{BEARER_VARIABLE}` is {what}"
    ))
}

fn wrong(text: &str) -> RegisterError {
    RegisterError::Config(text.to_owned())
}
