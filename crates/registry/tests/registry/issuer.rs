//! An issuer of workload tokens on loopback: it publishes keys, counts who asks, and can be told to fail.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use exedra_registry::workload::{Fetch, Fetching, WorkloadConfig};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use url::Url;

/// A key of nobody's, made for these tests: the DER of PKCS#1.
const RSA: &str = include_str!("issuer-rsa.b64");

/// A key with which tokens are signed.
pub struct SigningKey {
    pub id: String,
    pub algorithm: Algorithm,
    pub key: EncodingKey,
    /// As it is published.
    pub public: Value,
}

impl SigningKey {
    pub fn ec(id: &str) -> Self {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let (x, y) = pair.der_bytes()[1..].split_at(32);
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        let public = json!({"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": id, "x": x, "y": y});
        let key = EncodingKey::from_ec_der(&pair.serialize_der());
        Self { id: id.to_owned(), algorithm: Algorithm::ES256, key, public }
    }

    pub fn rsa(id: &str) -> Self {
        let der = STANDARD.decode(RSA.replace('\n', "")).unwrap();
        // Version, and then the modulus of 257 bytes, the first of them 0.
        let at = der.windows(4).position(|window| window == [2, 0x82, 1, 1]).unwrap() + 5;
        let modulus = URL_SAFE_NO_PAD.encode(&der[at..at + 256]);
        let public = json!({"kty": "RSA", "use": "sig", "kid": id, "n": modulus, "e": "AQAB"});
        Self { id: id.to_owned(), algorithm: Algorithm::RS256, key: EncodingKey::from_rsa_der(&der), public }
    }

    pub fn sign(&self, claims: &Value) -> String {
        let header = Header { kid: Some(self.id.clone()), ..Header::new(self.algorithm) };
        encode(&header, claims, &self.key).unwrap()
    }
}

#[derive(Default)]
struct Published {
    keys: Mutex<Vec<Value>>,
    /// Whom it says that it is; itself, if not set.
    claimed: Mutex<Option<String>>,
    url: Mutex<String>,
    is_down: Mutex<bool>,
    /// Whether it lets whoever asks wait.
    is_hanging: watch::Sender<bool>,
    /// Each who waits for it has one more.
    waiting: Arc<()>,
    asked: AtomicUsize,
}

/// The issuer.
pub struct Issuer {
    published: Arc<Published>,
    pub url: String,
    _server: JoinSet<()>,
}

impl Issuer {
    pub async fn start(keys: &[&SigningKey]) -> Self {
        let published = Arc::new(Published::default());
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(configuration))
            .route("/keys", get(keys_of))
            .with_state(Arc::clone(&published));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        published.url.lock().unwrap().clone_from(&url);
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, router).await.unwrap() });
        let issuer = Self { published, url, _server: server };
        issuer.publish(keys);
        issuer
    }

    pub fn publish(&self, keys: &[&SigningKey]) {
        *self.published.keys.lock().unwrap() = keys.iter().map(|key| key.public.clone()).collect();
    }

    pub fn set_down(&self, is_down: bool) {
        *self.published.is_down.lock().unwrap() = is_down;
    }

    /// It answers nobody until it is told otherwise.
    pub fn set_hanging(&self, is_hanging: bool) {
        self.published.is_hanging.send_replace(is_hanging);
    }

    /// How many it lets wait who have not given up.
    pub fn waiting(&self) -> usize {
        Arc::strong_count(&self.published.waiting) - 1
    }

    pub fn claim_to_be(&self, other: &str) {
        *self.published.claimed.lock().unwrap() = Some(other.to_owned());
    }

    /// How often its keys were asked for, with success or without.
    pub fn asked(&self) -> usize {
        self.published.asked.load(Ordering::SeqCst)
    }

    /// What a token of it says, for an hour from `now`.
    pub fn claims(&self, now: u64, change: Value) -> Value {
        let mut claims = json!({
            "iss": self.url, "aud": "exedra", "sub": "repo:acme/app:ref:refs/heads/main", "iat": now, "exp": now + 3_600,
            "run_id": "77", "kubernetes.io": {"namespace": "ml"},
        });
        for (name, value) in change.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims
    }

    /// Writes a file in which it is an issuer, and these rules stand.
    pub fn rules(&self, path: &Path, rules: &str) {
        let url = &self.url;
        let issuer = format!("[[issuer]]\nurl = \"{url}\"\naudience = \"exedra\"\n");
        std::fs::write(path, format!("{issuer}{}", rules.replace("ISSUER", url))).unwrap();
    }
}

async fn configuration(State(published): State<Arc<Published>>) -> Result<String, StatusCode> {
    published.asked.fetch_add(1, Ordering::SeqCst);
    let _waiting = Arc::clone(&published.waiting);
    published.is_hanging.subscribe().wait_for(|is_hanging| !is_hanging).await.unwrap();
    if *published.is_down.lock().unwrap() {
        return Err(StatusCode::INTERNAL_SERVER_ERROR);
    }
    let url = published.url.lock().unwrap().clone();
    let issuer = published.claimed.lock().unwrap().clone().unwrap_or_else(|| url.clone());
    Ok(json!({"issuer": issuer, "jwks_uri": format!("{url}/keys")}).to_string())
}

async fn keys_of(State(published): State<Arc<Published>>) -> String {
    json!({"keys": *published.keys.lock().unwrap()}).to_string()
}

/// Fetches over plain HTTP.
struct Plain(reqwest::Client);

impl Fetch for Plain {
    fn get<'a>(&'a self, url: &'a Url, _: Option<&'a [u8]>) -> Fetching<'a> {
        Box::pin(async move {
            let response = self.0.get(url.clone()).send().await.map_err(|error| error.to_string())?;
            let response = response.error_for_status().map_err(|error| error.to_string())?;
            Ok(response.bytes().await.map_err(|error| error.to_string())?.to_vec())
        })
    }
}

/// The rules of this file, with keys fetched over plain HTTP.
pub fn config(file: &Path) -> WorkloadConfig {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    WorkloadConfig { file: file.to_owned(), fetch: Arc::new(Plain(client)) }
}
