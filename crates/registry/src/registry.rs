//! The registry as a whole: opened on a data directory, served through a router, shut down in good order.
//!
//! A configuration flows in; a router, the key ring and the presence that the rendezvous reports to flow out. Here the
//! parts are put together and the housekeeping runs; what they do stands with them.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use axum::Router;
use exedra_proto::plane::{Cutoff, Presence};
use exedra_proto::ticket::KeyRing;
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, SystemClock};
use crate::config::{PublicUrl, RegistryConfig};
use crate::datadir::{DataDir, Hold};
use crate::error::RegistryError;
use crate::http;
use crate::keys::SigningKeys;
use crate::presence::{Slot, Tracker};
use crate::rates::Rates;
use crate::serverkey::ServerKey;
use crate::service::journal::Writer;
use crate::service::tokens::Tokens;
use crate::service::{Direct, Service, Terms};
use crate::store::{Check, SqliteStore, Store, WAIT, Watch};
use crate::workload::Workloads;

/// A registry that holds its data directory. Dropped, it stops its tasks; [`Registry::shutdown`] also saves what is not
/// saved yet.
pub struct Registry {
    service: Arc<Service>,
    tokens: Tokens,
    workloads: Option<Arc<Workloads>>,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
    writer: Writer,
    dir: DataDir,
    hold: Hold,
}

/// Looks at a registry from outside.
#[derive(Clone)]
pub struct Look {
    service: Arc<Service>,
}

impl Look {
    /// How many clients wait for an executor at the moment.
    pub fn waiting(&self) -> usize {
        self.service.presence.waiting()
    }

    /// How many streams of events are followed at the moment.
    pub fn listeners(&self) -> usize {
        self.service.listeners.count()
    }

    /// Whether the records can be read now.
    pub async fn store_answers(&self) -> bool {
        self.service.store.check().await.is_ok()
    }
}

impl Registry {
    /// For whoever watches it.
    pub fn look(&self) -> Look {
        Look { service: Arc::clone(&self.service) }
    }

    /// Opens the data directory, makes in it what is missing, and starts the housekeeping.
    ///
    /// # Errors
    /// The directory is held by another server, cannot be used, or what is in it makes no sense.
    pub async fn open(config: RegistryConfig) -> Result<Self, RegistryError> {
        let clock = config.clock;
        let dir = DataDir::prepare(&config.data_dir)?;
        let hold = match config.hold {
            Some(hold) => dir.take_over(hold, &config.purpose, clock.now())?,
            None => dir.hold(&config.purpose, clock.now()).await?,
        };
        let keys = Arc::new(SigningKeys::open(dir.signing_keys(), clock.now(), config.key_max_age.as_secs())?);
        let store = open_store(&dir, Check::Pages, config.store_watch).await?;
        let presence = Arc::new(Tracker::new(Arc::clone(&clock), config.reservation));
        learn(&presence, store.as_ref(), &dir).await?;
        let workloads = config.workloads.map(|workloads| Workloads::open(workloads, Arc::clone(&clock)));
        let workloads = workloads.transpose()?.map(Arc::new);
        let direct = Direct::new(ServerKey::open(&dir.server_key())?, config.aws_region);
        let terms = Terms {
            write_patience: config.write_patience,
            bind_keys: config.bind_keys,
            rates: Arc::new(Rates::new(config.rates, Arc::clone(&clock))),
            rate_patience: config.rate_patience,
        };
        let tokens = Tokens::new(Arc::clone(&store), Arc::clone(&clock), dir.database()).patient(WAIT);
        let service = Service::new(store, presence, keys, Arc::clone(&clock), direct, terms);
        let service = Arc::new(service.with_workloads(workloads.clone()));
        let tokens = tokens.told_to(Arc::clone(&service.journal));
        let writer = service.journal.start();
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(housekeeping(
            Arc::clone(&service),
            Arc::clone(&clock),
            config.housekeeping,
            config.access_keep,
            stop.clone(),
        ));
        tasks.spawn(token_watch(Arc::clone(&service), config.token_watch, stop.clone()));
        Ok(Self { service, tokens, workloads, clock, stop, tasks, writer, dir, hold })
    }

    /// Learns what another process wrote since this one opened: the one whose place this one takes.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn catch_up(&self) -> Result<(), RegistryError> {
        let keys = Arc::clone(&self.service.keys);
        tokio::task::spawn_blocking(move || keys.reload()).await.unwrap_or(Err(RegistryError::Randomness))?;
        learn(&self.service.presence, self.service.store.as_ref(), &self.dir).await
    }

    /// Names the URL under which this server is reached. Before, nobody can register or connect.
    pub fn set_public_url(&self, url: PublicUrl) {
        self.service.set_public_url(url);
    }

    /// Whom to tell which registration has to go. Forgotten at the shutdown.
    pub fn set_cutoff(&self, cutoff: Arc<dyn Cutoff>) {
        self.service.set_cutoff(cutoff);
    }

    /// The HTTP interface. It has a fallback for all other paths, so another router that is merged must have none. How it
    /// has to be served: TCP_NODELAY on accepted sockets, a deadline for the head of a request, a limit on connections,
    /// and hyper's `half_close` off.
    pub fn router(&self) -> Router {
        http::router(Arc::clone(&self.service))
    }

    /// The router of a rendezvous, whose bad tickets are charged to the addresses that they come from, as bad tokens are here.
    pub fn guard(&self, rendezvous: Router) -> Router {
        http::guarded(&self.service, rendezvous)
    }

    /// The signing keys, for whoever checks tickets.
    pub fn key_ring(&self) -> Arc<RwLock<KeyRing>> {
        self.service.keys.ring()
    }

    /// Where the rendezvous reports who comes and goes.
    pub fn presence(&self) -> Arc<dyn Presence> {
        Arc::clone(&self.service.presence) as Arc<dyn Presence>
    }

    /// The tokens.
    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// Reads the rules for workloads again, if there are any. Says so in the log, also if the new ones cannot be used and
    /// those until now stay in force.
    pub async fn reload_workloads(&self) {
        if let Some(workloads) = &self.workloads {
            match workloads.reload() {
                Ok(()) => tracing::info!("the workload rules were read again"),
                Err(error) => {
                    tracing::error!(%error, hint = error.hint(), "the workload rules until now stay in force")
                }
            }
        }
    }

    /// A copy of the hold on the data directory, for the process that takes our place.
    ///
    /// # Errors
    /// There are too many files open.
    pub fn hold(&self) -> std::io::Result<OwnedFd> {
        self.hold.copy()
    }

    /// How many clients wait for an executor at the moment.
    pub fn waiting(&self) -> usize {
        self.service.presence.waiting()
    }

    /// Puts a new signing key in force. Open tickets stay good.
    ///
    /// # Errors
    /// It cannot be saved; then nothing has changed.
    pub async fn rotate_keys(&self) -> Result<(), RegistryError> {
        let (keys, now) = (Arc::clone(&self.service.keys), self.clock.now());
        tokio::task::spawn_blocking(move || keys.rotate(now)).await.unwrap_or(Err(RegistryError::Randomness))
    }

    /// From now on the server is not ready, and who waits for an executor is answered. Registration goes on, since stock
    /// executors end when it is refused.
    pub fn drain(&self) {
        self.service.presence.drain();
    }

    /// Drains, saves what is not saved yet, and lets go of the data directory. Requests that come later get 503.
    pub async fn shutdown(mut self) {
        self.drain();
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
        self.service.note_contests().await;
        self.writer.shutdown().await;
        save_seen(&self.service).await;
        self.service.presence.set_cutoff(None);
        self.service.store.close().await;
        drop(self.hold);
    }
}

/// The tokens of a data directory, whether or not a server is running on it; what is missing is made.
///
/// # Errors
/// The directory or the database cannot be used.
pub async fn open_tokens(data_dir: &Path) -> Result<Tokens, RegistryError> {
    let dir = DataDir::prepare(data_dir)?;
    let store = open_store(&dir, Check::Version, None).await?;
    Ok(Tokens::new(store, Arc::new(SystemClock), dir.database()).patient(WAIT))
}

/// Tells presence of all registrations in the store; those that it knows change nothing.
async fn learn(presence: &Tracker, store: &dyn Store, dir: &DataDir) -> Result<(), RegistryError> {
    let known = store.registrations().await.map_err(|error| RegistryError::store(&dir.database(), error))?;
    for registration in known {
        presence.learn(&registration.executor, Slot::of(&registration));
    }
    Ok(())
}

async fn open_store(dir: &DataDir, check: Check, watch: Option<Watch>) -> Result<Arc<dyn Store>, RegistryError> {
    let _alone = dir.set_up().await?;
    let path = dir.database();
    match SqliteStore::open(&path, check).await {
        Ok(store) => Ok(Arc::new(store.watched(watch))),
        Err(error) => Err(RegistryError::store(&path, error)),
    }
}

/// Saves when executors were seen, tries whether the store can be written, shortens the access log, forgets workloads that ended
/// long ago, and looks at the age of the signing key, every so often.
async fn housekeeping(
    service: Arc<Service>,
    clock: Arc<dyn Clock>,
    every: Duration,
    access_keep: Duration,
    stop: CancellationToken,
) {
    let mut ticks = ticks(every);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        save_seen(&service).await;
        service.rates.forget_idle();
        service.try_write().await;
        service.shorten_access(access_keep).await;
        service.forget_lapsed(access_keep).await;
        let (keys, now) = (Arc::clone(&service.keys), clock.now());
        match tokio::task::spawn_blocking(move || keys.rotate_if_due(now)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::error!(%error, "the signing key could not be replaced; it stays in force"),
            Err(error) => tracing::error!(%error, "the signing key was not looked at"),
        }
    }
}

/// Has cut what was opened with tokens that ended, every so often and when there is somebody new to tell; and tries again
/// whether a store that could not be written can be.
async fn token_watch(service: Arc<Service>, every: Duration, stop: CancellationToken) {
    let mut ticks = ticks(every);
    let mut is_failing = false;
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = service.cutoff_was_set() => {}
            _ = ticks.tick() => {}
        }
        if service.writes_are_failing() {
            service.try_write().await;
        }
        service.save_access(false).await;
        service.save_used(false).await;
        service.note_contests().await;
        match service.cut_ended().await {
            Ok(_) => is_failing = false,
            Err(error) if !is_failing => {
                is_failing = true;
                tracing::error!(%error, "tokens that ended could not be looked for; it is tried again");
            }
            Err(_) => {}
        }
    }
}

fn ticks(every: Duration) -> Interval {
    let mut ticks = tokio::time::interval(every.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

async fn save_seen(service: &Service) {
    service.save_used(true).await;
    service.save_access(true).await;
    let seen = service.presence.take_seen();
    if let Err(error) = service.store.mark_seen(&seen).await {
        tracing::warn!(%error, "when executors were last seen could not be saved; it is tried again");
        service.presence.put_seen_back(&seen);
    }
}
