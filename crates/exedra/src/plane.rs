//! The server as a whole: registry and rendezvous behind one listener, wired to each other.
//!
//! In flow an address, a data directory and perhaps a public URL, out flows a running server with its URL. What either
//! part does is theirs; here they get each other's ends: the key ring, who is online, who must go.

mod handover;
mod http;
mod issuers;
mod metrics;
mod rest;
mod traces;

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use exedra_proto::plane::Cutoff;
use exedra_registry::workload::WorkloadConfig;
use exedra_registry::{PublicUrl, RateLimits, Registry, RegistryConfig, Tokens};
use exedra_rendezvous::{Rendezvous, RendezvousConfig};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::exit::Failure;
use handover::Orders;
use http::HttpServer;
use metrics::{Requests, Sources, StoreTimes};
use traces::Traces;

pub use handover::{Predecessor, Program, Successor};
pub use http::Front;
pub use http::proxies::{Proxies, ProxyHeader};

/// Over how long executors that nobody uses are sent away to the process that took our place.
const RETIRE_WINDOW: Duration = Duration::from_secs(10);

/// What a server is started with.
#[derive(Debug)]
pub struct PlaneConfig {
    /// Where executors and clients come in.
    pub listen: Listen,
    /// Where the records are.
    pub data_dir: PathBuf,
    /// The URL by which others reach it; only a loopback listener can do without.
    pub public_url: Option<PublicUrl>,
    /// Who holds the data directory, for the next one who wants it.
    pub purpose: &'static str,
    /// A name is for the first key that registered it.
    pub bind_keys: bool,
    /// How often may be asked.
    pub rates: RateLimits,
    /// The region that signed registrations name; the usual one, if not set.
    pub aws_region: Option<String>,
    /// For how long lines of the access log are kept.
    pub access_keep: Duration,
    /// Over how long the connections are closed at the end.
    pub drain_window: Duration,
    /// How it is to be reached.
    pub front: Front,
    /// The file with the rules by which other issuers' tokens are taken, if any are.
    pub workloads: Option<PathBuf>,
    /// The collector that traces of requests are sent to, if any.
    pub otlp: Option<Url>,
    /// Where the metrics are to be had, if anywhere.
    pub metrics: Option<SocketAddr>,
}

/// Where executors and clients come in.
#[derive(Debug)]
pub enum Listen {
    /// At an address that is still to be bound.
    At(SocketAddr),
    /// At a socket that somebody holds open for us.
    Held(std::net::TcpListener),
    /// In the place of another server, at its socket.
    After(Predecessor),
}

/// A running server.
pub struct Plane {
    url: PublicUrl,
    registry: Registry,
    rendezvous: Arc<Rendezvous>,
    http: HttpServer,
    metrics: Option<HttpServer>,
    traces: Option<Traces>,
    /// The same as the server's, to be handed over.
    listener: std::net::TcpListener,
    before: Option<Before>,
    _rest: JoinSet<()>,
}

/// The server whose place this one took.
struct Before {
    orders: Orders,
    cutoff: Arc<dyn Cutoff>,
}

impl PlaneConfig {
    /// Refuses an address that others can reach without a URL for them, and a URL that the listener does not serve.
    ///
    /// # Errors
    /// Wrong usage.
    pub fn check(&self) -> Result<(), Failure> {
        if let (Some(url), Some(_)) = (&self.public_url, &self.front.tls)
            && !url.http_base().starts_with("https:")
        {
            return Err(Failure::usage(
                format!("{} leads past the certificate: this server would speak TLS alone", url.http_base()),
                "write --public-url https://HOST, or leave out --tls-cert and --tls-key",
            ));
        }
        let address = match &self.listen {
            Listen::At(address) => *address,
            Listen::Held(listener) => listener.local_addr()?,
            Listen::After(predecessor) => predecessor.listener()?.local_addr()?,
        };
        if self.public_url.is_some() || address.ip().is_loopback() {
            return Ok(());
        }
        Err(Failure::usage(
            format!("{address} can be reached by others, and there is no URL for them"),
            "name it with `exedra serve --public-url https://HOST`, or listen on 127.0.0.1",
        ))
    }
}

impl Listen {
    /// The listener, and whose it was.
    async fn open(self) -> Result<(std::net::TcpListener, Option<Predecessor>), Failure> {
        match self {
            Self::At(address) => {
                let listener = TcpListener::bind(address).await.map_err(|error| not_bound(address, error))?;
                Ok((listener.into_std()?, None))
            }
            Self::Held(listener) => Ok((listener, None)),
            Self::After(predecessor) => Ok((predecessor.listener()?, Some(predecessor))),
        }
    }
}

impl Plane {
    /// Starts it; executors and clients may come from now on.
    ///
    /// # Errors
    /// The data directory or the address cannot be had.
    pub async fn start(config: PlaneConfig) -> Result<Self, Failure> {
        config.check()?;
        let mut registry_config = RegistryConfig::new(&config.data_dir);
        config.purpose.clone_into(&mut registry_config.purpose);
        registry_config.bind_keys = config.bind_keys;
        registry_config.rates = config.rates;
        registry_config.aws_region = config.aws_region.unwrap_or(registry_config.aws_region);
        registry_config.workloads =
            config.workloads.map(|file| WorkloadConfig { file, fetch: Arc::new(issuers::Issuers) });
        registry_config.access_keep = config.access_keep;
        let store = StoreTimes::new();
        registry_config.store_watch = Some(store.watch());
        let mut listen = config.listen;
        if let Listen::After(predecessor) = &mut listen {
            registry_config.hold = predecessor.take_hold();
        }
        let registry = Registry::open(registry_config).await?;
        let (listener, predecessor) = listen.open().await?;
        let url = match config.public_url {
            Some(url) => url,
            None => {
                let url = PublicUrl::of_listener(listener.local_addr()?, config.front.tls.is_some())?;
                if !config.front.proxies.networks.is_empty() {
                    tracing::warn!(
                        "tickets lead to {}, which is another machine for whoever comes through a proxy: \
                         name the proxy's URL with --public-url",
                        url.http_base()
                    );
                }
                url
            }
        };
        registry.set_public_url(url.clone());
        let mut rendezvous_config = RendezvousConfig::new(registry.key_ring(), registry.presence());
        rendezvous_config.times.drain_window = config.drain_window;
        rendezvous_config.max_connections =
            http::descriptors::websockets(http::descriptors::limit(), rendezvous_config.max_connections);
        let mut orders = None;
        if let Some(predecessor) = predecessor {
            let (legacy, to_predecessor) = predecessor.relieve().await?;
            registry.catch_up().await?;
            rendezvous_config.legacy = legacy;
            orders = Some(to_predecessor);
        }
        let websockets = rendezvous_config.max_connections;
        let rendezvous = Arc::new(Rendezvous::new(rendezvous_config)?);
        let before = orders.map(|orders| Before { cutoff: orders.beside(Arc::clone(&rendezvous) as _), orders });
        let cutoff = before.as_ref().map_or_else(|| Arc::clone(&rendezvous) as _, |before| Arc::clone(&before.cutoff));
        registry.set_cutoff(cutoff);
        listener.set_nonblocking(true)?;
        let requests = Requests::new();
        let traces = config.otlp.as_ref().map(Traces::start).transpose()?;
        let router = requests.count(registry.router().merge(registry.guard(rendezvous.router())));
        let router = traces.as_ref().map_or_else(|| router.clone(), |traces| traces.trace(router.clone()));
        let spans = traces.as_ref().map(Traces::fates);
        let sources = Sources {
            requests,
            store,
            spans,
            rendezvous: Arc::clone(&rendezvous),
            records: registry.look(),
            tally: Arc::clone(&config.front.tally),
        };
        let metrics = match config.metrics {
            None => None,
            Some(address) => match metrics::serve(address, sources).await {
                Ok(metrics) => Some(metrics),
                // It is too late to give the place back.
                Err(error) if before.is_some() => {
                    tracing::error!(%address, %error, "there are no metrics");
                    None
                }
                Err(error) => return Err(not_bound(address, error)),
            },
        };
        let (tally, relay) = (Arc::clone(&config.front.tally), Arc::clone(&rendezvous));
        let mut rest = JoinSet::new();
        rest.spawn(rest::run(move || tally.accepted.load(Ordering::Relaxed) + relay.figures().bytes / rest::BYTES));
        let http = HttpServer::start(TcpListener::from_std(listener.try_clone()?)?, config.front, websockets, router)?;
        tracing::info!(address = %http.address(), url = url.http_base(), "serving");
        Ok(Self { url, registry, rendezvous, http, metrics, traces, listener, before, _rest: rest })
    }

    /// The URL for executors and clients, no slash at the end.
    pub fn url(&self) -> &str {
        self.url.http_base()
    }

    /// Its tokens.
    pub fn tokens(&self) -> &Tokens {
        self.registry.tokens()
    }

    /// Reads the rules for workloads again; a new file that cannot be used changes nothing but the log.
    pub async fn reload_workloads(&self) {
        self.registry.reload_workloads().await;
    }

    /// Starts a new process of `program` in the place of this one. It is ready, and has not begun.
    ///
    /// # Errors
    /// It did not come up; this server goes on.
    pub async fn successor(&self, program: &Program) -> Result<Successor, Failure> {
        Successor::start(program, self.listener.as_fd(), self.registry.hold()?).await
    }

    /// Lets the new process begin, and stays for those connections that cannot be spared: until there are none, the new
    /// process has ended, or `stop`. `succeeded` is cancelled as soon as the new one serves. What comes back is to be shut
    /// down.
    pub async fn retire(
        self,
        mut successor: Successor,
        stop: impl Future<Output = ()>,
        succeeded: &CancellationToken,
    ) -> Arc<Rendezvous> {
        tracing::info!(pid = successor.pid(), "a new process takes the place of this one");
        self.http.stop();
        // Who waits for an executor is answered, and comes again.
        self.registry.drain();
        self.http.shutdown().await;
        drop((self.listener, self.metrics));
        if let Some(traces) = self.traces {
            traces.shutdown().await;
        }
        self.registry.shutdown().await;
        successor.your_turn(self.rendezvous.retire(RETIRE_WINDOW)).await;
        succeeded.cancel();
        let here = Arc::clone(&self.rendezvous) as Arc<dyn Cutoff>;
        let (cutoff, mut orders) = self.before.map_or((here, None), |before| (before.cutoff, Some(before.orders)));
        let left = async {
            self.rendezvous.emptied().await;
            match &mut orders {
                Some(orders) => orders.hand_on().await,
                None => None,
            }
        };
        tokio::select! {
            () = stop => {}
            () = successor.obey(cutoff.as_ref(), left) => {}
        }
        drop(cutoff);
        if let Some(orders) = orders {
            orders.finish().await;
        }
        self.rendezvous
    }

    /// Sends everybody away, waits for it, and lets go of the data directory.
    pub async fn shutdown(self) {
        // Who waits for an executor is answered first, since no executor will come any more.
        self.registry.drain();
        self.rendezvous.shutdown().await;
        self.http.shutdown().await;
        drop(self.metrics);
        if let Some(traces) = self.traces {
            traces.shutdown().await;
        }
        self.registry.shutdown().await;
    }
}

fn not_bound(address: SocketAddr, error: io::Error) -> Failure {
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => "stop the program that listens there, or choose another port with --listen",
        io::ErrorKind::PermissionDenied => "ports below 1024 need more rights; choose another with --listen",
        io::ErrorKind::AddrNotAvailable => "the address must be one of this machine's",
        _ => return Failure::from(anyhow::Error::new(error).context(format!("cannot listen on {address}"))),
    };
    let what = match error.kind() {
        io::ErrorKind::AddrInUse => format!("cannot listen on {address}: it is in use"),
        _ => format!("cannot listen on {address}: {error}"),
    };
    Failure::from(anyhow::Error::msg(what)).with_hint(hint)
}
