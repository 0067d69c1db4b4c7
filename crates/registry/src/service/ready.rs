//! Whether new work may come: the store answers, could be written when that was last tried, and the server stays.
//!
//! What the store says of itself flows in, an answer flows out. The housekeeping tries a write every so often, and more often after
//! one failed, so that neither a full disk nor the end of it waits for an executor to register.

use std::time::Duration;

use super::{Refusal, Service};
use crate::auth::Caller;

/// How long the store may take to say that it is well.
const CHECK_DEADLINE: Duration = Duration::from_secs(2);

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
        if let Some(error) = self.store.failing() {
            return Err(Refusal::of_failing(&error));
        }
        match tokio::time::timeout(CHECK_DEADLINE, self.store.check()).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(Refusal::Unavailable),
        }
    }

    /// Finds out whether the store can be written.
    pub async fn try_write(&self) {
        // The store keeps what came of it, and tells.
        let _ = self.store.try_write().await;
    }

    /// Whether the store cannot be written.
    pub fn writes_are_failing(&self) -> bool {
        self.store.failing().is_some()
    }
}
