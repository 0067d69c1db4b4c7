//! One POST to a registry: the token and a JSON body out, an answer in, over connections that are kept.
//!
//! Redirects are followed inside the origin of the base URL only. Bodies are read up to a limit, and the whole exchange
//! has a time limit. Nothing here knows what is asked.

use std::error::Error as _;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ::http::header::{AUTHORIZATION, CONTENT_TYPE};
use ::http::{HeaderMap, HeaderName, HeaderValue};
use exedra_proto::registry::MAX_BODY_BYTES;
use exedra_proto::secret::Secret;
use reqwest::redirect::{Attempt, Policy};
use rustls::{ClientConfig, RootCertStore};
use url::Url;

use super::HttpOptions;
use super::answer::Answer;
use super::base::Base;
use super::trace;
use crate::retry_after;
use crate::ws::client_tls;

const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");
/// Largest listing that is read: a page of it, and an executor says at most 8 KiB of itself.
const MAX_LISTING: usize = 4 * 1024 * 1024;
/// Redirects that are followed one after the other.
const MAX_REDIRECTS: usize = 10;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// To look.
    Get,
    /// To have something done.
    Post,
    /// To have something undone or taken away.
    Delete,
}

/// A registry, with the token for it.
#[derive(Clone, Debug)]
pub(super) struct Http {
    pub(super) base: Base,
    pub(super) bearer: Secret,
    client: reqwest::Client,
    header: HeaderValue,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// The registry could not be reached, or did not answer in time.
    Failed(String),
    /// It sent us to another origin.
    Redirected(String),
}

/// A redirect that is not followed.
#[derive(Debug)]
struct Elsewhere(String);

impl fmt::Display for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "redirected to {}", self.0)
    }
}

impl std::error::Error for Elsewhere {}

impl Http {
    /// `bearer` is trimmed and not blank.
    pub(super) fn new(base: Base, bearer: Secret, options: &HttpOptions) -> Result<Self, String> {
        let header = bearer_header(&bearer)?;
        let origin = base.clone();
        let mut client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls(&base, options)?)
            .connect_timeout(options.connect_timeout)
            .redirect(Policy::custom(move |attempt| follow(&origin, attempt)));
        if base.is_loopback() {
            client = client.no_proxy();
        }
        let client = client.build().map_err(|error| chain(&error))?;
        Ok(Self { base, bearer, client, header })
    }

    /// The same registry, and the same connections, with another token.
    pub(super) fn with_bearer(&self, bearer: Secret) -> Result<Self, String> {
        let header = bearer_header(&bearer)?;
        Ok(Self { base: self.base.clone(), bearer, client: self.client.clone(), header })
    }

    /// Posts `json` to `url`, which is one of the base's.
    pub(super) async fn post(&self, url: Url, json: String, timeout: Duration) -> Result<Answer, Unanswered> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, self.header.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Ok(parent) = HeaderValue::from_str(&trace::parent()) {
            headers.insert(TRACE_PARENT, parent);
        }
        let request = self.client.post(url).headers(headers).body(json).timeout(timeout);
        Self::send(request, MAX_BODY_BYTES).await
    }

    /// Asks for `url`, which is one of the base's, without a body.
    pub(super) async fn ask(&self, verb: Verb, url: Url, timeout: Duration) -> Result<Answer, Unanswered> {
        let request = match verb {
            Verb::Get => self.client.get(url),
            Verb::Post => self.client.post(url),
            Verb::Delete => self.client.delete(url),
        };
        Self::send(request.header(AUTHORIZATION, self.header.clone()).timeout(timeout), MAX_LISTING).await
    }

    async fn send(request: reqwest::RequestBuilder, max: usize) -> Result<Answer, Unanswered> {
        let mut response = request.send().await.map_err(unanswered)?;
        let mut answer = Answer {
            status: response.status().as_u16(),
            retry_after: retry_after::of(response.headers()),
            body: Vec::new(),
            is_cut: false,
        };
        while let Some(piece) = response.chunk().await.map_err(unanswered)? {
            let room = max - answer.body.len();
            answer.body.extend(piece.iter().take(room));
            if piece.len() > room {
                answer.is_cut = true;
                break;
            }
        }
        Ok(answer)
    }
}

fn bearer_header(bearer: &Secret) -> Result<HeaderValue, String> {
    let mut header = HeaderValue::from_str(&format!("Bearer {}", bearer.expose()))
        .map_err(|_| "the bearer token has characters that no HTTP header may have".to_owned())?;
    header.set_sensitive(true);
    Ok(header)
}

fn tls(base: &Base, options: &HttpOptions) -> Result<ClientConfig, String> {
    let mut config = match &options.tls {
        Some(config) => ClientConfig::clone(config),
        None if base.is_plain() => no_tls()?,
        None => ClientConfig::clone(&*client_tls()?),
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Redirects never leave the origin, so a plain base never meets a certificate, and loading them takes a while.
fn no_tls() -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| error.to_string())?;
    Ok(config.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

fn follow(base: &Base, attempt: Attempt<'_>) -> reqwest::redirect::Action {
    if !base.is_origin_of(attempt.url()) {
        let elsewhere = Elsewhere(attempt.url().origin().ascii_serialization());
        return attempt.error(elsewhere);
    }
    if attempt.previous().len() > MAX_REDIRECTS {
        return attempt.error("too many redirects");
    }
    attempt.follow()
}

fn unanswered(error: reqwest::Error) -> Unanswered {
    let error = error.without_url();
    match error.source().and_then(|source| source.downcast_ref::<Elsewhere>()) {
        Some(Elsewhere(origin)) => Unanswered::Redirected(origin.clone()),
        None => Unanswered::Failed(chain(&error)),
    }
}

/// The texts of `error` and of what is beneath it.
fn chain(error: &reqwest::Error) -> String {
    let mut texts = vec![error.to_string()];
    let mut deeper = error.source();
    while let Some(error) = deeper {
        texts.push(error.to_string());
        deeper = error.source();
    }
    texts.dedup();
    texts.join(": ")
}
