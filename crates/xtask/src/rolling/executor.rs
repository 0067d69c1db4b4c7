//! Our executors, many in one process, each a daemon of its own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use exedra_executor::daemon::{Daemon, DaemonConfig, Event, TokenSource};
use exedra_executor::{Executor, ExecutorConfig};
use exedra_proto::registry::Transport;
use exedra_proto::secret::Secret;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::plane::Plane;

/// What became of them.
#[derive(Debug, Default)]
struct Fate {
    online: BTreeMap<String, bool>,
    gave_up: usize,
    refusals: usize,
}

impl Fate {
    fn set(&mut self, id: &str, online: bool) {
        self.online.insert(id.to_owned(), online);
    }
}

/// The daemons; they end with it.
#[derive(Default)]
pub(super) struct Fleet {
    fate: Arc<Mutex<Fate>>,
    changed: watch::Sender<()>,
    daemons: JoinSet<()>,
}

impl Fleet {
    /// Starts one as `id`.
    pub(super) fn add(&mut self, plane: &Plane, id: String, transport: Transport) -> Result<()> {
        let mut config = DaemonConfig::new(plane.url.as_str(), id.as_str());
        config.token = TokenSource::Fixed(Secret::new(plane.executor_token.as_str()));
        config.transports = vec![transport];
        let executor = Arc::new(Executor::new(ExecutorConfig::default()).map_err(|error| anyhow!("{error}"))?);
        let daemon = Daemon::new(config, executor)?;
        let (fate, changed) = (Arc::clone(&self.fate), self.changed.clone());
        let note = move |act: &dyn Fn(&mut Fate)| {
            act(&mut fate.lock().unwrap_or_else(PoisonError::into_inner));
            changed.send_replace(());
        };
        note(&|fate| fate.set(&id, false));
        self.daemons.spawn(async move {
            let watch = |event| match event {
                Event::Connected => note(&|fate| fate.set(&id, true)),
                Event::Waiting { reason, .. } => note(&|fate| {
                    fate.set(&id, false);
                    fate.refusals += usize::from(reason.to_lowercase().contains("connection refused"));
                }),
                Event::Registered { .. } => {}
            };
            daemon.run(CancellationToken::new(), watch).await;
            note(&|fate| fate.gave_up += 1);
        });
        Ok(())
    }

    /// Their ids.
    pub(super) fn ids(&self) -> Vec<String> {
        self.look(|fate| fate.online.keys().cloned().collect())
    }

    /// How many have ended.
    pub(super) fn lost(&self) -> usize {
        self.look(|fate| fate.gave_up)
    }

    /// How often one of them found nobody listening.
    pub(super) fn refusals(&self) -> usize {
        self.look(|fate| fate.refusals)
    }

    /// Waits until all are connected.
    pub(super) async fn online(&self, limit: Duration) -> Result<()> {
        let mut changed = self.changed.subscribe();
        let all = async {
            while !self.look(|fate| fate.online.values().all(|online| *online)) {
                if changed.changed().await.is_err() {
                    break;
                }
            }
        };
        let away = || self.look(|fate| fate.online.values().filter(|online| !**online).count());
        timeout(limit, all).await.with_context(|| format!("{} executors are away", away()))
    }

    fn look<T>(&self, look: impl FnOnce(&Fate) -> T) -> T {
        look(&self.fate.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
