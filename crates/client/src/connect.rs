//! From an address to an [`Executor`]: through a server, or straight to a listener.
//!
//! In flow the server's URL, a token and an executor id (or a listener's URL) and a budget of time, out flows an
//! executor with an open session. Whatever may pass by itself (the executor is away, held, or just coming back) is
//! tried again until the budget is used up; no attempt is repeated once a session is open.

mod patience;

use std::time::{Duration, Instant};

use exedra_link::carrier::Carrier;
use exedra_link::dial::registry::{HttpOptions, RegistryClient};
use exedra_link::dial::rendezvous;
use exedra_link::error::LinkError;
use exedra_link::ws::{self, DialOptions};
use exedra_proto::ids::ExecutorId;
use exedra_proto::registry::{ConnectRequest, Transport};
use exedra_proto::secret::Secret;

use crate::error::Error;
use crate::executor::Executor;
use patience::Patience;

/// Who we say we are when a session is opened.
const CLIENT_NAME: &str = "exedra";

/// What a client can speak, best first.
const TRANSPORTS: [Transport; 2] = [Transport::Relay, Transport::Direct];

/// Whoever watches hears after this time that there is a wait.
const TELL_AFTER: Duration = Duration::from_secs(2);

/// A server: its registry leads to executors.
#[derive(Clone, Debug)]
pub struct Server {
    registry: RegistryClient,
    dial: DialOptions,
}

impl Server {
    /// Checks `url` and `token`; nothing is sent. `insecure_http` allows plain http to hosts that are not loopback.
    ///
    /// # Errors
    /// The URL or the token cannot be used.
    pub fn new(url: &str, token: &Secret, insecure_http: bool) -> Result<Self, Error> {
        let http = HttpOptions { insecure_http, ..HttpOptions::default() };
        let registry = RegistryClient::new(url, Some(token), &http).map_err(LinkError::from)?;
        Ok(Self { registry, dial: DialOptions::default() })
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
        let transports = TRANSPORTS.map(|transport| transport.name().to_owned()).into();
        let request = ConnectRequest { public_key: None, transports, wait_ms };
        let reply = self.registry.connect(id, &request).await.map_err(LinkError::from)?;
        // Only what was offered comes back.
        let carrier = Carrier::of(reply.transport).unwrap_or(Carrier::Plain);
        let websocket = rendezvous::join(&reply.url, &carrier.dial_options(self.dial.clone())).await?;
        Executor::open(carrier.join(websocket), CLIENT_NAME).await
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
    mut waiting: impl FnMut(&Error, Duration),
) -> Result<Executor, Error> {
    let url = Secret::new(url);
    let mut patience = Patience::new(budget, Instant::now());
    loop {
        match attempt_listener(&url, token.clone()).await {
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

async fn attempt_listener(url: &Secret, bearer: Option<Secret>) -> Result<Executor, Error> {
    let carrier = Carrier::of_harness(url.expose());
    let options = carrier.dial_options(DialOptions { bearer, ..DialOptions::default() });
    let websocket = ws::dial(url, &options).await?;
    Executor::open(carrier.join(websocket), CLIENT_NAME).await
}
