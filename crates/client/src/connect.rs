//! From an address to an [`Executor`]: through a server, or straight to a listener.
//!
//! In flow the server's URL, a token and an executor id (or a listener's URL) and a budget of time, out flows an
//! executor with an open session. Whatever may pass by itself (the executor is away, held, or just coming back) is
//! tried again until the budget is used up. Once a session is open, a connection that is lost is made again the same way.

use std::time::{Duration, Instant};

use exedra_link::carrier::Carrier;
use exedra_link::connection::Connection;
pub use exedra_link::dial::registry::BearerSource;
pub use exedra_link::dial::registry::Verb;
use exedra_link::dial::registry::{HttpOptions, RegistryClient};
use exedra_link::dial::rendezvous;
use exedra_link::error::LinkError;
use exedra_link::ws::{self, DialOptions};
use exedra_proto::ids::ExecutorId;
use exedra_proto::registry::{ConnectRequest, MAX_WAIT_MS, Transport};
use exedra_proto::secret::Secret;
use exedra_proto::session::ExedraOne;
use serde_json::Value;

use crate::error::Error;
use crate::executor::Executor;
use crate::patience::Patience;
use crate::recover::{Dialling, Recovery};

/// Who we say we are when a session is opened.
const CLIENT_NAME: &str = "exedra";

/// What a client can speak, best first.
const TRANSPORTS: [Transport; 2] = [Transport::Relay, Transport::Direct];

/// Whoever watches hears after this time that there is a wait.
const TELL_AFTER: Duration = Duration::from_secs(2);

/// How long another connection is sought by default: less than the 80 s that executors keep a session at least.
const RECOVERY: Duration = Duration::from_secs(60);

/// How connections are used.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long another connection is sought after one was lost; zero: not at all.
    pub recovery: Duration,
    /// What is offered beyond stock; none: nothing, so that the rules for stock executors are followed.
    pub offer: Option<ExedraOne>,
}

impl Default for Options {
    fn default() -> Self {
        Self { recovery: RECOVERY, offer: Some(ExedraOne::SUPPORTED) }
    }
}

impl Options {
    async fn open<D, F>(self, connection: Connection, direct: bool, dial: D) -> Result<Executor, Error>
    where
        D: Fn(Duration) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Connection, Error>> + Send + 'static,
    {
        let redial = Box::new(move |left| -> Dialling { Box::pin(dial(left)) });
        let recovery = Recovery { budget: self.recovery, redial, direct };
        let recovery = Some(recovery).filter(|recovery| !recovery.budget.is_zero());
        Executor::open_with(connection, CLIENT_NAME, self.offer, recovery).await
    }
}

/// A server: its registry leads to executors.
#[derive(Clone, Debug)]
pub struct Server {
    registry: RegistryClient,
    dial: DialOptions,
    options: Options,
}

impl Server {
    /// Checks `url` and `token`; nothing is sent. `insecure_http` allows plain http to hosts that are not loopback.
    ///
    /// # Errors
    /// The URL or the token cannot be used.
    pub fn new(url: &str, token: &Secret, insecure_http: bool) -> Result<Self, Error> {
        let http = HttpOptions { insecure_http, ..HttpOptions::default() };
        let registry = RegistryClient::new(url, Some(token), &http).map_err(LinkError::from)?;
        Ok(Self { registry, dial: DialOptions::default(), options: Options::default() })
    }

    /// With a token that is read anew before each request.
    #[must_use]
    pub fn reading(mut self, source: BearerSource) -> Self {
        self.registry = self.registry.reading(source);
        self
    }

    /// With other options.
    #[must_use]
    pub fn with(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// Asks the server's own interface, `/v1/{segments}?{query}`, which `docs/openapi.json` describes; null where there is
    /// no answer but that it was done.
    ///
    /// # Errors
    /// The server cannot be reached, or refuses.
    pub async fn ask(&self, verb: Verb, segments: &[&str], query: &[(&str, String)]) -> Result<Value, Error> {
        Ok(self.registry.ask(verb, segments, query).await.map_err(LinkError::from)?)
    }

    /// Connects with executor `id` within `budget`. Each failure that is waited out is told to `waiting`, with what is
    /// left of the budget.
    ///
    /// # Errors
    /// The last failure. Nothing was done there.
    pub async fn executor(
        &self,
        id: &ExecutorId,
        budget: Duration,
        mut waiting: impl FnMut(&Error, Duration),
    ) -> Result<Executor, Error> {
        let mut patience = Patience::new(budget, Instant::now());
        loop {
            let wait_ms = patience.wait_ms(Instant::now());
            match told(self.attempt(id, wait_ms), &patience, &mut waiting).await {
                Ok(executor) => return Ok(executor),
                Err(error) => wait_out(error, &mut patience, &mut waiting).await?,
            }
        }
    }

    async fn attempt(&self, id: &ExecutorId, wait_ms: u64) -> Result<Executor, Error> {
        let connection = self.dial(id, wait_ms).await?;
        let (server, id) = (self.clone(), id.clone());
        let again = move |left: Duration| {
            let (server, id) = (server.clone(), id.clone());
            let wait_ms = u64::try_from(left.as_millis()).unwrap_or(MAX_WAIT_MS).min(MAX_WAIT_MS);
            async move { server.dial(&id, wait_ms).await }
        };
        self.options.open(connection, false, again).await
    }

    async fn dial(&self, id: &ExecutorId, wait_ms: u64) -> Result<Connection, Error> {
        let transports = TRANSPORTS.map(|transport| transport.name().to_owned()).into();
        let request = ConnectRequest { public_key: None, transports, wait_ms };
        let reply = self.registry.connect(id, &request).await.map_err(LinkError::from)?;
        // Only what was offered comes back.
        let carrier = Carrier::of(reply.transport).unwrap_or(Carrier::Plain);
        let websocket = rendezvous::join(&reply.url, &carrier.dial_options(self.dial.clone())).await?;
        Ok(carrier.join(websocket))
    }
}

/// Connects straight to a listener, `ws://`, `wss://` or `unix://`, within `budget`, showing `token` if there is
/// one; `waiting` is as for [`Server::executor`]. As for a stock harness, `role=harness` in the query means a rendezvous
/// that carries relay frames.
///
/// # Errors
/// The last failure. Nothing was done there.
pub async fn listener(
    url: &str,
    token: Option<Secret>,
    budget: Duration,
    waiting: impl FnMut(&Error, Duration),
) -> Result<Executor, Error> {
    listener_with(Options::default(), url, token, budget, waiting).await
}

/// As [`listener`], with options.
///
/// # Errors
/// The last failure. Nothing was done there.
pub async fn listener_with(
    options: Options,
    url: &str,
    token: Option<Secret>,
    budget: Duration,
    mut waiting: impl FnMut(&Error, Duration),
) -> Result<Executor, Error> {
    let url = Secret::new(url);
    let mut patience = Patience::new(budget, Instant::now());
    loop {
        match attempt_listener(options, &url, token.clone()).await {
            Ok(executor) => return Ok(executor),
            Err(error) => wait_out(error, &mut patience, &mut waiting).await?,
        }
    }
}

/// Waits for `attempt`, and tells once if that takes long.
async fn told<T>(
    attempt: impl Future<Output = Result<T, Error>>,
    patience: &Patience,
    waiting: &mut impl FnMut(&Error, Duration),
) -> Result<T, Error> {
    let mut attempt = std::pin::pin!(attempt);
    match tokio::time::timeout(TELL_AFTER, &mut attempt).await {
        Ok(done) => done,
        Err(_) => {
            waiting(&Error::NoAnswerYet, patience.left(Instant::now()));
            attempt.await
        }
    }
}

/// Pauses after a failure that may pass, if there is time for another attempt; fails with it otherwise.
async fn wait_out(
    error: Error,
    patience: &mut Patience,
    waiting: &mut impl FnMut(&Error, Duration),
) -> Result<(), Error> {
    tracing::debug!(%error, "no executor yet");
    let now = Instant::now();
    match patience.pause(error.retry_after(), now) {
        Some(pause) if error.is_retryable() => {
            waiting(&error, patience.left(now));
            tokio::time::sleep(pause).await;
            Ok(())
        }
        _ => Err(error),
    }
}

async fn attempt_listener(options: Options, url: &Secret, bearer: Option<Secret>) -> Result<Executor, Error> {
    let connection = dial_listener(url, bearer.clone()).await?;
    let direct = Carrier::of_harness(url.expose()) == Carrier::Plain;
    let url = url.clone();
    let again = move |_| {
        let (url, bearer) = (url.clone(), bearer.clone());
        async move { dial_listener(&url, bearer).await }
    };
    options.open(connection, direct, again).await
}

async fn dial_listener(url: &Secret, bearer: Option<Secret>) -> Result<Connection, Error> {
    let carrier = Carrier::of_harness(url.expose());
    let options = carrier.dial_options(DialOptions { bearer, ..DialOptions::default() });
    let websocket = ws::dial(url, &options).await?;
    Ok(carrier.join(websocket))
}
