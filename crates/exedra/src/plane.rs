//! The server as a whole: registry and rendezvous behind one listener, wired to each other.
//!
//! In flow an address, a data directory and perhaps a public URL, out flows a running server with its URL. What either
//! part does is theirs; here they get each other's ends: the key ring, who is online, who must go.

mod http;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use exedra_registry::{PublicUrl, Registry, RegistryConfig, Tokens};
use exedra_rendezvous::{Rendezvous, RendezvousConfig};
use tokio::net::TcpListener;

use crate::exit::Failure;
use http::HttpServer;

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
    /// Over how long the connections are closed at the end.
    pub drain_window: Duration,
}

/// Where executors and clients come in.
#[derive(Debug)]
pub enum Listen {
    /// At an address that is still to be bound.
    At(SocketAddr),
    /// At a socket that somebody holds open for us.
    Held(std::net::TcpListener),
}

/// A running server.
pub struct Plane {
    url: PublicUrl,
    registry: Registry,
    rendezvous: Arc<Rendezvous>,
    http: HttpServer,
}

impl PlaneConfig {
    /// Refuses an address that others can reach without a URL for them.
    ///
    /// # Errors
    /// Wrong usage.
    pub fn check(&self) -> Result<(), Failure> {
        let address = match &self.listen {
            Listen::At(address) => *address,
            Listen::Held(listener) => listener.local_addr()?,
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
    async fn open(self) -> Result<TcpListener, Failure> {
        match self {
            Self::At(address) => TcpListener::bind(address).await.map_err(|error| not_bound(address, error)),
            Self::Held(listener) => {
                listener.set_nonblocking(true)?;
                Ok(TcpListener::from_std(listener)?)
            }
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
        let registry = Registry::open(registry_config).await?;
        let listener = config.listen.open().await?;
        let url = match config.public_url {
            Some(url) => url,
            None => PublicUrl::of_listener(listener.local_addr()?)?,
        };
        registry.set_public_url(url.clone());
        let mut rendezvous_config = RendezvousConfig::new(registry.key_ring(), registry.presence());
        rendezvous_config.times.drain_window = config.drain_window;
        rendezvous_config.max_connections =
            http::descriptors::websockets(http::descriptors::limit(), rendezvous_config.max_connections);
        let rendezvous = Arc::new(Rendezvous::new(rendezvous_config)?);
        registry.set_cutoff(Arc::clone(&rendezvous) as _);
        let http = HttpServer::start(listener, registry.router().merge(rendezvous.router()))?;
        tracing::info!(address = %http.address(), url = url.http_base(), "serving");
        Ok(Self { url, registry, rendezvous, http })
    }

    /// The URL for executors and clients, no slash at the end.
    pub fn url(&self) -> &str {
        self.url.http_base()
    }

    /// Its tokens.
    pub fn tokens(&self) -> &Tokens {
        self.registry.tokens()
    }

    /// Sends everybody away, waits for it, and lets go of the data directory.
    pub async fn shutdown(self) {
        // Who waits for an executor is answered first, since no executor will come any more.
        self.registry.drain();
        self.rendezvous.shutdown().await;
        self.http.shutdown().await;
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
