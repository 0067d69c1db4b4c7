//! The executors as those see them who may: listed, shown, changed by an administrator, forgotten; and who is connected.
//!
//! A caller and a wish flow in, records with what presence knows of them flow out. An administrator sees the executors of
//! its token, a client too, an executor's token the ones that registered with it.

use std::collections::HashMap;
use std::time::Duration;

use exedra_proto::ids::ExecutorId;
use exedra_proto::plane::Connection;
use exedra_proto::secret::Secret;
use serde_json::json;

use super::events::EventKind;
use super::{Refusal, Service};
use crate::auth::{Caller, Denied};
use crate::presence::State;
use crate::store::{ExecutorChange, ExecutorRecord, StoreError, TokenRecord};
use crate::token::{Labels, Role};

/// Most executors on a page.
pub const PAGE_MAX: usize = 500;
/// Lapsed workloads forgotten in one round of housekeeping, and executors of such: some 100 ms of writing.
const LAPSED_AT_ONCE: u32 = 64;
/// Records read at a time.
const CHUNK: u32 = 500;

/// Which executors are wanted.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Those with ids above this one.
    pub after: Option<ExecutorId>,
    /// Those with all of these labels, given or claimed.
    pub labels: Labels,
    /// Those in this state.
    pub state: Option<State>,
    /// At most so many.
    pub limit: usize,
}

/// An executor, as it is now.
#[derive(Clone, Debug)]
pub struct Seen {
    /// What is kept of it.
    pub record: ExecutorRecord,
    /// Whether it is there.
    pub state: State,
    /// Since when it is held, if it is.
    pub held_since: Option<u64>,
    /// When it was last connected.
    pub last_seen: Option<u64>,
}

/// Who is on what.
#[derive(Clone, Debug)]
pub struct Meeting {
    /// The executor.
    pub executor: ExecutorId,
    /// The connection.
    pub connection: Connection,
}

impl Service {
    /// Who shows this token.
    pub async fn caller(&self, bearer: Option<&Secret>) -> Result<Caller, Refusal> {
        Ok(self.auth.identify(bearer).await?)
    }

    /// Who shows this token, if it governs the whole server.
    pub async fn governor(&self, bearer: Option<&Secret>) -> Result<Caller, Refusal> {
        let caller = self.caller(bearer).await?;
        caller.governs()?;
        Ok(caller)
    }

    /// A page of the executors that the caller sees, and after which id the next one begins.
    pub async fn executors(
        &self,
        caller: &Caller,
        wanted: &Wanted,
    ) -> Result<(Vec<Seen>, Option<ExecutorId>), Refusal> {
        caller.sees_any()?;
        let limit = wanted.limit.clamp(1, PAGE_MAX);
        let (mut page, mut after) = (Vec::new(), wanted.after.clone());
        loop {
            let records = self.store.executors(after.as_ref(), CHUNK).await?;
            let is_last = records.len() < CHUNK as usize;
            for record in records {
                let id = record.current.executor.clone();
                if page.len() == limit {
                    return Ok((page, after));
                }
                after = Some(id);
                if caller.sees(&record) && has(&record, &wanted.labels) {
                    let seen = self.seen(record);
                    if wanted.state.is_none_or(|state| state == seen.state) {
                        page.push(seen);
                    }
                }
            }
            if is_last {
                return Ok((page, None));
            }
        }
    }

    /// The executor of that id, if the caller sees it.
    pub async fn show(&self, caller: &Caller, id: &str) -> Result<Seen, Refusal> {
        caller.sees_any()?;
        let id = ExecutorId::parse(id).map_err(Denied::from)?;
        if !caller.pattern.covers(&id) {
            return Err(Denied::Pattern(caller.pattern.clone()).into());
        }
        let record = self.store.executor(&id).await?.ok_or(Refusal::Unknown { near: Vec::new() })?;
        if caller.sees(&record) {
            return Ok(self.seen(record));
        }
        Err(if caller.role == Role::Executor { Denied::OtherToken.into() } else { Denied::Labels.into() })
    }

    /// The executor of that id, for an administrator who is to change it.
    pub async fn administered(&self, caller: &Caller, id: &str) -> Result<ExecutorId, Refusal> {
        caller.needs(Role::Admin)?;
        Ok(self.show(caller, id).await?.record.current.executor)
    }

    /// Changes what an administrator says of an executor. Clients that no longer reach it for its labels are cut off.
    pub async fn change(&self, caller: &Caller, id: &ExecutorId, change: &ExecutorChange) -> Result<Seen, Refusal> {
        let before = self.store.executor(id).await?.map(|known| known.trusted());
        let changed = self.store.change_executor(id, change).await?.ok_or(Refusal::Unknown { near: Vec::new() })?;
        let by = caller.token.as_str();
        if let Some(labels) = &change.assigned {
            self.changed();
            self.bar(id, &before.unwrap_or_default(), &changed.trusted()).await?;
            self.record(EventKind::ExecutorLabelled, Some(id), json!({"by": by, "labels": labels})).await;
        }
        if let Some(since) = change.draining_since {
            let kind = if since.is_some() { EventKind::ExecutorDraining } else { EventKind::ExecutorResumed };
            self.record(kind, Some(id), json!({"by": by})).await;
        }
        Ok(self.seen(changed))
    }

    /// Cuts off the clients of an executor that its labels let in before, and do not now.
    async fn bar(&self, id: &ExecutorId, before: &Labels, now: &Labels) -> Result<(), StoreError> {
        let is_barred = |token: &TokenRecord| {
            token.role.covers(Role::Client)
                && token.executors.covers(id)
                && before.have(&token.labels)
                && !now.have(&token.labels)
        };
        for token in self.store.tokens().await?.into_iter().filter(is_barred) {
            self.presence.bar(id, &token.id);
        }
        Ok(())
    }

    /// Whether an administrator lets new clients in, from now on.
    pub async fn drain_executor(&self, caller: &Caller, id: &ExecutorId, drain: bool) -> Result<Seen, Refusal> {
        let since = drain.then(|| self.clock.now());
        let change = ExecutorChange { draining_since: Some(since), ..ExecutorChange::default() };
        self.change(caller, id, &change).await
    }

    /// Forgets an executor: its registrations are worth nothing, and its name is free. By `force` also one that is connected, which is
    /// cut.
    pub async fn forget(&self, caller: &Caller, id: &ExecutorId, force: bool) -> Result<(), Refusal> {
        if !force && self.presence.state(id).0 != State::Away {
            return Err(Refusal::Connected);
        }
        if self.let_go(id, caller.token.as_str()).await? { Ok(()) } else { Err(Refusal::Unknown { near: Vec::new() }) }
    }

    async fn let_go(&self, id: &ExecutorId, by: &str) -> Result<bool, StoreError> {
        if !self.store.forget_executor(id).await? {
            return Ok(false);
        }
        self.presence.forget(id);
        self.record(EventKind::ExecutorForgotten, Some(id), json!({"by": by})).await;
        Ok(true)
    }

    /// Forgets workloads that ended more than `keep` ago, so that no line of the access log names them any more, and the executors
    /// that came with them: so many of each, and the rest the next time.
    pub async fn forget_lapsed(&self, keep: Duration) {
        let now = self.clock.now();
        let before = now.saturating_sub(keep.as_secs());
        let done = async {
            for executor in self.store.lapsed_executors(before, LAPSED_AT_ONCE).await? {
                self.let_go(&executor, "lapsed").await?;
            }
            self.store.forget_workloads(before, LAPSED_AT_ONCE, now).await
        };
        match done.await {
            Ok(0) => {}
            Ok(tokens) => tracing::info!(tokens, "workloads that ended long ago are forgotten"),
            Err(error) => {
                tracing::warn!(%error, "workloads that ended long ago could not be forgotten; it is tried again")
            }
        }
    }

    /// Who is on which of the executors that the caller sees, the oldest first.
    pub async fn meetings(&self, caller: &Caller) -> Result<Vec<Meeting>, Refusal> {
        caller.sees_any()?;
        let mut sees: HashMap<ExecutorId, bool> = HashMap::new();
        let mut meetings = Vec::new();
        for connection in self.presence.connections() {
            let Some(executor) = self.presence.executor_of(&connection.registration) else { continue };
            let is_seen = match sees.get(&executor) {
                Some(is_seen) => *is_seen,
                None => {
                    let record = self.store.executor(&executor).await?;
                    let is_seen = record.is_some_and(|record| caller.sees(&record));
                    sees.insert(executor.clone(), is_seen);
                    is_seen
                }
            };
            if is_seen {
                meetings.push(Meeting { executor, connection });
            }
        }
        meetings.sort_by(|a, b| (a.connection.since, &a.executor).cmp(&(b.connection.since, &b.executor)));
        Ok(meetings)
    }

    /// Whether the caller may hear of what concerns this executor, or the server.
    pub async fn may_hear(&self, caller: &Caller, executor: Option<&ExecutorId>) -> Result<bool, Refusal> {
        let Some(executor) = executor else { return Ok(caller.governs().is_ok()) };
        if caller.governs().is_ok() {
            return Ok(true);
        }
        if !caller.pattern.covers(executor) {
            return Ok(false);
        }
        Ok(self.store.executor(executor).await?.is_some_and(|record| caller.sees(&record)))
    }

    fn seen(&self, record: ExecutorRecord) -> Seen {
        let (state, held_since, last_seen) = self.presence.state(&record.current.executor);
        let last_seen = last_seen.max(record.last_seen);
        Seen { record, state, held_since, last_seen }
    }
}

/// Whether it has these labels, whoever says so.
fn has(record: &ExecutorRecord, wanted: &Labels) -> bool {
    let trusted = record.trusted();
    wanted.iter().all(|(name, value)| {
        let found = trusted.get(name).or_else(|| record.labels.get(name).map(String::as_str));
        found == Some(value.as_str())
    })
}
