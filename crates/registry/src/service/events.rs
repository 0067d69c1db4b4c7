//! Events: what happened that somebody may want to hear of, written to the store's journal with a rising id.
//!
//! Kinds and details flow in, in the words that whoever reads the journal relies on. A journal that cannot be written
//! fails nothing: what the event tells of has happened, and the log has it too.

use std::time::Duration;

use exedra_proto::ids::ExecutorId;
use serde_json::Value;
use tokio::time::timeout;

use super::listeners::{Crowded, Listener};
use super::{Refusal, Service};
use crate::auth::Caller;
use crate::store::{Event, NewEvent, StoreError};

/// A journal that takes longer is not waited for, since what is told of has somebody waiting for it.
const JOURNAL_PATIENCE: Duration = Duration::from_secs(1);

/// Events on a page.
pub const PAGE: u32 = 500;
/// The same for one who follows them: they wait in memory until he reads. An event has some 2.5 KiB at most.
pub const FOLLOWED: u32 = 64;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EventKind {
    /// Two instances want the name of one executor.
    ExecutorContended,
    /// A join token was traded for the credential of an executor.
    ExecutorJoined,
    /// An administrator gave an executor labels.
    ExecutorLabelled,
    /// No new client is let in to an executor.
    ExecutorDraining,
    /// Clients are let in again.
    ExecutorResumed,
    /// An executor was forgotten.
    ExecutorForgotten,
    /// An executor's name is bound to a key from now on.
    ExecutorKeyBound,
    /// Somebody with another key, or none, was refused a name that is bound to a key.
    ExecutorKeyRefused,
    /// Any key may have an executor's name again.
    ExecutorKeyForgotten,
    /// Another signing key signs.
    KeyRotated,
    /// A signing key was revoked.
    KeyRevoked,
    /// A token was made.
    TokenCreated,
    /// A token got another secret.
    TokenRotated,
    /// A token was revoked.
    TokenRevoked,
    /// The revoked token of a workload is good again.
    TokenReadmitted,
}

impl EventKind {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ExecutorContended => "executor_contended",
            Self::ExecutorJoined => "executor_joined",
            Self::ExecutorLabelled => "executor_labelled",
            Self::ExecutorDraining => "executor_draining",
            Self::ExecutorResumed => "executor_resumed",
            Self::ExecutorForgotten => "executor_forgotten",
            Self::ExecutorKeyBound => "executor_key_bound",
            Self::ExecutorKeyRefused => "executor_key_refused",
            Self::ExecutorKeyForgotten => "executor_key_forgotten",
            Self::KeyRotated => "key_rotated",
            Self::KeyRevoked => "key_revoked",
            Self::TokenCreated => "token_created",
            Self::TokenRotated => "token_rotated",
            Self::TokenRevoked => "token_revoked",
            Self::TokenReadmitted => "token_readmitted",
        }
    }
}

impl Service {
    /// Writes down that something happened. `detail` is an object whose members belong to the kind; it holds no secret.
    pub async fn record(&self, kind: EventKind, executor: Option<&ExecutorId>, detail: Value) {
        let kind = kind.as_str();
        tracing::info!(kind, executor = executor.map(ExecutorId::as_str), %detail, "event");
        let event = NewEvent { at: self.clock.now(), kind: kind.to_owned(), executor: executor.cloned(), detail };
        let outcome = timeout(JOURNAL_PATIENCE, self.store.append_event(&event)).await;
        if let Err(error) = outcome.unwrap_or(Err(StoreError::Busy)) {
            tracing::warn!(kind, %error, "an event is not in the journal");
        }
    }

    /// A page of at most `most` of the events after `after` that the caller may hear of, and after which one the next begins.
    pub async fn events_for(&self, caller: &Caller, after: u64, most: u32) -> Result<(Vec<Event>, u64), Refusal> {
        caller.sees_any()?;
        let page = self.store.events_after(after, most).await?;
        let next = page.last().map_or(after, |last| last.id);
        let mut heard = Vec::new();
        for event in page {
            if self.may_hear(caller, event.executor.as_ref()).await? {
                heard.push(event);
            }
        }
        Ok((heard, next))
    }

    /// The id of the oldest event that is kept, if one after `after` is no longer; nothing is missing before the first look.
    pub async fn gap(&self, after: u64) -> Result<Option<u64>, Refusal> {
        let first = self.store.events_after(after, 1).await?.into_iter().next();
        Ok(first.map(|first| first.id).filter(|first| after > 0 && *first > after + 1))
    }

    /// A place among those who wait for events.
    pub fn listen(&self, caller: &Caller) -> Result<Listener, Refusal> {
        self.listeners.place(&caller.token).map_err(|crowded| match crowded {
            Crowded::Own => Refusal::CrowdedByOwn,
            Crowded::All => Refusal::Crowded,
        })
    }

    /// Waits, but not beyond the beginning of a shutdown.
    pub async fn pause(&self, time: Duration) {
        let _ = timeout(time, self.presence.drained()).await;
    }

    /// Whether the caller's token is still good, and the server stays.
    pub async fn still(&self, caller: &Caller) -> Result<(), Refusal> {
        if self.presence.is_draining() {
            return Err(Refusal::Draining);
        }
        Ok(self.auth.still(caller).await?)
    }
}
