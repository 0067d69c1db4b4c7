//! Tokens that ended: what was opened with them is cut, once for each; a rendezvous that arrives during a look may be told
//! twice, which cuts nothing more.
//!
//! The store is asked who was revoked or has expired, by whatever process; presence passes on who has to go. A ticket may
//! outlive its token by a ticket's life, so a rendezvous that is new is told of all that ended within that time.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use exedra_proto::ids::TokenId;
use exedra_proto::plane::Cutoff;
use exedra_proto::ticket::EXECUTOR_TICKET_SECS;
use tokio::sync::{Mutex, Notify};

use super::Service;
use crate::store::StoreError;

/// Who was told what.
#[derive(Default)]
pub struct Ended {
    /// One more for each rendezvous.
    rendezvous: AtomicU64,
    news: Notify,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    rendezvous: u64,
    tokens: HashSet<TokenId>,
    /// When the store was last asked.
    asked_at: Option<u64>,
}

impl Service {
    /// Whom to tell from now on what has to go.
    pub fn set_cutoff(&self, cutoff: Arc<dyn Cutoff>) {
        self.presence.set_cutoff(Some(cutoff));
        self.ended.rendezvous.fetch_add(1, Ordering::SeqCst);
        self.ended.news.notify_one();
    }

    /// Somebody new is there to be told.
    pub async fn cutoff_was_set(&self) {
        self.ended.news.notified().await;
    }

    /// Has all cut that was opened with tokens that ended; says whether there was any that was not cut before.
    pub async fn cut_ended(&self) -> Result<bool, StoreError> {
        let mut told = self.ended.told.lock().await;
        let rendezvous = self.ended.rendezvous.load(Ordering::SeqCst);
        if told.rendezvous != rendezvous {
            *told = Told { rendezvous, ..Told::default() };
        }
        let now = self.clock.now();
        // From the last time on, since the clock may have leapt over a token's end.
        let since = told.asked_at.map_or(now, |asked_at| asked_at.min(now)).saturating_sub(EXECUTOR_TICKET_SECS);
        let ended: HashSet<_> = self.store.ended_tokens(since, now).await?.into_iter().collect();
        told.asked_at = Some(now);
        told.tokens.retain(|token| ended.contains(token));
        let mut is_new = false;
        for token in ended {
            if !told.tokens.contains(&token) && self.presence.cut_token(&token) {
                told.tokens.insert(token);
                is_new = true;
            }
        }
        Ok(is_new)
    }
}
