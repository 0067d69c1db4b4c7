//! The tasks of the rendezvous, one for each connection: all in one set, which ends with its owner.
//!
//! Futures in, nothing out. It knows not what they do.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;

/// The set; `None` once it takes no more. Its size is bounded by the router, which admits each connection.
pub struct Tasks(Mutex<Option<JoinSet<()>>>);

impl Tasks {
    /// None yet.
    pub fn new() -> Self {
        Self(Mutex::new(Some(JoinSet::new())))
    }

    /// Runs `task`; `false` if none is taken any more.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> bool {
        let mut tasks = self.lock();
        let Some(tasks) = tasks.as_mut() else { return false };
        while let Some(finished) = tasks.try_join_next() {
            log_panic(finished);
        }
        tasks.spawn(task);
        true
    }

    /// Takes no more, and waits for those that run; aborts what is left after `patience`.
    pub async fn finish(&self, patience: Duration) {
        let Some(mut tasks) = self.lock().take() else { return };
        let all = async {
            while let Some(finished) = tasks.join_next().await {
                log_panic(finished);
            }
        };
        if tokio::time::timeout(patience, all).await.is_err() {
            tracing::warn!(left = tasks.len(), "connections that did not end in time are cut");
            tasks.shutdown().await;
        }
    }

    /// Aborts all.
    pub fn abort(&self) {
        drop(self.lock().take());
    }

    fn lock(&self) -> MutexGuard<'_, Option<JoinSet<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn log_panic(finished: Result<(), tokio::task::JoinError>) {
    if let Err(error) = finished
        && error.is_panic()
    {
        tracing::error!(%error, "a connection's task failed");
    }
}
