//! Talks to a registry over HTTP: an executor registers, a client asks to be connected with one.
//!
//! In flow a base URL, a token and an id, out flow the registry's reply or an error by what the caller can do. The
//! register call is exactly that of stock 0.130 (protocol 3). The token goes to the origin of the base URL and nowhere
//! else; neither it nor the ticket in a reply is printed.

use std::time::Duration;

use exedra_proto::ids::ExecutorId;
use exedra_proto::registry::{ConnectReply, ConnectRequest, RegisterReply};
use exedra_proto::secret::Secret;
use uuid::Uuid;

use crate::error::{ConnectError, RegisterError};

/// The environment variable that stock executors take their token from.
pub const BEARER_VARIABLE: &str = "CODEX_EXEC_SERVER_REMOTE_BEARER_TOKEN";
/// The name of an executor that was given none.
pub const DEFAULT_NAME: &str = "codex-exec-server";

/// How to talk to a registry.
#[derive(Clone, Debug)]
pub struct HttpOptions {
    /// Allows plain http (and ws) to hosts that are not loopback.
    pub insecure_http: bool,
    /// Limit for the TCP and TLS connection.
    pub connect_timeout: Duration,
    /// Limit for a request, beyond what it asks the registry to wait.
    pub request_timeout: Duration,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            insecure_http: false,
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
        }
    }
}

/// A registry and the token for it; `Debug` redacts the token. Clones share connections.
#[derive(Clone, Debug)]
pub struct RegistryClient {
    bearer: Secret,
}

impl RegistryClient {
    /// Checks `bearer` and `base_url`, in this order; nothing is sent.
    ///
    /// # Errors
    /// [`RegisterError::Credential`] and [`RegisterError::Config`], in the words of stock 0.130.
    pub fn new(base_url: &str, bearer: Option<&Secret>, options: &HttpOptions) -> Result<Self, RegisterError> {
        let _ = (base_url, bearer, options);
        Err(RegisterError::Config(String::new()))
    }

    /// The same registry with another token.
    ///
    /// # Errors
    /// [`RegisterError::Credential`] if it is blank.
    pub fn with_bearer(&self, bearer: &Secret) -> Result<Self, RegisterError> {
        Ok(Self { bearer: bearer.clone() })
    }

    /// Asks to be connected with an executor; waits up to `wait_ms` of the request and 15 s.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect(&self, id: &ExecutorId, request: &ConnectRequest) -> Result<ConnectReply, ConnectError> {
        let _ = (id, request, &self.bearer);
        Err(ConnectError::Config(String::new()))
    }
}

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
    /// How to talk to the registry.
    pub http: HttpOptions,
}

/// An executor's registration: checked, and ready to be sent as often as needed.
#[derive(Clone, Debug)]
pub struct Registration {
    client: RegistryClient,
}

impl Registration {
    /// Checks token, executor id and base URL, in this order; nothing is sent.
    ///
    /// # Errors
    /// [`RegisterError::Credential`] and [`RegisterError::Config`], in the words of stock 0.130.
    pub fn new(config: &RegistrationConfig) -> Result<Self, RegisterError> {
        let client = RegistryClient::new(&config.base_url, config.bearer.as_ref(), &config.http)?;
        Ok(Self { client })
    }

    /// Uses another token from now on, for example after its file was read again.
    ///
    /// # Errors
    /// [`RegisterError::Credential`] if it is blank.
    pub fn set_bearer(&mut self, bearer: &Secret) -> Result<(), RegisterError> {
        self.client = self.client.with_bearer(bearer)?;
        Ok(())
    }

    /// Registers.
    ///
    /// # Errors
    /// See [`RegisterError`].
    pub async fn register(&self) -> Result<RegisterReply, RegisterError> {
        Err(RegisterError::Config(String::new()))
    }
}
