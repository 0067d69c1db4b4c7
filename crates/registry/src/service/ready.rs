//! Whether new work may come: the store answers, could be written when that was last tried, and the server stays.
//!
//! Outcomes of writes flow in, an answer flows out. The housekeeping tries a write every so often, and more often after
//! one failed, so that neither a full disk nor the end of it waits for an executor to register.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{Refusal, Service};
use crate::auth::Caller;
use crate::store::StoreError;

/// How long the store may take to say that it is well.
const CHECK_DEADLINE: Duration = Duration::from_secs(2);

/// How the last write went.
#[derive(Default)]
pub struct Writes {
    are_failing: AtomicBool,
}

/// How the server is.
#[derive(Clone, Copy, Debug)]
pub struct Status {
    /// When it started, seconds since 1970.
    pub started_at: u64,
    /// What its clock says, seconds since 1970.
    pub now: u64,
    /// Whether new work may come.
    pub ready: bool,
    /// Executors that ever registered and are not forgotten.
    pub executors_known: u64,
    /// Executors that are connected.
    pub executors_online: u64,
    /// Websockets at the rendezvous.
    pub connections: u64,
    /// Clients that wait for an executor.
    pub waiting: u64,
}

impl Service {
    /// How the server is, for one who governs it.
    pub async fn status(&self, caller: &Caller) -> Result<Status, Refusal> {
        caller.governs()?;
        Ok(Status {
            started_at: self.started_at,
            now: self.clock.now(),
            ready: self.check().await.is_ok(),
            executors_known: self.store.executor_ids(u32::MAX).await?.len() as u64,
            executors_online: self.presence.online_count() as u64,
            connections: self.presence.connections().len() as u64,
            waiting: self.presence.waiting() as u64,
        })
    }

    /// Whether new work may come.
    pub async fn check(&self) -> Result<(), Refusal> {
        if self.presence.is_draining() {
            return Err(Refusal::Draining);
        }
        if self.writes_are_failing() {
            return Err(Refusal::Unavailable);
        }
        match tokio::time::timeout(CHECK_DEADLINE, self.store.check()).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(Refusal::Unavailable),
        }
    }

    /// Finds out whether the store can be written.
    pub async fn try_write(&self) {
        let outcome = self.store.try_write().await;
        self.note_write(outcome.as_ref().err());
    }

    /// Whether the last write failed.
    pub fn writes_are_failing(&self) -> bool {
        self.writes.are_failing.load(Ordering::Relaxed)
    }

    /// A write went well, or failed with this.
    pub fn note_write(&self, failure: Option<&StoreError>) {
        // It is somebody else's write that is going on.
        if failure == Some(&StoreError::Busy) {
            return;
        }
        let did_fail = self.writes.are_failing.swap(failure.is_some(), Ordering::Relaxed);
        match failure {
            Some(error) if !did_fail => {
                tracing::error!(%error, hint = error.hint(), "the store cannot be written; the server is not ready");
            }
            None if did_fail => tracing::info!("the store can be written again"),
            _ => {}
        }
    }
}
