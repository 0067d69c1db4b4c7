//! Traces of requests for an OpenTelemetry collector (`serve --otlp`): OTLP over HTTP, in protobuf.
//!
//! In flow requests as they are answered, each a span in the trace that the client named; out flow batches. Nothing waits for
//! the collector: what finds no room is dropped and counted. A span names method and route, never a path, a query or a
//! token.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use exedra_link::ws;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{Span as _, SpanKind, Status, Tracer as _, TracerProvider as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::{Bytes, HeaderExtractor, HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{
    Sampler, SdkTracer, SdkTracerProvider, Span, SpanData, SpanExporter as _, SpanProcessor,
};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::issuers::is_here;
use crate::exit::Failure;

/// Spans that wait to be sent. More are dropped and counted.
const WAITING_MAX: usize = 4_096;
/// Spans in one request to the collector.
const BATCH: usize = 512;
/// How long the first span of a batch waits for others.
const LINGER: Duration = Duration::from_secs(1);
/// How long the collector has for a batch, which is then given up.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the end waits for the collector.
const LAST_WAIT: Duration = Duration::from_secs(2);
/// What is read of a collector's answer, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// What became of spans.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Fate {
    fate: &'static str,
}

/// How many spans came to what.
pub type Fates = Family<Fate, Counter>;

/// Sends spans until it is shut down; dropped, it stops at once.
#[derive(Debug)]
pub struct Traces {
    tracer: SdkTracer,
    fates: Fates,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Traces {
    /// Begins to send to the collector at `url`, to its path `/v1/traces` if it names none. Whether it is there is not
    /// looked at. To be called within tokio.
    ///
    /// # Errors
    /// There can be no such collector.
    pub fn start(url: &Url) -> Result<Self, Failure> {
        let resource = Resource::builder()
            .with_service_name("exedra")
            .with_attributes([KeyValue::new("service.version", env!("CARGO_PKG_VERSION"))])
            .build();
        let exporter = SpanExporter::builder().with_http().with_http_client(Client::new(url)?);
        let exporter = exporter.with_endpoint(endpoint(url)).with_timeout(PATIENCE).build();
        let mut exporter = exporter.map_err(|error| Failure::from(anyhow::Error::new(error)))?;
        exporter.set_resource(&resource);
        let fates = Fates::default();
        let (sender, spans) = mpsc::channel(WAITING_MAX);
        let provider = SdkTracerProvider::builder()
            .with_span_processor(Queue { sender, fates: fates.clone() })
            // Whether a request is traced is for the server's operator to say, not for its clients.
            .with_sampler(Sampler::AlwaysOn)
            .with_resource(resource)
            .build();
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        tasks.spawn(send(exporter, spans, fates.clone(), stop.clone()));
        Ok(Self { tracer: provider.tracer("exedra"), fates, stop, tasks })
    }

    /// How many spans came to what, from now on.
    pub fn fates(&self) -> Fates {
        self.fates.clone()
    }

    /// The same router, its requests traced.
    pub fn trace(&self, router: Router) -> Router {
        router.layer(from_fn_with_state(self.tracer.clone(), trace))
    }

    /// Sends what waits, if the collector takes it soon.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        let _ = timeout(LAST_WAIT, self.tasks.join_next()).await;
    }
}

/// Runs a request in a span.
async fn trace(State(tracer): State<SdkTracer>, request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>();
    let route = path.map_or_else(|| "other".to_owned(), |path| path.as_str().to_owned());
    if route == "/healthz" || route == "/readyz" {
        return next.run(request).await;
    }
    let method = match *request.method() {
        Method::GET | Method::POST | Method::PUT | Method::PATCH | Method::DELETE => request.method().to_string(),
        _ => "_OTHER".to_owned(),
    };
    let parent =
        TraceContextPropagator::new().extract_with_context(&Context::new(), &HeaderExtractor(request.headers()));
    let span = tracer.span_builder(format!("{method} {route}")).with_kind(SpanKind::Server);
    let span = span.with_attributes([KeyValue::new("http.request.method", method), KeyValue::new("http.route", route)]);
    // Dropped with the request, it ends, too.
    let mut span = span.start_with_context(&tracer, &parent);
    let response = next.run(request).await;
    let status = response.status();
    span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status.as_u16())));
    if let Some(id) = response.headers().get("x-request-id").and_then(|id| id.to_str().ok()) {
        span.set_attribute(KeyValue::new("exedra.request_id", id.to_owned()));
    }
    if status.is_server_error() {
        span.set_status(Status::error(status.canonical_reason().unwrap_or_default()));
    }
    span.end();
    response
}

/// Takes spans that ended, without a wait.
#[derive(Debug)]
struct Queue {
    sender: mpsc::Sender<SpanData>,
    fates: Fates,
}

impl SpanProcessor for Queue {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if self.sender.try_send(span).is_err() {
            self.fates.get_or_create(&Fate { fate: "dropped" }).inc();
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// Sends spans in batches, until `stop` and there are no more.
async fn send(exporter: SpanExporter, mut spans: mpsc::Receiver<SpanData>, fates: Fates, stop: CancellationToken) {
    let mut is_failing = false;
    loop {
        let batch = batch(&mut spans, &stop).await;
        if batch.is_empty() {
            return;
        }
        let count = batch.len() as u64;
        let error = match timeout(PATIENCE, exporter.export(batch)).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("no answer within {} s", PATIENCE.as_secs())),
        };
        let fate = if error.is_none() { "sent" } else { "failed" };
        fates.get_or_create(&Fate { fate }).inc_by(count);
        match (error, is_failing) {
            (Some(error), false) => tracing::warn!(error, "traces cannot be sent; they are given up, and counted"),
            (None, true) => tracing::info!("traces can be sent again"),
            _ => {}
        }
        is_failing = fate == "failed";
    }
}

/// The next batch; an empty one at the end.
async fn batch(spans: &mut mpsc::Receiver<SpanData>, stop: &CancellationToken) -> Vec<SpanData> {
    let mut batch = Vec::new();
    tokio::select! {
        _ = spans.recv_many(&mut batch, BATCH) => {}
        () = stop.cancelled() => {
            spans.close();
            spans.recv_many(&mut batch, BATCH).await;
            return batch;
        }
    }
    let deadline = Instant::now() + LINGER;
    while batch.len() < BATCH && !stop.is_cancelled() {
        let room = BATCH - batch.len();
        tokio::select! {
            more = timeout_at(deadline, spans.recv_many(&mut batch, room)) => {
                if more.is_err() || more == Ok(0) {
                    break;
                }
            }
            () = stop.cancelled() => {}
        }
    }
    batch
}

fn endpoint(url: &Url) -> String {
    let mut url = url.clone();
    if !url.path().ends_with("/v1/traces") {
        let path = format!("{}/v1/traces", url.path().trim_end_matches('/'));
        url.set_path(&path);
    }
    url.into()
}

/// The HTTP client that is here anyway.
struct Client(reqwest::Client);

impl Client {
    fn new(collector: &Url) -> Result<Self, Failure> {
        let tls = ws::client_tls().map_err(|error| Failure::from(anyhow::Error::msg(error)))?;
        let mut client = reqwest::Client::builder().tls_backend_preconfigured((*tls).clone()).timeout(PATIENCE);
        if is_here(collector) {
            client = client.no_proxy();
        }
        client.build().map(Self).map_err(|error| Failure::from(anyhow::Error::new(error)))
    }

    async fn post(&self, request: axum::http::Request<Bytes>) -> Result<axum::http::Response<Bytes>, HttpError> {
        let (parts, body) = request.into_parts();
        let request = self.0.post(parts.uri.to_string()).headers(parts.headers).body(body);
        let mut answer = request.send().await?;
        let mut taken = Vec::new();
        while let Some(piece) = answer.chunk().await? {
            taken.extend(piece.iter().take(MAX_ANSWER - taken.len()));
            if taken.len() == MAX_ANSWER {
                break;
            }
        }
        Ok(axum::http::Response::builder().status(answer.status()).body(taken.into())?)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

impl HttpClient for Client {
    fn send_bytes<'life0, 'async_trait>(
        &'life0 self,
        request: axum::http::Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<axum::http::Response<Bytes>, HttpError>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(self.post(request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_finds_no_room_is_dropped_and_counted() {
        let fates = Fates::default();
        let (sender, mut spans) = mpsc::channel(2);
        let queue = Queue { sender, fates: fates.clone() };
        let tracer = SdkTracerProvider::builder().with_span_processor(queue).build().tracer("t");
        for _ in 0..5 {
            tracer.start("s").end();
        }
        assert_eq!(fates.get_or_create(&Fate { fate: "dropped" }).get(), 3);
        assert!(spans.try_recv().is_ok() && spans.try_recv().is_ok() && spans.try_recv().is_err());
    }

    #[test]
    fn a_collector_is_named_with_its_path_or_without() {
        let of = |text: &str| endpoint(&Url::parse(text).unwrap());
        assert_eq!(of("http://c:4318"), "http://c:4318/v1/traces");
        assert_eq!(of("http://c:4318/"), "http://c:4318/v1/traces");
        assert_eq!(of("https://c/otlp/"), "https://c/otlp/v1/traces");
        assert_eq!(of("https://c/otlp/v1/traces"), "https://c/otlp/v1/traces");
    }
}
