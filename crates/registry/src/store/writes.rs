//! Whether a store can be written, as far as its writes have shown.
//!
//! Outcomes of writes flow in, the last failure flows out. Any write can fail it; that one went well says little, since it
//! may have found room that was its own already. So only [`Store::try_write`](super::Store::try_write), which takes new
//! room, ends a failure.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Pending, StoreError};

/// How the writes went.
#[derive(Debug, Default)]
pub struct Writes {
    failure: Mutex<Option<StoreError>>,
}

impl Writes {
    /// Why the store cannot be written, if it cannot.
    pub fn failure(&self) -> Option<StoreError> {
        self.lock().clone()
    }

    /// A write ended so.
    pub fn note<T>(&self, outcome: &Result<T, StoreError>) {
        let Err(error) = outcome else { return };
        // Anything else is for whoever asked, or is somebody else's write that is going on.
        let is_ours =
            matches!(error, StoreError::Full | StoreError::ReadOnly | StoreError::Corrupt(_) | StoreError::Failed(_));
        if is_ours && self.lock().replace(error.clone()).is_none() {
            tracing::error!(%error, hint = error.hint(), "the store cannot be written; the server is not ready");
        }
    }

    /// Tries whether it can be written, by `trial`.
    pub fn tried<'a>(&'a self, trial: Pending<'a, ()>) -> Pending<'a, ()> {
        Box::pin(async move {
            let outcome = trial.await;
            self.note(&outcome);
            if outcome.is_ok() && self.lock().take().is_some() {
                tracing::info!("the store can be written again");
            }
            outcome
        })
    }

    fn lock(&self) -> MutexGuard<'_, Option<StoreError>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
