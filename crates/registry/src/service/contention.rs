//! Two instances with one name: whoever watches is told so, and not with every attempt of either.
//!
//! A registration that was just given, or refused for its key, flows in, with whoever is online; an event flows out, at most one for an executor
//! in [`QUIET_SECS`]. Who wins is decided elsewhere.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use exedra_proto::ids::{ExecutorId, TokenId};
use serde_json::json;

use super::Service;
use super::events::EventKind;
use crate::presence::Contest;
use crate::store::{NewRegistration, Registration};

/// For so long after an event nothing more is said of the same executor, in seconds.
const QUIET_SECS: u64 = 60;
/// Executors remembered before those that are quiet enough are forgotten.
const REMEMBERED: usize = 1_024;

/// When something was last said of whom.
#[derive(Default)]
pub struct Contention {
    told: Mutex<HashMap<ExecutorId, u64>>,
}

impl Contention {
    /// Whether it is time to say something; from now on it was said. A clock that was set back does not make it quiet for longer.
    fn is_due(&self, executor: &ExecutorId, now: u64) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.get(executor).is_some_and(|at| now.abs_diff(*at) < QUIET_SECS) {
            return false;
        }
        if told.len() >= REMEMBERED {
            told.retain(|_, at| now.abs_diff(*at) < QUIET_SECS);
        }
        told.insert(executor.clone(), now);
        true
    }
}

impl Service {
    /// An instance was given this registration: if another is online, both owners are to know.
    pub(super) async fn note_contention(&self, given: &Registration, token: &TokenId, is_superseded: bool) {
        let Some(online) = self.presence.present(&given.executor).filter(|online| *online != given.id) else { return };
        if !self.contention.is_due(&given.executor, self.clock.now()) {
            return;
        }
        let outcome = if is_superseded { "superseded_waits" } else { "newcomer_takes_over" };
        let detail = json!({
            "outcome": outcome,
            "online_registration": online.as_str(),
            "asking_registration": given.id.as_str(),
            "asking_epoch": given.epoch,
            "asking_token_id": token.as_str(),
        });
        self.record(EventKind::ExecutorContended, Some(&given.executor), detail).await;
    }

    /// Connections took a name from others that were there, or one registration's from each other again and again: whoever
    /// watches is to know, if it was not said when they registered.
    pub async fn note_contests(&self) {
        for Contest { executor, older, newer } in self.presence.take_contests() {
            if !self.contention.is_due(&executor, self.clock.now()) {
                continue;
            }
            let mut detail = json!({"outcome": "same_registration_twice", "online_registration": older.as_str()});
            if let Some(newer) = newer {
                detail["outcome"] = "newcomer_takes_over".into();
                detail["asking_registration"] = newer.registration.as_str().into();
                detail["asking_epoch"] = newer.epoch.into();
                let known = self.store.executor(&executor).await.ok().flatten();
                let token = known.filter(|known| known.current.id == newer.registration).map(|known| known.token);
                detail["asking_token_id"] = token.as_ref().map(TokenId::as_str).into();
            }
            self.record(EventKind::ExecutorContended, Some(&executor), detail).await;
        }
    }

    /// An instance was refused since the name belongs to another key: its owner is to know, and whoever governs.
    pub(super) async fn note_other_key(&self, refused: &NewRegistration, bound_key: Option<&str>) {
        let Registration { executor, transport, .. } = &refused.registration;
        if !self.key_refusals.is_due(executor, self.clock.now()) {
            return;
        }
        let key = refused.registration.proven_key();
        let detail = json!({
            "token_id": refused.token.as_str(), "transport": transport.name(), "key": key, "bound_key": bound_key,
        });
        tracing::warn!(%executor, token = %refused.token, "refused: the name is bound to a key that was not shown");
        self.record(EventKind::ExecutorKeyRefused, Some(executor), detail).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_word_a_minute_for_each_executor_and_no_memory_without_end() {
        let (contention, id) = (Contention::default(), |i: usize| ExecutorId::parse(&format!("box-{i}")).unwrap());
        assert!(contention.is_due(&id(0), 100));
        assert!(!contention.is_due(&id(0), 159));
        assert!(contention.is_due(&id(1), 159));
        assert!(contention.is_due(&id(0), 160));
        assert!(contention.is_due(&id(0), 90_000) && contention.is_due(&id(0), 200), "the clock was ahead");
        for i in 0..10 * REMEMBERED {
            assert!(contention.is_due(&id(i), 1_000 + i as u64 * QUIET_SECS));
        }
        assert!(contention.told.lock().unwrap().len() <= REMEMBERED);
    }
}
