//! A store that forgets, for tests: the shortest thing that passes the suite, and a store that can be told to fail.
//!
//! Records flow in and out as in any other store; [`MemoryStore::fail`] makes every call that writes fail.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::Mutex;

use exedra_proto::ids::{ExecutorId, RegistrationId, TokenId};

use super::writes::Writes;
use super::{
    Access, EVENTS_KEPT, End, Ended, Event, ExecutorChange, ExecutorRecord, NewEvent, NewRegistration, Pending,
    REGISTRATIONS_KEPT, Registration, Store, StoreError, TokenRecord, Trade, Traded,
};
use crate::token::{Role, TokenHash};

#[derive(Default)]
pub struct MemoryStore {
    records: Mutex<Records>,
    writes: Writes,
}

/// A registration, and the token by which it came.
type Kept = (Registration, TokenId);

#[derive(Default)]
struct Records {
    tokens: Vec<(TokenRecord, TokenHash)>,
    /// Secrets before the last rotation, and until when they are good.
    old: Vec<(TokenId, TokenHash, u64)>,
    executors: BTreeMap<ExecutorId, (ExecutorRecord, Vec<Kept>)>,
    bound: BTreeMap<ExecutorId, String>,
    events: VecDeque<Event>,
    last_event: u64,
    access: Vec<Access>,
    access_written: u64,
    failure: Option<StoreError>,
    closed: bool,
}

impl Records {
    fn with_key(&self, executor: &ExecutorRecord) -> ExecutorRecord {
        ExecutorRecord { bound_key: self.bound.get(&executor.current.executor).cloned(), ..executor.clone() }
    }
}

impl MemoryStore {
    /// Makes writes fail from now on, or no longer.
    pub fn fail(&self, failure: Option<StoreError>) {
        self.records.lock().unwrap().failure = failure;
    }

    fn read<'a, T: Send + 'a>(&'a self, read: impl FnOnce(&Records) -> T + Send + 'a) -> Pending<'a, T> {
        Box::pin(async move {
            let records = self.records.lock().unwrap();
            if records.closed { Err(StoreError::Closed) } else { Ok(read(&records)) }
        })
    }

    fn write<'a, T: Send + 'a>(
        &'a self,
        write: impl FnOnce(&mut Records) -> Result<T, StoreError> + Send + 'a,
    ) -> Pending<'a, T> {
        Box::pin(async move {
            let mut records = self.records.lock().unwrap();
            let outcome = match &records.failure {
                _ if records.closed => Err(StoreError::Closed),
                Some(failure) => Err(failure.clone()),
                None => write(&mut records),
            };
            self.writes.note(&outcome);
            outcome
        })
    }
}

impl Store for MemoryStore {
    fn add_token<'a>(&'a self, token: &'a TokenRecord, hash: &'a TokenHash) -> Pending<'a, ()> {
        self.write(move |records| {
            if records.tokens.iter().any(|(known, kept)| known.id == token.id || kept.matches(hash)) {
                return Err(StoreError::Failed("there is such a token".to_owned()));
            }
            records.tokens.push((token.clone(), hash.clone()));
            records.tokens.sort_by_key(|(token, _)| token.created_at);
            Ok(())
        })
    }

    fn token<'a>(&'a self, hash: &'a TokenHash, now: u64) -> Pending<'a, Option<(TokenRecord, TokenHash)>> {
        self.read(move |records| {
            let current = records.tokens.iter().find(|(_, kept)| kept.matches(hash)).cloned();
            current.or_else(|| {
                let (id, kept, _) = records.old.iter().find(|(_, kept, until)| kept.matches(hash) && *until > now)?;
                let (token, _) = records.tokens.iter().find(|(token, _)| token.id == *id)?;
                Some((token.clone(), kept.clone()))
            })
        })
    }

    fn admit_workload<'a>(&'a self, token: &'a TokenRecord, hash: &'a TokenHash) -> Pending<'a, TokenRecord> {
        self.write(move |records| {
            if let Some((known, _)) = records.tokens.iter_mut().find(|(_, kept)| kept.matches(hash)) {
                let TokenRecord { id, created_at, revoked_at, last_used, expires_at, .. } = known.clone();
                let expires_at = expires_at.max(token.expires_at);
                *known = TokenRecord { id, created_at, revoked_at, last_used, expires_at, ..token.clone() };
                return Ok(known.clone());
            }
            records.tokens.push((token.clone(), hash.clone()));
            records.tokens.sort_by_key(|(token, _)| token.created_at);
            Ok(token.clone())
        })
    }

    fn readmit_workload<'a>(&'a self, id: &'a TokenId) -> Pending<'a, Option<TokenRecord>> {
        self.write(move |records| {
            let mut tokens = records.tokens.iter_mut().map(|(token, _)| token);
            let token = tokens.find(|token| token.id == *id && token.workload.is_some());
            Ok(token.map(|token| {
                token.revoked_at = None;
                token.clone()
            }))
        })
    }

    fn lapsed_executors(&self, before: u64, most: u32) -> Pending<'_, Vec<ExecutorId>> {
        self.read(move |records| {
            let is_lapsed =
                |id: &TokenId| records.tokens.iter().any(|(token, _)| token.id == *id && lapsed(token, before));
            let gone = records.executors.values().map(|(executor, _)| executor).filter(|executor| {
                is_lapsed(&executor.token)
                    && executor.last_seen.unwrap_or_default() < before
                    && executor.current.created_at < before
                    && executor.assigned.is_empty()
                    && executor.draining_since.is_none()
            });
            gone.map(|executor| executor.current.executor.clone()).take(most as usize).collect()
        })
    }

    fn forget_workloads(&self, before: u64, most: u32, now: u64) -> Pending<'_, u64> {
        self.write(move |records| {
            // Of the registrations this store keeps the newest one's token alone.
            let used: Vec<TokenId> = records.executors.values().map(|(executor, _)| executor.token.clone()).collect();
            let mut gone = 0;
            records.tokens.retain(|(token, _)| {
                let goes = gone < u64::from(most) && lapsed(token, before) && !used.contains(&token.id);
                gone += u64::from(goes);
                !goes
            });
            if gone > 0 {
                records.access_written += 1;
                records.access.push(Access { id: records.access_written, ..Access::forgotten(gone, now) });
            }
            Ok(gone)
        })
    }

    fn rotate_token<'a>(
        &'a self,
        id: &'a TokenId,
        hash: &'a TokenHash,
        old_until: u64,
        now: u64,
    ) -> Pending<'a, Option<TokenRecord>> {
        self.write(move |records| {
            if records.tokens.iter().any(|(_, kept)| kept.matches(hash)) {
                return Err(StoreError::Failed("there is such a token".to_owned()));
            }
            let is_good =
                |token: &TokenRecord| token.id == *id && token.workload.is_none() && token.ended(now).is_none();
            let Some((token, kept)) = records.tokens.iter_mut().find(|(token, _)| is_good(token)) else {
                return Ok(None);
            };
            records.old.retain(|(old, ..)| old != id);
            records.old.push((id.clone(), std::mem::replace(kept, hash.clone()), old_until));
            Ok(Some(token.clone()))
        })
    }

    fn trade<'a>(&'a self, trade: &'a Trade) -> Pending<'a, Traded> {
        self.write(move |records| {
            let (now, wanted) = (trade.now, &trade.credential);
            let is_good = |token: &TokenRecord| token.ended(now).is_none();
            if let Some((known, _)) = records.tokens.iter().find(|(_, kept)| kept.matches(&trade.hash)) {
                let is_same = known.joined_with.is_some() && known.executors == wanted.executors;
                return Ok(match (is_same, is_good(known)) {
                    (true, true) => Traded::Known(known.clone()),
                    (true, false) => Traded::Ended,
                    (false, _) => Traded::HashTaken,
                });
            }
            if records.old.iter().any(|(_, kept, _)| kept.matches(&trade.hash)) {
                return Ok(Traded::HashTaken);
            }
            let is_bound = |token: &TokenRecord| {
                token.role == Role::Executor && token.executors == wanted.executors && is_good(token)
            };
            let is_taken = records.tokens.iter().any(|(token, _)| is_bound(token))
                || records.executors.keys().any(|id| id.as_str() == wanted.executors.as_str());
            let join = records.tokens.iter_mut().map(|(token, _)| token).find(|token| token.id == trade.join);
            let Some(join) = join else { return Ok(Traded::JoinRevoked) };
            if join.revoked_at.is_some() {
                return Ok(Traded::JoinRevoked);
            }
            if join.expires_at.is_some_and(|at| at <= now) {
                return Ok(Traded::JoinExpired);
            }
            let Some(left) = join.uses_left.unwrap_or(0).checked_sub(1) else { return Ok(Traded::JoinUsedUp) };
            if is_taken {
                return Ok(Traded::NameTaken);
            }
            join.uses_left = Some(left);
            records.tokens.push((wanted.clone(), trade.hash.clone()));
            records.tokens.sort_by_key(|(token, _)| token.created_at);
            Ok(Traded::Made(wanted.clone()))
        })
    }

    fn mark_used<'a>(&'a self, used: &'a [(TokenId, u64)]) -> Pending<'a, ()> {
        self.write(move |records| {
            for (token, _) in &mut records.tokens {
                let at = used.iter().find(|(id, _)| *id == token.id).map(|(_, at)| *at);
                token.last_used = token.last_used.max(at);
            }
            Ok(())
        })
    }

    fn token_of_id<'a>(&'a self, id: &'a TokenId) -> Pending<'a, Option<(TokenRecord, TokenHash)>> {
        self.read(|records| records.tokens.iter().find(|(token, _)| token.id == *id).cloned())
    }

    fn tokens(&self) -> Pending<'_, Vec<TokenRecord>> {
        self.read(|records| records.tokens.iter().map(|(token, _)| token.clone()).collect())
    }

    fn revoke_token<'a>(&'a self, id: &'a TokenId, now: u64) -> Pending<'a, Option<TokenRecord>> {
        self.write(move |records| {
            let token = records.tokens.iter_mut().map(|(token, _)| token).find(|token| token.id == *id);
            Ok(token.map(|token| {
                token.revoked_at.get_or_insert(now);
                token.clone()
            }))
        })
    }

    fn ended_tokens(&self, since: u64, now: u64) -> Pending<'_, Vec<Ended>> {
        self.read(move |records| {
            let mut ended = Vec::new();
            for (token, _) in &records.tokens {
                let mut end = |how| ended.push(Ended { token: token.id.clone(), how });
                if token.revoked_at.is_some() {
                    token.revoked_at.filter(|at| *at >= since).into_iter().for_each(|_| end(End::Revoked));
                    continue;
                }
                let is_over = |at: &u64| (since..=now).contains(at);
                token.expires_at.filter(is_over).into_iter().for_each(|_| end(End::Expired));
                let old = records.old.iter().filter(|(id, ..)| *id == token.id).map(|(.., until)| *until);
                old.filter(is_over).for_each(|until| end(End::Renewed(until)));
            }
            ended
        })
    }

    fn register<'a>(&'a self, new: &'a NewRegistration) -> Pending<'a, Registration> {
        self.write(move |records| {
            let token = records.tokens.iter().map(|(token, _)| token).find(|token| token.id == new.token);
            let granted = token.ok_or_else(|| StoreError::Failed("there is no such token".to_owned()))?.labels.clone();
            if new.bind_key {
                let (executor, key) = (&new.registration.executor, new.registration.proven_key());
                let bound = records.bound.get(executor).cloned().or_else(|| key.clone());
                if bound != key {
                    return Err(StoreError::OtherKey);
                }
                records.bound.extend(bound.map(|bound| (executor.clone(), bound)));
            }
            let kept = records.executors.get(&new.registration.executor);
            let epoch = kept.map_or(0, |(executor, _)| executor.current.epoch);
            let own = kept.into_iter().flat_map(|(_, all)| all);
            let is_own =
                |(one, token): &&Kept| one.idempotency_id == new.registration.idempotency_id && *token == new.token;
            let own = own.rev().find(is_own).map(|(one, _)| one);
            if let Some(own) = own.filter(|own| own.epoch == epoch || !new.take_over) {
                return Ok(own.clone());
            }
            let mut ids = records.executors.values().flat_map(|(_, all)| all).map(|(one, _)| &one.id);
            if ids.any(|id| *id == new.registration.id) {
                return Err(StoreError::Failed("there is such a registration".to_owned()));
            }
            let current = Registration { epoch: epoch + 1, ..new.registration.clone() };
            let (before, mut all) = kept.cloned().map_or((None, Vec::new()), |(before, all)| (Some(before), all));
            all.push((current.clone(), new.token.clone()));
            all.retain(|(one, _)| one.epoch + REGISTRATIONS_KEPT > current.epoch);
            let (labels, metadata) = (new.labels.clone(), new.metadata.clone());
            let record = ExecutorRecord {
                current: current.clone(),
                name: new.name.clone(),
                labels,
                metadata,
                token: new.token.clone(),
                granted,
                assigned: before.as_ref().map(|before| before.assigned.clone()).unwrap_or_default(),
                draining_since: before.as_ref().and_then(|before| before.draining_since),
                last_seen: before.as_ref().and_then(|before| before.last_seen),
                bound_key: None,
            };
            records.executors.insert(current.executor.clone(), (record, all));
            Ok(current)
        })
    }

    fn forget_key<'a>(&'a self, id: &'a ExecutorId) -> Pending<'a, bool> {
        self.write(move |records| Ok(records.bound.remove(id).is_some()))
    }

    fn executor<'a>(&'a self, id: &'a ExecutorId) -> Pending<'a, Option<ExecutorRecord>> {
        self.read(|records| records.executors.get(id).map(|(executor, _)| records.with_key(executor)))
    }

    fn executors<'a>(&'a self, after: Option<&'a ExecutorId>, limit: u32) -> Pending<'a, Vec<ExecutorRecord>> {
        self.read(move |records| {
            let above = records.executors.iter().filter(|(id, _)| after.is_none_or(|after| *id > after));
            above.take(limit as usize).map(|(_, (executor, _))| records.with_key(executor)).collect()
        })
    }

    fn change_executor<'a>(
        &'a self,
        id: &'a ExecutorId,
        change: &'a ExecutorChange,
    ) -> Pending<'a, Option<ExecutorRecord>> {
        self.write(move |records| {
            Ok(records.executors.get_mut(id).map(|(executor, _)| {
                executor.assigned = change.assigned.clone().unwrap_or_else(|| executor.assigned.clone());
                executor.draining_since = change.draining_since.unwrap_or(executor.draining_since);
                executor.clone()
            }))
        })
    }

    fn forget_executor<'a>(&'a self, id: &'a ExecutorId) -> Pending<'a, bool> {
        self.write(move |records| Ok(records.executors.remove(id).is_some()))
    }

    fn append_access<'a>(&'a self, lines: &'a [Access]) -> Pending<'a, ()> {
        self.write(move |records| {
            let first = records.access_written + 1;
            records.access_written += lines.len() as u64;
            records.access.extend((first..).zip(lines).map(|(id, line)| Access { id, ..line.clone() }));
            Ok(())
        })
    }

    fn shorten_access(&self, before: u64, most: u32, now: u64) -> Pending<'_, u64> {
        self.write(move |records| {
            let kept = records.access.len();
            let oldest = records.access.iter().take(most as usize).map(|line| line.id).max().unwrap_or_default();
            records.access.retain(|line| line.id > oldest || line.at >= before);
            let gone = (kept - records.access.len()) as u64;
            if gone > 0 {
                records.access_written += 1;
                let line = Access::shortened(gone, now);
                records.access.push(Access { id: records.access_written, ..line });
            }
            Ok(gone)
        })
    }

    fn access_after(&self, id: u64, limit: u32) -> Pending<'_, Vec<Access>> {
        self.read(move |records| {
            records.access.iter().filter(|line| line.id > id).take(limit as usize).cloned().collect()
        })
    }

    fn executor_ids(&self, limit: u32) -> Pending<'_, Vec<ExecutorId>> {
        self.read(move |records| records.executors.keys().take(limit as usize).cloned().collect())
    }

    fn registration<'a>(&'a self, id: &'a RegistrationId) -> Pending<'a, Option<Registration>> {
        self.read(move |records| {
            let mut all = records.executors.values().flat_map(|(_, all)| all).map(|(one, _)| one);
            all.find(|one| one.id == *id).cloned()
        })
    }

    fn registrations(&self) -> Pending<'_, Vec<Registration>> {
        self.read(|records| records.executors.values().flat_map(|(_, all)| all).map(|(one, _)| one.clone()).collect())
    }

    fn mark_seen<'a>(&'a self, seen: &'a [(ExecutorId, u64)]) -> Pending<'a, ()> {
        self.write(move |records| {
            for (id, at) in seen {
                if let Some((executor, _)) = records.executors.get_mut(id) {
                    executor.last_seen = executor.last_seen.max(Some(*at));
                }
            }
            Ok(())
        })
    }

    fn append_events<'a>(&'a self, events: &'a [NewEvent]) -> Pending<'a, u64> {
        self.write(move |records| {
            for event in events {
                records.last_event += 1;
                let (id, NewEvent { at, kind, executor, detail }) = (records.last_event, event.clone());
                records.events.push_back(Event { id, at, kind, executor, detail });
                if records.events.len() as u64 > EVENTS_KEPT {
                    records.events.pop_front();
                }
            }
            Ok(records.last_event)
        })
    }

    fn last_event(&self) -> Pending<'_, u64> {
        self.read(|records| records.last_event)
    }

    fn events_after(&self, id: u64, limit: u32) -> Pending<'_, Vec<Event>> {
        self.read(move |records| {
            records.events.iter().filter(|event| event.id > id).take(limit as usize).cloned().collect()
        })
    }

    fn check(&self) -> Pending<'_, ()> {
        self.read(|_| ())
    }

    fn try_write(&self) -> Pending<'_, ()> {
        self.writes.tried(self.write(|_| Ok(())))
    }

    fn failing(&self) -> Option<StoreError> {
        self.writes.failure()
    }

    fn close(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async { self.records.lock().unwrap().closed = true })
    }
}

/// Whether it is of a workload that lapsed before then.
fn lapsed(token: &TokenRecord, before: u64) -> bool {
    let is_over = token.expires_at.is_some_and(|end| end < before) && token.last_used.unwrap_or_default() < before;
    token.workload.is_some() && token.revoked_at.is_none() && is_over
}

#[tokio::test]
async fn it_passes_the_suite() {
    super::conformance::suite(|| async { MemoryStore::default() }).await;
}
