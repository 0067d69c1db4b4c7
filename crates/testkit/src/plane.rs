//! The whole plane in one process on port 0: registry, rendezvous and executor on real sockets with a real database.
//!
//! In flow a few settings, out flow the server's URL and credentials for clients. A [`FaultyLink`](crate::faults) may
//! stand before the rendezvous, so that tickets lead through it. Everything ends when the plane is dropped.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::serve::ListenerExt as _;
use exedra_client::connect::{Options, Server};
use exedra_executor::daemon::{Daemon, DaemonConfig, Event, TokenSource};
use exedra_executor::{Executor, ExecutorConfig};
use exedra_proto::ids::ExecutorId;
use exedra_proto::registry::Transport;
use exedra_proto::secret::Secret;
use exedra_registry::token::Role;
use exedra_registry::{NewToken, PublicUrl, Registry, RegistryConfig};
use exedra_rendezvous::{Rendezvous, RendezvousConfig, Times};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::faults::{Faults, FaultyLink};

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// The executor's id in every plane.
pub const EXECUTOR: &str = "box";

/// Registry and rendezvous behind one listener.
pub struct ServerSide {
    /// `http://127.0.0.1:PORT`
    pub url: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// The registry.
    pub registry: Registry,
    /// The rendezvous.
    pub rendezvous: Arc<Rendezvous>,
    link: Option<FaultyLink>,
    tasks: JoinSet<()>,
}

/// What starts a [`ServerSide`].
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Where the records are.
    pub data_dir: PathBuf,
    /// Where to listen; port 0 for any.
    pub listen: SocketAddr,
    /// What happens on the way through the rendezvous.
    pub faults: Option<Faults>,
    /// The rendezvous' times, if not the usual ones.
    pub times: Option<Times>,
}

impl ServerSide {
    /// Starts it.
    ///
    /// # Errors
    /// The data directory or the port cannot be had.
    pub async fn start(config: ServerConfig) -> Result<Self, Failed> {
        let registry = Registry::open(RegistryConfig::new(&config.data_dir)).await?;
        let listener = TcpListener::bind(config.listen).await?;
        let address = listener.local_addr()?;
        let link = match config.faults {
            Some(faults) => Some(FaultyLink::start(address, faults).await?),
            None => None,
        };
        let public = link.as_ref().map_or(address, |link| link.address);
        registry.set_public_url(PublicUrl::of_listener(public, false)?);
        let mut rendezvous = RendezvousConfig::new(registry.key_ring(), registry.presence());
        rendezvous.times = config.times.unwrap_or(rendezvous.times);
        let rendezvous = Arc::new(Rendezvous::new(rendezvous)?);
        registry.set_cutoff(Arc::clone(&rendezvous) as _);
        let router = registry.router().merge(rendezvous.router());
        let listener = listener.tap_io(|socket| {
            // The rendezvous sets it again on what it upgrades; the answers before that are only slower without.
            let _ = socket.set_nodelay(true);
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { url: format!("http://{address}"), address, registry, rendezvous, link, tasks })
    }

    /// Makes a token.
    ///
    /// # Errors
    /// The store's.
    pub async fn token(&self, role: Role) -> Result<Secret, Failed> {
        Ok(self.registry.tokens().create(NewToken::of(role)).await?.secret)
    }

    /// Cuts every connection through the link, if there is one.
    pub fn cut(&self) {
        if let Some(link) = &self.link {
            link.cut();
        }
    }

    /// Stops it in good order.
    pub async fn stop(mut self) {
        self.registry.drain();
        self.rendezvous.shutdown().await;
        self.tasks.shutdown().await;
        self.registry.shutdown().await;
    }
}

/// An executor's daemon at a server.
pub struct ExecutorSide {
    registrations: watch::Receiver<u64>,
    cancel: CancellationToken,
    tasks: JoinSet<()>,
}

impl ExecutorSide {
    /// Starts it.
    ///
    /// # Errors
    /// The machine refuses what an executor needs.
    pub fn start(url: &str, token: Secret, config: ExecutorConfig) -> Result<Self, Failed> {
        Self::start_over(&[Transport::Relay, Transport::Direct], url, token, config)
    }

    /// The same, offering only these transports.
    ///
    /// # Errors
    /// The machine refuses what an executor needs.
    pub fn start_over(
        transports: &[Transport],
        url: &str,
        token: Secret,
        config: ExecutorConfig,
    ) -> Result<Self, Failed> {
        let executor = Arc::new(Executor::new(config)?);
        let mut daemon = DaemonConfig { token: TokenSource::Fixed(token), ..DaemonConfig::new(url, EXECUTOR) };
        daemon.transports = transports.to_vec();
        let daemon = Daemon::new(daemon, executor)?;
        let cancel = CancellationToken::new();
        let (count, registrations) = watch::channel(0);
        let mut tasks = JoinSet::new();
        let stop = cancel.clone();
        tasks.spawn(async move {
            let watch = |event| {
                if matches!(event, Event::Registered { .. }) {
                    count.send_modify(|count| *count += 1);
                }
            };
            daemon.run(stop, watch).await;
        });
        Ok(Self { registrations, cancel, tasks })
    }

    /// Waits until it has registered at least once, so that its id is known.
    ///
    /// # Errors
    /// Its daemon ended.
    pub async fn registered(&mut self) -> Result<(), Failed> {
        self.registrations.wait_for(|count| *count > 0).await?;
        Ok(())
    }

    /// How often it has registered.
    pub fn registrations(&self) -> u64 {
        *self.registrations.borrow()
    }

    /// Stops it in good order.
    pub async fn stop(mut self) {
        self.cancel.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

/// All of it.
pub struct Plane {
    /// Registry and rendezvous.
    pub server: ServerSide,
    /// The executor.
    pub executor: ExecutorSide,
    /// A client's token.
    pub client_token: Secret,
    /// The executor's token.
    pub executor_token: Secret,
    dir: TempDir,
}

impl Plane {
    /// Starts it, with faults on the way through the rendezvous if there are any.
    ///
    /// # Errors
    /// Whatever a part cannot have.
    pub async fn start(faults: Option<Faults>) -> Result<Self, Failed> {
        Self::start_over(&[Transport::Relay, Transport::Direct], faults).await
    }

    /// The same, with an executor that offers only these transports.
    ///
    /// # Errors
    /// Whatever a part cannot have.
    pub async fn start_over(transports: &[Transport], faults: Option<Faults>) -> Result<Self, Failed> {
        let dir = tempfile::tempdir()?;
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let config = ServerConfig { data_dir: dir.path().join("data"), listen, faults, times: None };
        let server = ServerSide::start(config).await?;
        let executor_token = server.token(Role::Executor).await?;
        let client_token = server.token(Role::Client).await?;
        let config = ExecutorConfig::default();
        let mut executor = ExecutorSide::start_over(transports, &server.url, executor_token.clone(), config)?;
        executor.registered().await?;
        Ok(Self { server, executor, client_token, executor_token, dir })
    }

    /// Where the records are.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A directory that is free for the test.
    pub fn scratch(&self) -> &Path {
        self.dir.path()
    }

    /// A client's handle to the executor, waiting for it if need be.
    ///
    /// # Errors
    /// The client's.
    pub async fn connect(&self) -> Result<exedra_client::Executor, Failed> {
        connect(&self.server.url, &self.client_token).await
    }

    /// A client's handle with other options.
    ///
    /// # Errors
    /// The client's.
    pub async fn connect_with(&self, options: Options) -> Result<exedra_client::Executor, Failed> {
        connect_with(&self.server.url, &self.client_token, options).await
    }

    /// Stops it in good order.
    ///
    /// # Errors
    /// The temporary directory cannot be removed.
    pub async fn stop(self) -> io::Result<()> {
        self.executor.stop().await;
        self.server.stop().await;
        self.dir.close()
    }
}

/// A client's handle to the executor at `url`, waiting for it if need be.
///
/// # Errors
/// The client's.
pub async fn connect(url: &str, token: &Secret) -> Result<exedra_client::Executor, Failed> {
    connect_with(url, token, Options::default()).await
}

/// A client's handle with other options.
///
/// # Errors
/// The client's.
pub async fn connect_with(url: &str, token: &Secret, options: Options) -> Result<exedra_client::Executor, Failed> {
    let server = Server::new(url, token, false)?.with(options);
    let id = ExecutorId::parse(EXECUTOR)?;
    Ok(server.executor(&id, Duration::from_secs(60), |_, _| {}).await?)
}
