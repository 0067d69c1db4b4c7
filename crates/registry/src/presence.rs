//! Presence: which executor is online, free or held, and the line of clients that wait for one.
//!
//! The rendezvous' reports and the service's questions flow in, grants and orders to cut flow out. The decisions are the
//! [`board`]'s; here are the lock around it, the clock, the tasks that wait and the guards that make them leave. It must
//! not know tokens, tickets or HTTP.

mod board;
mod turns;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use exedra_proto::close::CloseReason;
use exedra_proto::ids::{ExecutorId, RegistrationId, TokenId};
use exedra_proto::plane::{Connection, Cutoff, Presence};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::store::{End, Ended};
use board::{Answer, Board, Effect, Now, WaiterId};
use turns::Turns;

pub use board::{Slot, Wait};

/// Times that names were taken, between two looks of a second, that are told of: the first ones. The same name is told of once a
/// minute anyway.
const CONTESTS: usize = 1_024;

/// Whether an executor is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Connected, and a client could have it.
    Online,
    /// Connected, and a client has it for itself.
    Held,
    /// Not connected.
    Away,
}

impl State {
    /// The state of that word.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "online" => Some(Self::Online),
            "held" => Some(Self::Held),
            "away" => Some(Self::Away),
            _ => None,
        }
    }
}

/// The board, shared by the rendezvous that reports and the requests that wait.
pub struct Tracker {
    state: Mutex<Shared>,
    cutoff: Mutex<Option<Arc<dyn Cutoff>>>,
    clock: Arc<dyn Clock>,
    draining: CancellationToken,
}

struct Shared {
    board: Board,
    sleepers: HashMap<WaiterId, Arc<Notify>>,
    turns: Turns,
    /// To be told of; an entry for each connection that took a name since that was last done, up to [`CONTESTS`].
    contests: Vec<Contest>,
}

impl Shared {
    fn contest(&mut self, contest: Contest) {
        if self.contests.len() < CONTESTS {
            self.contests.push(contest);
        }
    }
}

/// A connection took an executor's name from another that was there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contest {
    /// Whose name.
    pub executor: ExecutorId,
    /// The registration that was online.
    pub older: RegistrationId,
    /// The one that is now; none, if it is the same and that again and again.
    pub newer: Option<Slot>,
}

/// Why a client was not granted the executor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Its patience ended first.
    Unavailable(Wait),
    /// The server is shutting down.
    Draining,
}

impl Tracker {
    /// Nobody is online. A grant lapses after `reservation`, if the client does not come.
    pub fn new(clock: Arc<dyn Clock>, reservation: Duration) -> Self {
        let (board, sleepers) = (Board::new(reservation), HashMap::new());
        let state = Shared { board, sleepers, turns: Turns::default(), contests: Vec::new() };
        let draining = CancellationToken::new();
        Self { state: Mutex::new(state), cutoff: Mutex::new(None), clock, draining }
    }

    /// Whom to tell what has to go; nobody, if that side is gone.
    pub fn set_cutoff(&self, cutoff: Option<Arc<dyn Cutoff>>) {
        *self.cutoff.lock().unwrap_or_else(PoisonError::into_inner) = cutoff;
    }

    /// What was opened with this token, or with a secret of it, has to go; says whether there was anybody to tell.
    pub fn cut_token(&self, Ended { token, how }: &Ended) -> bool {
        let Some(cutoff) = self.cutoff() else { return false };
        tracing::info!(%token, ?how, "a token, or a secret of it, is no longer good, and what was opened with it is cut");
        match how {
            End::Revoked => cutoff.token(token, CloseReason::Revoked),
            End::Expired => cutoff.expired(token, CloseReason::Revoked),
            End::Renewed(until) => cutoff.renewed(token, *until, CloseReason::KeyRevoked),
        }
        true
    }

    /// Clients with this token are let in to this executor no longer, and those that are there have to go.
    pub fn bar(&self, executor: &ExecutorId, token: &TokenId) {
        let known = self.lock().board.known(executor);
        if let Some(cutoff) = self.cutoff() {
            for registration in known {
                cutoff.barred(&registration, token, CloseReason::Revoked);
            }
        }
    }

    /// Who took a name from whom since this was last asked.
    pub fn take_contests(&self) -> Vec<Contest> {
        std::mem::take(&mut self.lock().contests)
    }

    /// What was opened with tickets of this signing key has to go, if there is somebody to tell.
    pub fn cut_key(&self, key_id: &str) {
        if let Some(cutoff) = self.cutoff() {
            cutoff.key(key_id, CloseReason::KeyRevoked);
        }
    }

    /// There is such a registration.
    pub fn learn(&self, executor: &ExecutorId, slot: Slot) {
        self.lock().board.learn(executor, slot);
    }

    /// The executor, as soon as it is online, free and this client's turn.
    ///
    /// # Errors
    /// It did not come to that within `patience`.
    pub async fn acquire(&self, executor: &ExecutorId, patience: Duration) -> Result<Grant<'_>, Refused> {
        if self.draining.is_cancelled() {
            return Err(Refused::Draining);
        }
        let deadline = Instant::now() + patience;
        let place = self.join(executor)?;
        loop {
            let (answer, effects) = {
                let mut state = self.lock();
                state.board.ask(place.waiter, self.now())
            };
            self.carry_out(effects);
            let (why, until) = match answer {
                Answer::Granted(slot) => return Ok(Grant { place, slot }),
                Answer::Waiting { why, until } => (why, until),
            };
            if Instant::now() >= deadline {
                return Err(Refused::Unavailable(why));
            }
            let until = until.map_or(deadline, |until| deadline.min(until.into()));
            tokio::select! {
                () = self.draining.cancelled() => return Err(Refused::Draining),
                () = place.notify.notified() => {}
                () = tokio::time::sleep_until(until) => {}
            }
        }
    }

    /// The registration of the executor that is online, if one is.
    pub fn present(&self, executor: &ExecutorId) -> Option<RegistrationId> {
        self.lock().board.present(executor).map(|slot| slot.registration.clone())
    }

    /// Whether the executor that is online, if one is, is told who its clients are.
    pub fn is_told(&self, executor: &ExecutorId) -> Option<bool> {
        self.lock().board.present(executor).map(|slot| slot.told)
    }

    /// Whether the executor is there, since when it is held, and when it was last connected since the start.
    pub fn state(&self, executor: &ExecutorId) -> (State, Option<u64>, Option<u64>) {
        let why = self.lock().board.why(executor);
        match why {
            None => (State::Online, None, Some(self.clock.now())),
            Some(Wait::Held { since }) => (State::Held, Some(since), Some(self.clock.now())),
            Some(Wait::Away { last_seen }) => (State::Away, None, last_seen),
        }
    }

    /// How many executors are connected.
    pub fn online_count(&self) -> usize {
        self.lock().board.online_count()
    }

    /// The executor of this registration, if it is one that counts.
    pub fn executor_of(&self, registration: &RegistrationId) -> Option<ExecutorId> {
        self.lock().board.executor_of(registration).cloned()
    }

    /// The executor's registrations are worth nothing any more; what is open is cut.
    pub fn forget(&self, executor: &ExecutorId) {
        let effects = self.lock().board.forget(executor);
        self.carry_out(effects);
    }

    /// Who is connected at the rendezvous.
    pub fn connections(&self) -> Vec<Connection> {
        self.cutoff().map(|cutoff| cutoff.connections()).unwrap_or_default()
    }

    /// Returns when the server begins to shut down.
    pub async fn drained(&self) {
        self.draining.cancelled().await;
    }

    /// When the executor was last connected since the start, seconds since 1970; now, if it is.
    pub fn last_seen(&self, executor: &ExecutorId) -> Option<u64> {
        let why = self.lock().board.why(executor);
        match why {
            None | Some(Wait::Held { .. }) => Some(self.clock.now()),
            Some(Wait::Away { last_seen }) => last_seen,
        }
    }

    /// What is to be saved of when executors were seen; to be given to [`Tracker::put_seen_back`] if that fails.
    pub fn take_seen(&self) -> Vec<(ExecutorId, u64)> {
        let now = self.now();
        self.lock().board.take_seen(now)
    }

    /// These could not be saved.
    pub fn put_seen_back(&self, seen: &[(ExecutorId, u64)]) {
        self.lock().board.put_seen_back(seen);
    }

    /// How many clients wait, or are about to be answered.
    pub fn waiting(&self) -> usize {
        self.lock().sleepers.len()
    }

    /// From now on nobody waits.
    pub fn drain(&self) {
        self.draining.cancel();
    }

    /// Whether nobody waits any more.
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    fn join(&self, executor: &ExecutorId) -> Result<Place<'_>, Refused> {
        let notify = Arc::new(Notify::new());
        let now = self.now();
        let mut state = self.lock();
        let (waiter, effects) = state.board.join(executor, now);
        let Some(waiter) = waiter else {
            let why = state.board.why(executor).unwrap_or(Wait::Held { since: now.unix });
            return Err(Refused::Unavailable(why));
        };
        state.sleepers.insert(waiter, Arc::clone(&notify));
        drop(state);
        self.carry_out(effects);
        Ok(Place { tracker: self, waiter, notify })
    }

    fn now(&self) -> Now {
        Now { instant: Instant::now().into_std(), unix: self.clock.now() }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cutoff(&self) -> Option<Arc<dyn Cutoff>> {
        self.cutoff.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Without the lock: the other side may report something before it returns.
    fn carry_out(&self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Wake(waiter) => {
                    if let Some(notify) = self.lock().sleepers.get(&waiter) {
                        notify.notify_one();
                    }
                }
                Effect::Want(registration) => {
                    if let Some(cutoff) = self.cutoff() {
                        cutoff.wanted(&registration);
                    }
                }
                Effect::Cut(registration, reason) => {
                    tracing::info!(%registration, ?reason, "a registration is cut");
                    if let Some(cutoff) = self.cutoff() {
                        cutoff.registration(&registration, reason);
                    }
                }
            }
        }
    }
}

impl Tracker {
    fn come(&self, registration: &RegistrationId, epoch: u64, told: bool) {
        tracing::debug!(%registration, epoch, told, "online");
        let now = self.now();
        let effects = {
            let mut state = self.lock();
            let executor = state.board.executor_of(registration).cloned();
            let before = executor.and_then(|executor| Some((state.board.present(&executor)?.clone(), executor)));
            let effects = state.board.online(registration, (epoch, told), now);
            if let Some((older, executor)) = before
                && let Some(newer) = state.board.present(&executor).filter(|newer| newer.epoch > older.epoch).cloned()
            {
                state.contest(Contest { executor, older: older.registration, newer: Some(newer) });
            }
            effects
        };
        self.carry_out(effects);
    }
}

impl Presence for Tracker {
    fn online(&self, registration: &RegistrationId, epoch: u64) {
        self.come(registration, epoch, false);
    }

    fn online_told(&self, registration: &RegistrationId, epoch: u64) {
        self.come(registration, epoch, true);
    }

    fn replaced(&self, registration: &RegistrationId) {
        tracing::debug!(%registration, "replaced");
        let at = self.clock.steady();
        let mut state = self.lock();
        if state.turns.take_turns(registration, at)
            && let Some(executor) = state.board.executor_of(registration).cloned()
        {
            tracing::warn!(
                %executor, %registration,
                "connections of one registration take the name from each other: is one machine's state used by two?"
            );
            state.contest(Contest { executor, older: registration.clone(), newer: None });
        }
    }

    fn held(&self, registration: &RegistrationId) {
        tracing::debug!(%registration, "held");
        let now = self.now();
        self.lock().board.held(registration, now);
    }

    fn offline(&self, registration: &RegistrationId, bytes: u64) {
        tracing::debug!(%registration, bytes, "offline");
        let now = self.now();
        self.lock().board.offline(registration, now);
    }
}

/// A place in a line, or what came of it. Left when it is dropped.
struct Place<'t> {
    tracker: &'t Tracker,
    waiter: WaiterId,
    notify: Arc<Notify>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let now = self.tracker.now();
        let mut state = self.tracker.lock();
        state.sleepers.remove(&self.waiter);
        let effects = state.board.leave(self.waiter, now);
        drop(state);
        self.tracker.carry_out(effects);
    }
}

/// An executor that was granted to a client. Dropped without [`Grant::keep`], it goes to the next in line.
pub struct Grant<'t> {
    place: Place<'t>,
    slot: Slot,
}

impl Grant<'_> {
    /// Which registration to send the client to.
    pub fn slot(&self) -> &Slot {
        &self.slot
    }

    /// Whether the executor is still there for this client.
    pub fn stands(&self) -> bool {
        self.place.tracker.lock().board.stands(self.place.waiter, &self.slot.registration)
    }

    /// The client is on its way; the executor is reserved for it until the reservation lapses.
    pub fn keep(self) {
        self.place.tracker.lock().board.settle(self.place.waiter);
    }
}

#[cfg(test)]
mod tests;
