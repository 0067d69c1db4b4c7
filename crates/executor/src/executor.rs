//! The executor as such: the host, its sessions, and what all connections share.
//!
//! In flow connections, whoever made them, out flows how each went. Sessions live here, longer than any connection, and
//! end here: [`Executor::shutdown`] waits for it, dropping the executor kills at once.

use std::sync::{Arc, Mutex, PoisonError};

use exedra_host::Host;
use exedra_host::fetch::{FetchConfig, Fetcher};
use exedra_link::Connection;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::ExecutorConfig;
use crate::dispatch::budget::Pool;
use crate::error::ExecutorError;
use crate::peer::{Client, Peer};
use crate::refusals::Refusals;
use crate::rest::{self, Clients};
use crate::serve::{self, Served};
use crate::session::Sessions;
use crate::session::reaper::{self, Ending};

/// Sessions over a host, to be served over any number of connections at a time.
#[derive(Debug)]
pub struct Executor {
    sessions: Arc<Sessions>,
    fetcher: Arc<Fetcher>,
    pool: Pool,
    clients: Clients,
    cancel: CancellationToken,
    hurry: CancellationToken,
    tasks: Mutex<JoinSet<()>>,
}

impl Executor {
    /// Starts one; needs a tokio runtime.
    ///
    /// # Errors
    /// The machine refuses what every executor needs.
    pub fn new(config: ExecutorConfig) -> Result<Self, ExecutorError> {
        let host = Host::start(config.host.clone())?;
        let mut fetching = FetchConfig::default();
        fetching.environment.clone_from(&config.host.environment);
        fetching.policy = config.host.policy.clone();
        let sessions = Arc::new(Sessions::new(host, &config));
        let (cancel, hurry) = (CancellationToken::new(), CancellationToken::new());
        let mut tasks = JoinSet::new();
        let how = Ending { grace: config.grace, hurry: hurry.clone() };
        tasks.spawn(reaper::run(Arc::clone(&sessions), how, cancel.clone()));
        let clients = Clients::default();
        let (resting, stop) = (rest::run(clients.clone()), cancel.clone());
        tasks.spawn(async move { _ = stop.run_until_cancelled(resting).await });
        let (refusals, stop) = (Arc::clone(sessions.refusals()), cancel.clone());
        tasks.spawn(async move {
            let _ = stop.run_until_cancelled(refusals.run()).await;
            refusals.flush(None);
        });
        Ok(Self {
            sessions,
            fetcher: Arc::new(Fetcher::new(fetching)),
            pool: Pool::default(),
            clients,
            cancel,
            hurry,
            tasks: Mutex::new(tasks),
        })
    }

    /// Serves one connection to its end, or until `cancel`. Its session is detached then.
    pub async fn serve(&self, connection: Connection, peer: Peer, cancel: &CancellationToken) -> Served {
        self.serve_client(connection, peer, Client::default(), cancel).await
    }

    /// As [`Self::serve`], for a client of whom a token says something.
    pub async fn serve_client(
        &self,
        connection: Connection,
        peer: Peer,
        client: Client,
        cancel: &CancellationToken,
    ) -> Served {
        let _here = self.clients.come();
        let (sessions, fetcher) = (Arc::clone(&self.sessions), Arc::clone(&self.fetcher));
        let stop = async {
            tokio::select! {
                () = cancel.cancelled() => {}
                () = self.cancel.cancelled() => {}
            }
        };
        serve::run(connection, peer, client, sessions, fetcher, self.pool.clone(), stop).await
    }

    /// Does `serving`; on `cancel` it shuts down meanwhile, so that no goodbye delays the word to the processes.
    pub(crate) async fn shut_down_beside<T>(&self, cancel: &CancellationToken, serving: impl Future<Output = T>) -> T {
        tokio::pin!(serving);
        tokio::select! {
            biased;
            done = &mut serving => return done,
            () = cancel.cancelled() => {}
        }
        let (done, ()) = tokio::join!(serving, self.shutdown());
        done
    }

    /// Who is not let in.
    pub(crate) fn refusals(&self) -> &Arc<Refusals> {
        self.sessions.refusals()
    }

    /// How many sessions there are, attached or not.
    pub fn sessions(&self) -> usize {
        self.sessions.count()
    }

    /// Ends the grace of processes that a shutdown has told to end: SIGKILL now. Whoever waits for the shutdown goes on
    /// waiting, not for long.
    pub fn hurry(&self) {
        self.hurry.cancel();
    }

    /// Tells all connections to close, and ends all sessions: SIGTERM to their processes, the grace, SIGKILL. Once it was
    /// called, calling it again does nothing.
    pub async fn shutdown(&self) {
        self.cancel.cancel();
        let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        while tasks.join_next().await.is_some() {}
    }
}
