//! What a registry is started with, and the URL under which it is known.
//!
//! Settings flow in, checked values flow out. Times that tests shorten stand here with the values that hold elsewhere.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use crate::clock::{Clock, SystemClock};
use crate::error::RegistryError;
use crate::rates::RateLimits;
use crate::store::Watch;
use crate::workload::WorkloadConfig;

/// For how long lines of the access log are kept, unless somebody says so.
pub const ACCESS_KEEP: Duration = Duration::from_secs(400 * 24 * 60 * 60);

/// What a registry is started with.
pub struct RegistryConfig {
    /// Where the records are kept.
    pub data_dir: PathBuf,
    /// What the data directory is held for, as a second server is told: `exedra serve`.
    pub purpose: String,
    /// The hold on the data directory of the registry whose place this one takes, from [`Registry::hold`](crate::Registry::hold).
    pub hold: Option<OwnedFd>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The signing key is replaced at this age.
    pub key_max_age: Duration,
    /// For how long an executor is kept for a client that was given a ticket and has not come yet.
    /// A client that died on its way blocks the executor for so long.
    pub reservation: Duration,
    /// How long a registration waits for a store that is busy or full, in all, before it is answered 503: less than the 30 s
    /// that our executors wait for an answer; stock ones wait for ever.
    pub write_patience: Duration,
    /// Time between two rounds of housekeeping: `last_seen` is saved, the signing key's age looked at, a write
    /// tried. So much of `last_seen` is lost at most.
    pub housekeeping: Duration,
    /// A name is for the first key that registered it, and for no other.
    pub bind_keys: bool,
    /// How often may be asked.
    pub rates: RateLimits,
    /// How long a registration waits whose token asks too often; then it is served, since stock executors end on any refusal.
    pub rate_patience: Duration,
    /// The region that signed registrations name.
    pub aws_region: String,
    /// Whom other issuers vouch for; nobody, if not set.
    pub workloads: Option<WorkloadConfig>,
    /// For how long lines of the access log are kept.
    pub access_keep: Duration,
    /// Who is told how long the store takes.
    pub store_watch: Option<Watch>,
    /// Time between two looks for tokens that were revoked or have expired, whose connections then have to go; and between
    /// two tries at a store that cannot be written.
    pub token_watch: Duration,
}

impl RegistryConfig {
    /// The usual settings on this data directory.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            purpose: "exedra serve".to_owned(),
            hold: None,
            clock: Arc::new(SystemClock),
            key_max_age: Duration::from_secs(7 * 24 * 60 * 60),
            reservation: Duration::from_secs(2),
            write_patience: Duration::from_secs(20),
            bind_keys: false,
            rates: RateLimits::default(),
            rate_patience: Duration::from_secs(10),
            aws_region: "us-east-1".to_owned(),
            workloads: None,
            access_keep: ACCESS_KEEP,
            store_watch: None,
            housekeeping: Duration::from_secs(60),
            token_watch: Duration::from_secs(1),
        }
    }
}

/// The URL by which executors and clients reach the server, for the tickets. The Host header is never used for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicUrl {
    http: String,
}

impl PublicUrl {
    /// A URL that somebody set: `http` or `https`, a host, perhaps a port and a path.
    ///
    /// # Errors
    /// [`RegistryError::Config`], which does not repeat the text.
    pub fn parse(text: &str) -> Result<Self, RegistryError> {
        let wrong = |what: &str| RegistryError::Config(format!("the public URL {what}"));
        let url = Url::parse(text.trim()).map_err(|error| wrong(&format!("is no URL: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong("has to start with http:// or https://"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("must not hold a user or a password"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("must not have a query or a fragment"));
        }
        Ok(Self { http: url.as_str().trim_end_matches('/').to_owned() })
    }

    /// The URL of a listener on loopback, which speaks TLS or not.
    ///
    /// # Errors
    /// [`RegistryError::Config`] for any other address: who comes from elsewhere needs a URL that somebody set.
    pub fn of_listener(address: SocketAddr, tls: bool) -> Result<Self, RegistryError> {
        if !address.ip().is_loopback() {
            let text = format!("listening on {address}, which is not loopback, needs --public-url");
            return Err(RegistryError::Config(text));
        }
        let scheme = if tls { "https" } else { "http" };
        Ok(Self { http: format!("{scheme}://{address}") })
    }

    /// For requests: `http://host:port`, no slash at the end.
    pub fn http_base(&self) -> &str {
        &self.http
    }

    /// For tickets: `ws://host:port`, no slash at the end.
    pub fn ws_base(&self) -> String {
        match self.http.strip_prefix("http") {
            Some(rest) => format!("ws{rest}"),
            None => self.http.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_url_gives_both_bases() {
        for (text, http, ws) in [
            ("http://h:1", "http://h:1", "ws://h:1"),
            (" https://x.example/ ", "https://x.example", "wss://x.example"),
            ("https://x.example:8443/a/b//", "https://x.example:8443/a/b", "wss://x.example:8443/a/b"),
            ("http://[::1]:8900", "http://[::1]:8900", "ws://[::1]:8900"),
        ] {
            let url = PublicUrl::parse(text).unwrap();
            assert_eq!((url.http_base(), url.ws_base().as_str()), (http, ws));
        }
    }

    #[test]
    fn what_is_no_public_url_is_refused_without_repeating_it() {
        for bad in ["", "hunter2", "ws://h", "ftp://h", "http://me:hunter2@h", "http://h?hunter2", "http://h#hunter2"] {
            let error = PublicUrl::parse(bad).unwrap_err().to_string();
            assert!(error.starts_with("the public URL ") && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn only_loopback_needs_no_url() {
        let of = |text: &str| PublicUrl::of_listener(text.parse().unwrap(), false);
        assert_eq!(of("127.0.0.1:8900").unwrap().ws_base(), "ws://127.0.0.1:8900");
        assert_eq!(of("[::1]:1").unwrap().http_base(), "http://[::1]:1");
        let secured = PublicUrl::of_listener("127.0.0.1:1".parse().unwrap(), true).unwrap();
        assert_eq!((secured.http_base(), &*secured.ws_base()), ("https://127.0.0.1:1", "wss://127.0.0.1:1"));
        for address in ["0.0.0.0:8900", "[::]:8900", "192.0.2.1:1"] {
            assert!(of(address).unwrap_err().to_string().contains("--public-url"), "{address}");
        }
    }
}
