//! Events: what happened that somebody may want to hear of, put into the journal, and read from it by those who may.
//!
//! Kinds and details flow in, in the words that whoever reads the journal relies on; pages flow out. A journal that cannot be
//! written fails nothing: what the event tells of has happened, and the log has it too.

use std::time::Duration;

use exedra_proto::ids::ExecutorId;
use serde_json::Value;
use tokio::time::timeout;

use super::listeners::{Crowded, Listener};
use super::{Refusal, Service};
use crate::auth::Caller;
use crate::store::{Event, NewEvent};
use crate::token::Role;

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
    /// Here events were left out that could not be kept until they could be written.
    EventsMissing,
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
            Self::EventsMissing => "events_missing",
        }
    }
}

/// A page of events.
#[derive(Debug)]
pub struct Heard {
    /// Those that the caller may hear of, the oldest first.
    pub events: Vec<Event>,
    /// After which one the next page begins.
    pub next: u64,
    /// The oldest that is kept or will come, where some between the one that was asked for and it are not kept, or that
    /// one is beyond the last that there ever was here: then the page begins with the oldest.
    pub gap: Option<u64>,
}

impl Service {
    /// Writes down that something happened. `detail` is an object whose members belong to the kind; it holds no secret.
    pub async fn record(&self, kind: EventKind, executor: Option<&ExecutorId>, detail: Value) {
        let kind = kind.as_str();
        tracing::info!(kind, executor = executor.map(ExecutorId::as_str), %detail, "event");
        let event = NewEvent { at: self.clock.now(), kind: kind.to_owned(), executor: executor.cloned(), detail };
        self.journal.put(event).await;
    }

    /// A page of at most `most` of the events after `after`, as far as the caller may hear of them.
    pub async fn events_for(&self, caller: &Caller, after: u64, most: u32) -> Result<Heard, Refusal> {
        caller.sees_any()?;
        let (mut after, mut gap) = (after, None);
        let mut page = self.store.events_after(after, most).await?;
        if let Some(first) = page.first() {
            // Nothing is missing before the first look.
            gap = (after > 0 && first.id - 1 > after).then_some(first.id);
        } else {
            let last = self.store.last_event().await?;
            if after > last {
                after = 0;
                page = self.store.events_after(after, most).await?;
                gap = Some(page.first().map_or(last + 1, |first| first.id));
            }
        }
        let next = page.last().map_or(after, |last| last.id);
        let mut events = Vec::new();
        for event in page {
            // That some are missing concerns everybody, and tells nothing of them.
            if event.kind == EventKind::EventsMissing.as_str() || self.may_hear(caller, event.executor.as_ref()).await?
            {
                events.push(event);
            }
        }
        Ok(Heard { events, next, gap })
    }

    /// A place among those who wait for events.
    pub fn listen(&self, caller: &Caller) -> Result<Listener, Refusal> {
        self.listeners.place(&caller.token, caller.needs(Role::Admin).is_ok()).map_err(|crowded| match crowded {
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
