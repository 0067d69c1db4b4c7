//! What the server counts, for Prometheus, on a listener of its own.
//!
//! In flow requests as they are answered, and at each look what the rendezvous and the records say of themselves; out flows
//! the text of `GET /metrics`. Routes are named by their pattern, so that no id and no secret becomes a label, and a
//! stranger cannot make new ones.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use exedra_proto::plane::Refused;
use exedra_registry::Look;
use exedra_registry::store::{Operation, Watch};
use exedra_rendezvous::{Figures, Rendezvous};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

use super::http::{Front, HttpServer, Tally};
use super::traces::Fates;

/// Upper bounds of the histogram, in seconds; a `connect` may wait for a minute.
const SECONDS: [f64; 9] = [0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0];
/// The same of the database: a read takes a fraction of a millisecond; a write as long as an fsync, some 0.1 ms to 5 ms on flash and 10 to 30 on
/// a turning disk; after 5 s a write gives up on another process's, after 10 a call on those before it.
const STORE_SECONDS: [f64; 11] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 5.0, 10.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    method: String,
    route: String,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    route: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Role {
    role: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asked {
    operation: &'static str,
}

/// How long the database took.
#[derive(Clone, Debug)]
pub struct StoreTimes(Family<Asked, Histogram, fn() -> Histogram>);

impl StoreTimes {
    /// None yet.
    pub fn new() -> Self {
        Self(Family::new_with_constructor(|| Histogram::new(STORE_SECONDS)))
    }

    /// Tells these of each operation.
    pub fn watch(&self) -> Watch {
        let of = |operation| self.0.get_or_create_owned(&Asked { operation });
        let (reads, writes) = (of("read"), of("write"));
        Watch(Arc::new(move |operation, took| match operation {
            Operation::Read => reads.observe(took.as_secs_f64()),
            Operation::Write => writes.observe(took.as_secs_f64()),
        }))
    }
}

/// The counters that requests go into.
#[derive(Clone, Debug)]
pub struct Requests {
    answered: Family<Answered, Counter>,
    seconds: Family<Route, Histogram, fn() -> Histogram>,
    tokens_refused: Family<Reason, Counter>,
    tickets_refused: Family<Reason, Counter>,
    rates_refused: Family<Reason, Counter>,
}

impl Requests {
    /// None yet.
    pub fn new() -> Self {
        Self {
            answered: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            tokens_refused: Family::default(),
            tickets_refused: Family::default(),
            rates_refused: Family::default(),
        }
    }

    /// The same router, counted.
    pub fn count(&self, router: Router) -> Router {
        router.layer(from_fn_with_state(self.clone(), count))
    }
}

async fn count(State(requests): State<Requests>, request: Request, next: Next) -> Response {
    let method = match *request.method() {
        Method::GET | Method::POST | Method::PUT | Method::PATCH | Method::DELETE => request.method().to_string(),
        _ => "other".to_owned(),
    };
    let path = request.extensions().get::<MatchedPath>();
    let route = path.map_or_else(|| "other".to_owned(), |path| path.as_str().to_owned());
    let began = Instant::now();
    let response = next.run(request).await;
    let seconds = began.elapsed().as_secs_f64();
    requests.seconds.get_or_create(&Route { route: route.clone() }).observe(seconds);
    requests.answered.get_or_create(&Answered { method, route, status: response.status().as_u16() }).inc();
    let refused = match response.extensions().get::<Refused>() {
        Some(Refused::Token(reason)) => Some((&requests.tokens_refused, *reason)),
        Some(Refused::Rate(reason)) => Some((&requests.rates_refused, *reason)),
        Some(Refused::Ticket(reason)) => Some((&requests.tickets_refused, *reason)),
        None => None,
    };
    if let Some((refusals, reason)) = refused {
        refusals.get_or_create(&Reason { reason }).inc();
    }
    response
}

/// What is looked at when somebody asks.
pub struct Sources {
    /// What was answered.
    pub requests: Requests,
    /// How long the database took.
    pub store: StoreTimes,
    /// What became of traces, if they are sent.
    pub spans: Option<Fates>,
    /// Who is connected, and what waits.
    pub rendezvous: Arc<Rendezvous>,
    /// The records, and who waits for an executor.
    pub records: Look,
    /// What the server in front counts.
    pub tally: Arc<Tally>,
}

/// The page, and the numbers on it that are set when it is asked for.
struct Page {
    sources: Sources,
    registry: Registry,
    connections: Family<Role, Gauge>,
    streams: Gauge,
    queued: Gauge,
    bytes: Counter,
    waiting: Gauge,
    listeners: Gauge,
    evicted: Counter,
    stalls: Counter,
    stalled: Counter<f64, AtomicU64>,
    store_up: Gauge,
}

/// Serves `GET /metrics` at `address`.
///
/// # Errors
/// The address cannot be had.
pub async fn serve(address: SocketAddr, sources: Sources) -> io::Result<HttpServer> {
    let listener = TcpListener::bind(address).await?;
    tracing::info!(address = %listener.local_addr()?, "metrics are to be had");
    let router = Router::new().route("/metrics", get(page)).with_state(Arc::new(Page::new(sources)));
    HttpServer::start(listener, Front::default(), 0, router)
}

async fn page(State(page): State<Arc<Page>>) -> Response {
    page.look().await;
    let mut text = String::new();
    match encode(&mut text, &page.registry) {
        Ok(()) => {
            ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "the metrics cannot be written down");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

impl Page {
    fn new(sources: Sources) -> Self {
        let mut registry = Registry::with_prefix("exedra");
        let requests = &sources.requests;
        registry.register("http_requests", "Requests answered", requests.answered.clone());
        registry.register("http_request_seconds", "From a request's head to its answer's", requests.seconds.clone());
        registry.register("tokens_refused", "Requests refused for their token", requests.tokens_refused.clone());
        registry.register("tickets_refused", "Websockets refused", requests.tickets_refused.clone());
        if let Some(spans) = &sources.spans {
            registry.register("spans", "Traces of requests: sent, failed, dropped for want of room", spans.clone());
        }
        registry.register("rates_refused", "Requests that came too often", requests.rates_refused.clone());
        let page = Self {
            registry: Registry::default(),
            connections: Family::default(),
            streams: Gauge::default(),
            queued: Gauge::default(),
            bytes: Counter::default(),
            waiting: Gauge::default(),
            listeners: Gauge::default(),
            evicted: Counter::default(),
            stalls: Counter::default(),
            stalled: Counter::default(),
            store_up: Gauge::default(),
            sources,
        };
        registry.register("connections", "Websockets of executors and clients", page.connections.clone());
        registry.register("streams", "Streams open between clients and executors", page.streams.clone());
        registry.register("queued_bytes", "Bytes that wait at the rendezvous", page.queued.clone());
        registry.register("relayed_bytes", "Payload relayed, both ways", page.bytes.clone());
        registry.register("clients_waiting", "Clients that wait for an executor", page.waiting.clone());
        registry.register("event_streams", "Streams of events (SSE) that are followed", page.listeners.clone());
        let what = "Connections without a request that were cut because others needed their slots";
        registry.register("http_connections_cut", what, page.evicted.clone());
        let what = "Clients closed since they kept the others of an executor waiting";
        registry.register("clients_stalled", what, page.stalls.clone());
        let what = "How long those were waited for";
        registry.register("clients_stalled_seconds", what, page.stalled.clone());
        registry.register("store_up", "Whether the database answered just now", page.store_up.clone());
        let what = "How long the database took for a read or a write, the wait for its turn included";
        registry.register("store_seconds", what, page.sources.store.0.clone());
        Self { registry, ..page }
    }

    async fn look(&self) {
        let Figures { executors, clients, bytes, queued, streams, stalls, stalled } = self.sources.rendezvous.figures();
        let signed = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        self.connections.get_or_create(&Role { role: "executor" }).set(signed(executors));
        self.connections.get_or_create(&Role { role: "client" }).set(signed(clients));
        self.streams.set(signed(streams));
        self.queued.set(signed(queued));
        self.bytes.inner().fetch_max(bytes, Ordering::Relaxed);
        self.stalls.inner().fetch_max(stalls, Ordering::Relaxed);
        self.stalled.inner().store(stalled.as_secs_f64().to_bits(), Ordering::Relaxed);
        self.waiting.set(signed(self.sources.records.waiting()));
        self.listeners.set(signed(self.sources.records.listeners()));
        self.evicted.inner().fetch_max(self.sources.tally.cut.load(Ordering::Relaxed), Ordering::Relaxed);
        self.store_up.set(i64::from(self.sources.records.store_answers().await));
    }
}
