//! Ends sessions: those whose time is over while the executor runs, and all of them when it stops.
//!
//! In flow detachments and the clock, out flow SIGTERM, a grace, SIGKILL. It decides nothing itself: the table does.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::store::{Session, Sessions};
use crate::audit::{Audit, Record};

/// How sessions are ended.
#[derive(Clone, Debug)]
pub struct Ending {
    /// How long processes have between SIGTERM and SIGKILL.
    pub grace: Duration,
    /// Cuts that short.
    pub hurry: CancellationToken,
}

/// Runs until `cancel`, and then until all sessions are ended.
pub async fn run(sessions: Arc<Sessions>, how: Ending, cancel: CancellationToken) {
    let mut ending = JoinSet::new();
    loop {
        let (expired, next) = sessions.expire(Instant::now());
        for session in expired {
            tracing::info!(session = %session.id, "session expired");
            ending.spawn(end(session, how.clone(), sessions.audit().cloned()));
        }
        tokio::select! {
            biased;
            () = cancel.cancelled() => break,
            Some(_) = ending.join_next() => {}
            () = sessions.reapings().notified() => {}
            () = until(next) => {}
        }
    }
    for session in sessions.close() {
        ending.spawn(end(session, how.clone(), sessions.audit().cloned()));
    }
    while ending.join_next().await.is_some() {}
}

async fn end(session: Arc<Session>, how: Ending, audit: Option<Audit>) {
    tokio::select! {
        biased;
        () = how.hurry.cancelled() => session.processes.shutdown(Duration::ZERO).await,
        () = session.processes.shutdown(how.grace) => {}
    }
    tracing::info!(session = %session.id, "session ended");
    if let Some(audit) = audit {
        audit.tell(Record::SessionEnded { session: session.id.clone() });
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}
