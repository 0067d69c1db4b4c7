//! A registry that serves on a port of its own, with a clock that stands until it is moved.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::Request;
use axum::middleware::map_request;
use axum::serve::ListenerExt as _;
use exedra_proto::ids::RegistrationId;
use exedra_proto::plane::{Origin, Presence};
use exedra_proto::registry::{ConnectReply, ErrorDetail, RegisterReply};
use exedra_proto::ticket::{Claims, Rejection};
use exedra_registry::clock::Clock;
use exedra_registry::token::{Pattern, Role};
use exedra_registry::{NewToken, PublicUrl, Registry, RegistryConfig, RegistryError};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// The header that says where a request comes from, as the server in front would.
pub const ADDRESS: &str = "x-test-address";

/// When the tests play, seconds since 1970.
pub const START: u64 = 1_800_000_000;

pub struct StandingClock(AtomicU64);

impl StandingClock {
    pub fn new() -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(START)))
    }

    pub fn advance(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }

    pub fn set_back(&self, seconds: u64) {
        self.0.fetch_sub(seconds, Ordering::SeqCst);
    }
}

impl Clock for StandingClock {
    fn now(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

pub struct Site {
    pub registry: Registry,
    pub clock: Arc<StandingClock>,
    pub base: String,
    pub http: reqwest::Client,
    pub admin: String,
    server: JoinSet<()>,
}

pub fn config(dir: &Path, clock: &Arc<StandingClock>) -> RegistryConfig {
    let mut config = RegistryConfig::new(dir);
    config.clock = Arc::clone(clock) as Arc<dyn Clock>;
    config.write_patience = Duration::from_millis(300);
    config.reservation = Duration::from_secs(30);
    config.token_watch = Duration::from_secs(3_600);
    config
}

/// A site on a new directory.
pub async fn site() -> (Site, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::start(config(dir.path(), &StandingClock::new())).await.unwrap();
    (site, dir)
}

impl Site {
    pub async fn on(dir: &Path) -> Self {
        Self::start(config(dir, &StandingClock::new())).await.unwrap()
    }

    pub async fn with(change: impl FnOnce(&mut RegistryConfig)) -> (Self, TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(dir.path(), &StandingClock::new());
        change(&mut config);
        (Self::start(config).await.unwrap(), dir)
    }

    pub async fn start(config: RegistryConfig) -> Result<Self, RegistryError> {
        Self::start_after(config, 0).await
    }

    /// As many seconds after [`START`].
    pub async fn start_after(mut config: RegistryConfig, seconds: u64) -> Result<Self, RegistryError> {
        let clock = StandingClock::new();
        clock.advance(seconds);
        config.clock = Arc::clone(&clock) as Arc<dyn Clock>;
        let registry = Registry::open(config).await?;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = PublicUrl::of_listener(listener.local_addr().unwrap(), false)?;
        registry.set_public_url(url.clone());
        let listener = listener.tap_io(|socket| socket.set_nodelay(true).unwrap());
        let router = registry.router().layer(map_request(origin));
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, router).await.unwrap() });
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().tcp_nodelay(true).build().unwrap();
        let admin = registry.tokens().create(NewToken::of(Role::Admin)).await?.secret.expose().to_owned();
        Ok(Self { registry, clock, base: url.http_base().to_owned(), http, admin, server })
    }

    /// The server is gone; the directory may be used again.
    pub async fn stop(mut self) {
        self.server.shutdown().await;
        self.registry.shutdown().await;
    }

    pub async fn token(&self, role: Role, pattern: &str) -> String {
        let new = NewToken { executors: Pattern::parse(pattern).unwrap(), ..NewToken::of(role) };
        self.registry.tokens().create(new).await.unwrap().secret.expose().to_owned()
    }

    pub async fn get(&self, path: &str) -> Response {
        self.http.get(format!("{}{path}", self.base)).send().await.unwrap()
    }

    /// What the administrator is shown at `path`.
    pub async fn shown(&self, path: &str) -> Value {
        let asked = self.http.get(format!("{}{path}", self.base)).bearer_auth(&self.admin).send().await;
        asked.unwrap().json().await.unwrap()
    }

    /// The events of this kind, the oldest first.
    pub async fn events(&self, kind: &str) -> Vec<Value> {
        let mut page = self.shown("/v1/events").await;
        let Value::Array(mut events) = page["events"].take() else { panic!("no events in {page}") };
        events.retain(|event| event["kind"] == kind);
        events
    }

    pub async fn post(&self, path: &str, token: &str, body: impl Into<reqwest::Body>) -> Response {
        self.http.post(format!("{}{path}", self.base)).bearer_auth(token).body(body).send().await.unwrap()
    }

    pub async fn register_raw(&self, id: &str, instance: &str) -> Response {
        self.post(&format!("/cloud/executor/{id}/register"), &self.admin, register_body(id, instance)).await
    }

    pub async fn register(&self, id: &str, instance: &str) -> RegisterReply {
        let response = self.register_raw(id, instance).await;
        assert_eq!(response.status(), StatusCode::OK);
        response.json().await.unwrap()
    }

    pub async fn connect_raw(&self, id: &str, wait_ms: u64) -> Response {
        let body = json!({"public_key": null, "transports": ["direct"], "wait_ms": wait_ms}).to_string();
        self.post(&format!("/v1/executors/{id}/connect"), &self.admin, body).await
    }

    pub async fn connect(&self, id: &str, wait_ms: u64) -> ConnectReply {
        let response = self.connect_raw(id, wait_ms).await;
        assert_eq!(response.status(), StatusCode::OK);
        response.json().await.unwrap()
    }

    /// An executor that registered and is online.
    pub async fn executor(&self, id: &str) -> RegistrationId {
        let registration = RegistrationId::new(self.register(id, "instance").await.id);
        self.presence().online(&registration, 1);
        registration
    }

    /// A client came, and is gone; the executor is back.
    pub fn served(&self, registration: &RegistrationId) {
        self.presence().held(registration);
        self.presence().offline(registration, 0);
        self.presence().online(registration, 1);
    }

    pub fn clock_now(&self) -> u64 {
        self.clock.now()
    }

    pub fn presence(&self) -> Arc<dyn Presence> {
        self.registry.presence()
    }

    /// What a ticket says, if it is good now.
    pub fn verify(&self, url: &str) -> Result<Claims, Rejection> {
        let url = reqwest::Url::parse(url).unwrap();
        let id = url.path().strip_prefix("/rendezvous/").unwrap().replace("%2D", "-");
        self.registry.key_ring().read().unwrap().verify(&id, url.query().unwrap(), self.clock.now())
    }

    /// Waits until so many clients wait.
    pub async fn waiting(&self, clients: usize) {
        until(|| self.registry.waiting() == clients).await;
    }
}

async fn origin(mut request: Request) -> Request {
    let address = request.headers().get(ADDRESS).map(|address| address.to_str().unwrap().parse().unwrap());
    if let Some(address) = address {
        request.extensions_mut().insert(Origin { address, place: Arc::new(()) });
    }
    request
}

pub fn register_body(id: &str, instance: &str) -> String {
    json!({"idempotency_id": instance, "executor_id": id, "name": "n", "labels": {}, "metadata": {}}).to_string()
}

/// Waits for a condition, at most 10 s.
pub async fn until(condition: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "it never came to that");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The refusal in a response, whose status and code are these.
pub async fn refusal(response: Response, status: u16, code: &str) -> ErrorDetail {
    let is_own = response.url().path().starts_with("/v1/");
    let form = if is_own { "application/problem+json" } else { "application/json" };
    assert_eq!(response.headers()["content-type"], form);
    let found = response.status().as_u16();
    let mut body: Value = response.json().await.unwrap();
    let detail: ErrorDetail = serde_json::from_value(body["error"].take()).unwrap();
    assert_eq!(
        (body["status"].as_u64(), &body["type"]),
        (Some(found.into()), &json!(format!("urn:exedra:problem:{code}")))
    );
    assert_eq!(body["detail"].as_str(), detail.message.as_deref());
    assert_eq!((found, detail.code.as_deref()), (status, Some(code)), "{detail:?}");
    assert!(detail.message.as_ref().is_some_and(|message| !message.is_empty()));
    detail
}
