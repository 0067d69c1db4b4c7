//! Events: what happened that somebody may want to hear of, written to the store's journal with a rising id.
//!
//! Kinds and details flow in, in the words that whoever reads the journal relies on. A journal that cannot be written
//! fails nothing: what the event tells of has happened, and the log has it too.

use std::time::Duration;

use exedra_proto::ids::ExecutorId;
use serde_json::Value;
use tokio::time::timeout;

use super::Service;
use crate::store::{NewEvent, StoreError};

/// A journal that takes longer is not waited for, since what is told of has somebody waiting for it.
const JOURNAL_PATIENCE: Duration = Duration::from_secs(1);

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EventKind {
    /// Two instances want the name of one executor.
    ExecutorContended,
}

impl EventKind {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ExecutorContended => "executor_contended",
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
}
