//! One issuer at work: its keys, and the one task that fetches them.
//!
//! Whoever needs a key asks here. A known one is had at once; for an unknown one the next fetch is waited for, by registrations
//! also when it may not begin yet, as far as there is a place to wait. Requests that give up do not take a fetch with them. When
//! something is fetched, the pure cache in `keys` decides.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use url::{Host, Url};

use super::fetch::{Fetch, MAX_FETCHED};
use super::guarded;
use super::keys::{self, Cache, Key, Look};
use super::places::Places;
use super::{Asker, Fault};
use crate::clock::Clock;

/// How long an issuer has for both of its documents.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long somebody who needs a key waits for a fetch: longer than one takes, and less than the 10 s after which a stock
/// client gives up, with a margin for the way.
const WAIT: Duration = Duration::from_secs(7);
/// Time between two looks of whoever waits until the next fetch may begin.
const LOOK: Duration = Duration::from_millis(200);
/// Largest file of certificates, in bytes; those of whole systems have some 220 KiB.
const MAX_AUTHORITIES: usize = 1024 * 1024;

/// What the file says of an issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Its URL, letter by letter as its tokens name it.
    pub url: String,
    /// Whom its tokens have to be for.
    pub audience: String,
    /// How its tokens may be signed.
    pub algorithms: Vec<Algorithm>,
    /// By how much its clock may be off, in seconds.
    pub skew: u64,
    /// Whom to trust when its documents are fetched.
    pub authorities: Option<PathBuf>,
    /// Where its keys are, if they are not fetched.
    pub keys: Option<PathBuf>,
}

/// An issuer.
pub struct Issuer {
    /// What it is.
    pub settings: Settings,
    cache: Mutex<Cache>,
    wanted: Notify,
    /// Counts the attempts.
    tried: watch::Sender<u64>,
    places: Arc<Places>,
}

impl Issuer {
    /// With the keys that are known of it, and places for those who wait for others.
    pub fn new(settings: Settings, cache: Option<Cache>, places: Arc<Places>) -> Self {
        let cache = Mutex::new(cache.unwrap_or_default());
        Self { settings, cache, wanted: Notify::new(), tried: watch::Sender::new(0), places }
    }

    /// A copy of what is known. A fetch that is under way is not the copy's.
    pub fn cache(&self) -> Cache {
        let mut cache = self.lock().clone();
        cache.abandon();
        cache
    }

    /// The key of that id.
    ///
    /// # Errors
    /// There is none, or that cannot be found out within the asker's time.
    pub async fn key(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
        asker: &Asker,
        clock: &dyn Clock,
    ) -> Result<DecodingKey, Fault> {
        // A fetch that is under way at the end of somebody's patience is waited for.
        let deadline = asker.until.map_or_else(|| Instant::now() + WAIT, |until| until + PATIENCE);
        let away = Fault::Away(keys::PAUSE_AFTER_FAILURE);
        timeout_at(deadline, self.find(id, algorithm, asker, clock)).await.unwrap_or(Err(away))
    }

    async fn find(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
        asker: &Asker,
        clock: &dyn Clock,
    ) -> Result<DecodingKey, Fault> {
        let since = self.lock().begun();
        let mut place = None;
        loop {
            let mut tried = self.tried.subscribe();
            let look = self.lock().look(id, algorithm, since, clock.now());
            let (fault, is_pausing) = match look {
                Look::Found { key, is_stale } => {
                    if is_stale {
                        self.wanted.notify_one();
                    }
                    return Ok(key);
                }
                Look::None => return Err(Fault::Key),
                Look::Later(pause) => (Fault::Later(pause), true),
                Look::Away(pause) => (Fault::Away(pause), true),
                Look::Fetch => (Fault::Away(keys::PAUSE_AFTER_FAILURE), false),
            };
            if is_pausing && asker.until.is_none_or(|until| Instant::now() >= until) {
                return Err(fault);
            }
            let crowded = || Fault::Crowded(fault.retry_after().unwrap_or(keys::PAUSE));
            let place = match &mut place {
                Some(place) => place,
                none => none.insert(self.places.take(asker.address).ok_or_else(crowded)?),
            };
            if !is_pausing {
                self.wanted.notify_one();
            }
            tokio::select! {
                biased;
                () = place.lost() => return Err(crowded()),
                _ = tried.changed() => {}
                () = sleep(LOOK), if is_pausing => {}
            }
        }
    }

    /// Fetches when it is wanted and time for it; never returns.
    pub async fn run(self: Arc<Self>, fetch: Arc<dyn Fetch>, clock: Arc<dyn Clock>) {
        loop {
            self.wanted.notified().await;
            if self.lock().begin(clock.now()) {
                let outcome = match timeout(PATIENCE, self.load(fetch.as_ref())).await {
                    Ok(outcome) => outcome,
                    Err(_) => Err(Failed::There(format!("it did not answer within {} s", PATIENCE.as_secs()))),
                };
                let issuer = &self.settings.url;
                match &outcome {
                    Ok(keys) => tracing::info!(issuer, keys = keys.len(), "the issuer's keys are here"),
                    Err(Failed::There(error)) => {
                        tracing::warn!(issuer, error, "the issuer's keys cannot be had; those from before stay")
                    }
                    Err(Failed::Here(error)) => {
                        tracing::error!(
                            issuer,
                            error,
                            "a file of this issuer cannot be used; the keys from before stay"
                        )
                    }
                }
                self.lock().settle(outcome.ok(), clock.now());
            }
            self.tried.send_modify(|tried| *tried += 1);
        }
    }

    async fn load(&self, fetch: &dyn Fetch) -> Result<Vec<Key>, Failed> {
        let settings = &self.settings;
        if let Some(file) = settings.keys.clone() {
            return of_file(move || read(&file)).await;
        }
        let authorities = match settings.authorities.clone() {
            Some(file) => Some(of_file(move || self::authorities(&file)).await?),
            None => None,
        };
        self.ask(fetch, authorities.as_deref()).await.map_err(Failed::There)
    }

    async fn ask(&self, fetch: &dyn Fetch, authorities: Option<&[u8]>) -> Result<Vec<Key>, String> {
        let url = format!("{}/.well-known/openid-configuration", self.settings.url.trim_end_matches('/'));
        let url = address(&url, &self.settings.url)?;
        let discovered = fetch.get(&url, authorities).await.map_err(|error| format!("{url}: {error}"))?;
        let discovered: Discovered =
            serde_json::from_slice(&discovered).map_err(|error| format!("{url} says nothing of its keys: {error}"))?;
        if discovered.issuer != self.settings.url {
            let other: String = discovered.issuer.chars().take(200).collect();
            return Err(format!("{url} speaks for another issuer, {other:?}"));
        }
        let url = address(&discovered.jwks_uri, &self.settings.url)?;
        let document = fetch.get(&url, authorities).await.map_err(|error| format!("{url}: {error}"))?;
        keys::parse(&document).map_err(|error| format!("{url}: {error}"))
    }

    fn lock(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why keys did not come.
enum Failed {
    /// A file of ours cannot be used.
    Here(String),
    /// The issuer did not give any.
    There(String),
}

/// What is in a file.
async fn of_file<T: Send + 'static>(read: impl FnOnce() -> Result<T, String> + Send + 'static) -> Result<T, Failed> {
    let read = tokio::task::spawn_blocking(read).await;
    read.map_err(|error| error.to_string()).flatten().map_err(Failed::Here)
}

/// The document by which an issuer is discovered, as far as it matters.
#[derive(Deserialize)]
struct Discovered {
    issuer: String,
    jwks_uri: String,
}

/// The keys in a file.
///
/// # Errors
/// It cannot be read, others could have written it, or it has none.
pub fn read(path: &Path) -> Result<Vec<Key>, String> {
    let said = |error| format!("{}: {error}", path.display());
    let (_, document) = guarded::read(path, MAX_FETCHED).map_err(said)?;
    keys::parse(&document).map_err(said)
}

/// The certificates in a file, as they stand there.
///
/// # Errors
/// It cannot be read, or others could have written it.
pub fn authorities(path: &Path) -> Result<Vec<u8>, String> {
    let (_, text) = guarded::read(path, MAX_AUTHORITIES).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(text)
}

/// A URL to which nobody on the way can put a document: https, or this machine, if the issuer is on it.
///
/// # Errors
/// It is none.
pub fn address(text: &str, issuer: &str) -> Result<Url, String> {
    let parse = |text: &str| Url::parse(text).map_err(|error| format!("{text:?} is no URL: {error}"));
    let (url, issuer) = (parse(text)?, parse(issuer)?);
    let is_here = |url: &Url| match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    let is_plain = url.scheme() == "http" && is_here(&url) && issuer.scheme() == "http" && is_here(&issuer);
    if url.scheme() != "https" && !is_plain {
        return Err(format!("{text:?} is not https"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a URL with a user or a password is not used".to_owned());
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_keys_has_so_many_bytes_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.json");
        let n = "AQAB".repeat(86);
        let keys = format!(r#"{{"keys":[{{"kty":"RSA","kid":"r","n":"{n}","e":"AQAB"}}]}}"#);
        let whole = keys.clone() + &" ".repeat(MAX_FETCHED - keys.len());
        std::fs::write(&path, &whole).unwrap();
        assert_eq!(read(&path).map(|keys| keys.len()), Ok(1));
        std::fs::write(&path, format!("{whole} ")).unwrap();
        let error = read(&path).map(|keys| keys.len()).unwrap_err();
        assert!(error.ends_with("keys.json: it is larger than 262144 bytes"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_needs_a_key_has_an_answer_before_a_stock_client_gives_up() {
        let settings = Settings {
            url: "https://i".to_owned(),
            audience: "exedra".to_owned(),
            algorithms: vec![Algorithm::ES256],
            skew: 0,
            authorities: None,
            keys: None,
        };
        // Nobody fetches anything.
        let issuer = Issuer::new(settings, None, Arc::default());
        let begin = Instant::now();
        let asked =
            async |asker| issuer.key(Some("k"), Algorithm::ES256, &asker, &crate::clock::SystemClock).await.err();
        assert_eq!(asked(Asker::default()).await, Some(Fault::Away(5)));
        assert_eq!(begin.elapsed(), WAIT);
        let (begin, patience) = (Instant::now(), Duration::from_secs(20));
        let asker = Asker { until: Some(begin + patience), ..Asker::default() };
        assert_eq!(asked(asker).await, Some(Fault::Away(5)));
        assert_eq!(begin.elapsed(), patience + PATIENCE, "and a registration before ours give up, after 30 s");
    }

    #[test]
    fn only_https_is_trusted_and_this_machine_by_this_machine() {
        let is_good = |text: &str, issuer: &str| address(text, issuer).is_ok();
        assert!(is_good("https://a/jwks", "https://b"));
        assert!(is_good("http://127.0.0.1:9/jwks", "http://localhost:9"));
        assert!(is_good("http://[::1]/jwks", "http://127.0.0.1"));
        for (text, issuer) in [
            ("http://a/jwks", "https://a"),
            ("http://127.0.0.1/jwks", "https://a"),
            ("http://a/jwks", "http://127.0.0.1"),
            ("http://127.0.0.1.example/jwks", "http://127.0.0.1"),
            ("file:///etc/passwd", "https://a"),
            ("https://me:secret@a/jwks", "https://a"),
            ("jwks", "https://a"),
        ] {
            assert!(!is_good(text, issuer), "{text} of {issuer}");
        }
    }
}
