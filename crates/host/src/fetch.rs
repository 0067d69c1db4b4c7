//! `http/request`: an HTTP exchange from this machine's place in the network, metadata services excepted.
//!
//! In flow the params, out flow the head and the body, whole or in pieces. The owner's egress judges the URL, every redirect,
//! and every name after its resolution; behind a proxy the proxy resolves, and only the first two remain. The client behind
//! it is made at the first request: an executor that fetches nothing reads no certificates. Knows no notification and no
//! stream id.

mod guard;
mod redirect;
mod request;

use std::collections::{BTreeMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use exedra_proto::base64::Base64Text;
use exedra_proto::http::{RedirectPolicy, RequestParams, RequestResult};
use reqwest::{Client, ClientBuilder, Response};
use tokio::sync::Mutex;
use tracing::warn;

use self::request::Parts;
use crate::encoding;
pub use crate::error::FetchError;
use crate::policy::egress::Refused;
use crate::policy::{Current, Policy};
pub use guard::{Answer, Lookup};

/// A body that is returned whole, in bytes: what base64 and the rest of a reply leave of a message of 64 MiB.
pub const WHOLE_BODY_LIMIT: usize = (64 * 1024 * 1024 - 1024 * 1024) / 4 * 3;
/// A piece of a streamed body, in bytes.
pub const PIECE_LIMIT: usize = 1024 * 1024;

/// What requests are made with.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FetchConfig {
    /// The variables that headers may name.
    pub environment: BTreeMap<OsString, OsString>,
    /// What the owner allows.
    pub policy: Current,
    /// Who knows the addresses of names.
    pub lookup: Arc<dyn Lookup>,
}

impl Default for FetchConfig {
    fn default() -> Self {
        Self { environment: BTreeMap::new(), policy: Current::default(), lookup: Arc::new(guard::System) }
    }
}

/// Makes requests.
#[derive(Debug)]
pub struct Fetcher {
    config: FetchConfig,
    /// Made for one policy: its connections are to what that allowed.
    client: Mutex<Option<(Arc<Policy>, Client)>>,
}

/// The body of a response, in pieces. Dropped, it ends the exchange.
#[derive(Debug)]
pub struct BodyStream {
    response: Option<Response>,
    rest: Bytes,
}

impl Fetcher {
    /// One that has made no request yet.
    pub fn new(config: FetchConfig) -> Self {
        Self { config, client: Mutex::default() }
    }

    /// The whole exchange, with the body in the result.
    ///
    /// # Errors
    /// Why it failed; also a body that no message could carry.
    pub async fn request(&self, params: RequestParams) -> Result<RequestResult, FetchError> {
        let (mut head, mut body) = self.open(params).await?;
        let whole = body.whole().await?.freeze();
        head.body_base64 = encoding::run(whole.len(), move || Base64Text::encode(&whole)).await;
        Ok(head)
    }

    /// The head of the response, with an empty body, and the body as a stream.
    ///
    /// # Errors
    /// Why it failed.
    pub async fn open(&self, params: RequestParams) -> Result<(RequestResult, BodyStream), FetchError> {
        let policy = self.config.policy.get();
        let mut parts = request::parse(&params, |name| self.variable(&policy, name))?;
        let deadline = params.timeout_ms.and_then(|ms| Instant::now().checked_add(Duration::from_millis(ms)));
        let client = self.client(&policy).await?;
        for _ in 0..=redirect::MOST {
            policy.egress.check(&parts.url).map_err(|why| refused(&why))?;
            let response = send(&client, &parts, deadline).await?;
            let next = match params.redirect_policy {
                RedirectPolicy::Follow => redirect::next(&parts, response.status(), response.headers()),
                RedirectPolicy::Stop => None,
            };
            let Some(next) = next else { return Ok(split(response)) };
            parts = next;
        }
        Err(failed_with(format!("error following redirect for url ({})", parts.url)))
    }

    fn variable(&self, policy: &Policy, name: &str) -> Option<Vec<u8>> {
        let name = OsStr::new(name);
        let value = self.config.environment.get(name).filter(|_| policy.variables.passes(name));
        value.map(|value| value.as_bytes().to_vec())
    }

    async fn client(&self, policy: &Arc<Policy>) -> Result<Client, FetchError> {
        let mut slot = self.client.lock().await;
        if let Some((_, client)) = slot.as_ref().filter(|(made_for, _)| Arc::ptr_eq(made_for, policy)) {
            return Ok(client.clone());
        }
        let client = build(Arc::clone(policy), Arc::clone(&self.config.lookup)).await?;
        *slot = Some((Arc::clone(policy), client.clone()));
        Ok(client)
    }
}

async fn send(client: &Client, parts: &Parts, deadline: Option<Instant>) -> Result<Response, FetchError> {
    let mut request = client.request(parts.method.clone(), parts.url.clone()).headers(parts.headers.clone());
    if let Some(body) = &parts.body {
        request = request.body(body.clone());
    }
    if let Some(deadline) = deadline {
        request = request.timeout(deadline.saturating_duration_since(Instant::now()));
    }
    request.send().await.map_err(failed)
}

fn split(response: Response) -> (RequestResult, BodyStream) {
    let head = RequestResult {
        status: response.status().as_u16(),
        headers: request::headers(response.headers()),
        body_base64: Base64Text::default(),
    };
    (head, BodyStream { response: Some(response), rest: Bytes::new() })
}

impl BodyStream {
    /// The next piece, at most [`PIECE_LIMIT`]; none at the end. After an error nothing follows. Can be dropped and called
    /// again.
    pub async fn next(&mut self) -> Option<Result<Bytes, FetchError>> {
        while self.rest.is_empty() {
            match self.response.as_mut()?.chunk().await {
                Ok(Some(chunk)) => self.rest = chunk,
                Ok(None) => {
                    self.response = None;
                    return None;
                }
                Err(error) => {
                    self.response = None;
                    return Some(Err(FetchError::Failed(error.to_string())));
                }
            }
        }
        Some(Ok(self.rest.split_to(self.rest.len().min(PIECE_LIMIT))))
    }

    async fn whole(&mut self) -> Result<BytesMut, FetchError> {
        let announced = self.response.as_ref().and_then(Response::content_length);
        if announced.is_some_and(|length| length > WHOLE_BODY_LIMIT as u64) {
            return Err(too_large());
        }
        let mut whole = BytesMut::new();
        while let Some(piece) = self.next().await {
            let unread = |e: FetchError| FetchError::Failed(format!("failed to read http/request response body: {e}"));
            whole.extend_from_slice(&piece.map_err(unread)?);
            if whole.len() > WHOLE_BODY_LIMIT {
                return Err(too_large());
            }
        }
        Ok(whole)
    }
}

/// Reads certificates from the disk, hence not on a worker.
async fn build(policy: Arc<Policy>, lookup: Arc<dyn Lookup>) -> Result<Client, FetchError> {
    let build = move || build_now(&policy, &lookup);
    tokio::task::spawn_blocking(build).await.map_err(|e| FetchError::Failed(format!("http/request failed: {e}")))?
}

fn build_now(policy: &Policy, lookup: &Arc<dyn Lookup>) -> Result<Client, FetchError> {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Fails only if somebody was quicker, with one that is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
    let builder = || builder(policy, Arc::clone(lookup));
    let client = builder().build().or_else(|error| {
        warn!(%error, "no certificates of authorities found, https will fail");
        builder().tls_certs_only([]).build()
    });
    client.map_err(failed)
}

fn builder(policy: &Policy, lookup: Arc<dyn Lookup>) -> ClientBuilder {
    let direct = policy.egress.is_limited() && !policy.proxied;
    let proxies = if direct { HashSet::new() } else { guard::proxies(|name| std::env::var(name).ok()) };
    let resolver = guard::Resolver::new(lookup, policy.egress.clone(), proxies);
    // Redirects are followed here, each judged like a request of its own.
    let redirects = reqwest::redirect::Policy::none();
    let builder = Client::builder().dns_resolver(Arc::new(resolver)).redirect(redirects).tcp_nodelay(true);
    if direct { builder.no_proxy() } else { builder }
}

fn failed(error: reqwest::Error) -> FetchError {
    match guard::refusal(&error) {
        Some(why) => refused(why),
        None => failed_with(error),
    }
}

fn refused(why: &Refused) -> FetchError {
    match why {
        Refused::Metadata(_) => failed_with(why),
        Refused::Rule(_) => FetchError::Refused(why.to_string()),
    }
}

fn failed_with(cause: impl std::fmt::Display) -> FetchError {
    FetchError::Failed(format!("http/request failed: {cause}"))
}

fn too_large() -> FetchError {
    let text = format!(
        "failed to read http/request response body: it has more than {WHOLE_BODY_LIMIT} bytes, ask for it with streamResponse"
    );
    FetchError::Failed(text)
}
