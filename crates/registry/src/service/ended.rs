//! Tokens that ended, and secrets of tokens: what was opened with them is cut, once for each; a rendezvous that arrives during a
//! look may be told twice, which cuts nothing more. Whoever waits meanwhile is answered.
//!
//! The store is asked who was revoked, has expired or got another secret, by whatever process; presence passes on who has to go. A
//! ticket may outlive its token by a ticket's life, so a rendezvous that is new is told of all that ended within that time. Where the
//! clock alone has ended a token and is then set back, nothing stands against the token: it is as good as before.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use exedra_proto::plane::Cutoff;
use exedra_proto::ticket::EXECUTOR_TICKET_SECS;
use tokio::sync::{Mutex, Notify, watch};

use super::{Refusal, Service};
use crate::auth::{Denied, Permit};
use crate::store::{End, Ended as EndedToken, StoreError};

/// Who was told what.
#[derive(Default)]
pub struct Ended {
    /// One more for each rendezvous.
    rendezvous: AtomicU64,
    news: Notify,
    told: Mutex<Told>,
    /// One more whenever somebody who was let in may not be any more.
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct Told {
    rendezvous: u64,
    tokens: HashSet<EndedToken>,
    /// Those of which whoever waits has heard.
    heard: HashSet<EndedToken>,
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
            let heard = std::mem::take(&mut told.heard);
            *told = Told { rendezvous, heard, ..Told::default() };
        }
        let now = self.clock.now();
        // From the last time on, since the clock may have leapt over a token's end.
        let since = told.asked_at.map_or(now, |asked_at| asked_at.min(now)).saturating_sub(EXECUTOR_TICKET_SECS);
        let ended: HashSet<_> = self.store.ended_tokens(since, now).await?.into_iter().collect();
        told.asked_at = Some(now);
        told.tokens.retain(|token| ended.contains(token));
        if !ended.is_subset(&told.heard) {
            self.changed();
        }
        told.heard.clone_from(&ended);
        let mut is_new = false;
        for token in ended {
            if !told.tokens.contains(&token) && self.presence.cut_token(&token) {
                // Who registers with another secret is granted to others as before.
                is_new |= !matches!(token.how, End::Renewed(_));
                told.tokens.insert(token);
            }
        }
        Ok(is_new)
    }

    /// Somebody who was let in may not be any more: whoever waits looks again.
    pub(super) fn changed(&self) {
        self.ended.changes.send_modify(|changes| *changes += 1);
    }

    /// How often that was.
    pub(super) fn changes(&self) -> u64 {
        *self.ended.changes.borrow()
    }

    /// Does what may take a while, for as long as the bearer's token is good.
    pub(super) async fn while_good<T>(
        &self,
        permit: &Permit,
        work: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<T, Refusal> {
        let mut work = pin!(work);
        let mut changes = self.ended.changes.subscribe();
        loop {
            let left = permit.expires_at.map(|end| Duration::from_secs(end.saturating_sub(self.clock.now())));
            let done = tokio::select! {
                biased;
                done = &mut work => Some(done),
                _ = changes.changed() => None,
                () = over(left) => None,
            };
            if let Some(done) = done {
                let is_changed = changes.has_changed().unwrap_or(false);
                if is_changed || matches!(done, Err(Refusal::Offline { .. } | Refusal::Busy { .. })) {
                    self.still_good(permit).await?;
                }
                return done;
            }
            self.still_good(permit).await?;
        }
    }

    /// Whether anything speaks against the bearer's token now. A store that does not answer says nothing.
    async fn still_good(&self, permit: &Permit) -> Result<(), Refusal> {
        match self.auth.confirm(permit).await {
            Ok(()) | Err(Denied::Store(_)) => Ok(()),
            Err(denied) => Err(denied.into()),
        }
    }
}

/// Returns when so much time is over; never, if there is no end.
async fn over(left: Option<Duration>) {
    match left {
        Some(left) => tokio::time::sleep(left).await,
        None => std::future::pending().await,
    }
}
