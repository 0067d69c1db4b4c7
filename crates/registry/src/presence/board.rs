//! Who is online, who is held, and who waits for whom: a pure state machine.
//!
//! In come the rendezvous' reports and the clients' wishes with the time as a parameter, out come [`Effect`]s in the
//! order in which they have to be carried out. A client that an executor is granted keeps it for a while, the
//! reservation, until the rendezvous reports it held, and also if the executor is away for a moment. An executor that
//! serves many clients at once is granted to all who ask. It knows no task and no clock.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use exedra_proto::close::CloseReason;
use exedra_proto::ids::{ExecutorId, RegistrationId};
use exedra_proto::registry::Transport;

use crate::store::Registration;

/// Clients that wait for one executor, each in an HTTP request. One more is turned away at once, as if it had no patience.
pub const LINE_MAX: usize = 256;
/// Registrations remembered of one executor; the oldest gives way.
const KNOWN_MAX: usize = crate::store::REGISTRATIONS_KEPT as usize;

/// The time, both ways: for deadlines, and for people.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For deadlines.
    pub instant: Instant,
    /// Seconds since 1970.
    pub unix: u64,
}

/// A client's place in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WaiterId(u64);

/// The registration behind an executor that is online.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Its id.
    pub registration: RegistrationId,
    /// Its fencing number.
    pub epoch: u64,
    /// How the executor is reached.
    pub transport: Transport,
    /// Whether it is told who its clients are, where it is online.
    pub told: bool,
}

impl Slot {
    /// That of a registration.
    pub fn of(registration: &Registration) -> Self {
        let Registration { id, epoch, transport, .. } = registration;
        Self { registration: id.clone(), epoch: *epoch, transport: *transport, told: false }
    }
}

/// Something to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// This client should ask again.
    Wake(WaiterId),
    /// The rendezvous has to close this registration.
    Cut(RegistrationId, CloseReason),
    /// A server from before, which may still hold this registration, has to let go of it; a client here that does has to
    /// show that it lives.
    Want(RegistrationId),
}

/// Why an executor is not to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// It is not connected.
    Away {
        /// When it last was, seconds since 1970, if that was after this board began.
        last_seen: Option<u64>,
    },
    /// Another client has it, or is on its way.
    Held {
        /// Since when, seconds since 1970.
        since: u64,
    },
}

/// What a client gets when it asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The executor; the reservation runs from now.
    Granted(Slot),
    /// Nothing yet.
    Waiting {
        /// Why.
        why: Wait,
        /// To be asked again then, if not woken before.
        until: Option<Instant>,
    },
}

/// The state of all executors that were heard of.
#[derive(Debug)]
pub struct Board {
    reservation: Duration,
    seats: HashMap<ExecutorId, Seat>,
    executors: HashMap<RegistrationId, ExecutorId>,
    waiters: HashMap<WaiterId, ExecutorId>,
    next_waiter: u64,
}

#[derive(Debug, Default)]
struct Seat {
    /// With their epochs, in the order in which they were told.
    known: VecDeque<Slot>,
    /// The highest epoch that was ever online.
    fence: u64,
    present: Option<Present>,
    /// The grant of a registration that went offline before the client came; good if it is back before that lapses.
    promise: Option<Present>,
    line: VecDeque<WaiterId>,
    last_seen: Option<u64>,
    /// `last_seen` has to be saved.
    unsaved: bool,
}

#[derive(Debug)]
struct Present {
    slot: Slot,
    hold: Hold,
}

#[derive(Clone, Copy, Debug)]
enum Hold {
    Free,
    /// Granted; `until` is set when the client has taken note.
    Reserved {
        waiter: WaiterId,
        since: u64,
        until: Option<Instant>,
    },
    Held {
        since: u64,
    },
}

impl Board {
    /// Nobody is there.
    pub fn new(reservation: Duration) -> Self {
        Self { reservation, seats: HashMap::new(), executors: HashMap::new(), waiters: HashMap::new(), next_waiter: 0 }
    }

    /// There is such a registration of this executor. One that is below the fence is of no more use, and not remembered.
    pub fn learn(&mut self, executor: &ExecutorId, slot: Slot) {
        let seat = self.seats.entry(executor.clone()).or_default();
        if slot.epoch < seat.fence || self.executors.contains_key(&slot.registration) {
            return;
        }
        self.executors.insert(slot.registration.clone(), executor.clone());
        seat.known.push_back(slot);
        if seat.known.len() > KNOWN_MAX
            && let Some(oldest) = seat.known.pop_front()
        {
            self.executors.remove(&oldest.registration);
        }
    }

    /// The rendezvous says: connected, and free; and whether it is told who its clients are.
    pub fn online(&mut self, registration: &RegistrationId, (epoch, told): (u64, bool), now: Now) -> Vec<Effect> {
        let seat = self.executors.get(registration).and_then(|executor| self.seats.get_mut(executor));
        let Some(seat) = seat else {
            return vec![Effect::Cut(registration.clone(), CloseReason::Revoked)];
        };
        if epoch < seat.fence {
            return vec![Effect::Cut(registration.clone(), CloseReason::Replaced)];
        }
        let mut effects = Vec::new();
        if epoch > seat.fence {
            seat.fence = epoch;
            for older in seat.fence_off() {
                self.executors.remove(&older);
                effects.push(Effect::Cut(older, CloseReason::Replaced));
            }
        }
        effects.push(Effect::Want(registration.clone()));
        seat.see(now);
        let is_reserved = |present: &Present| {
            present.slot.registration == *registration && matches!(present.hold, Hold::Reserved { .. })
        };
        // Who was about to take it still is.
        if !seat.present.as_ref().is_some_and(is_reserved) {
            seat.vacate();
            let known = seat.known.iter().find(|known| known.registration == *registration);
            let transport = known.map_or(Transport::Direct, |known| known.transport);
            let slot = Slot { registration: registration.clone(), epoch, transport, told };
            let promise = seat.promise.take().filter(|promise| promise.slot == slot && promise.hold.is_promised(now));
            // The first in line has to watch the reservation.
            let watcher = seat.line.front().filter(|_| promise.is_some());
            effects.extend(watcher.map(|first| Effect::Wake(*first)));
            seat.present = Some(promise.unwrap_or(Present { slot, hold: Hold::Free }));
        }
        if let Some(present) = &mut seat.present {
            present.slot.told = told;
        }
        seat.advance(now, &mut effects);
        effects
    }

    /// The rendezvous says: a client is on it.
    pub fn held(&mut self, registration: &RegistrationId, now: Now) {
        let Some(seat) = self.seat_of(registration) else { return };
        if let Some(Present { slot, .. }) = seat.vacate() {
            seat.present = Some(Present { slot, hold: Hold::Held { since: now.unix } });
        }
    }

    /// The rendezvous says: no longer connected.
    pub fn offline(&mut self, registration: &RegistrationId, now: Now) {
        if let Some(seat) = self.seat_of(registration) {
            seat.promise = seat.vacate().filter(|present| present.hold.is_promised(now));
            seat.see(now);
        }
    }

    /// A client wants the executor: it takes the last place in the line. None, if the line is full.
    pub fn join(&mut self, executor: &ExecutorId, now: Now) -> (Option<WaiterId>, Vec<Effect>) {
        let mut effects = Vec::new();
        let seat = self.seats.entry(executor.clone()).or_default();
        if seat.line.len() >= LINE_MAX {
            return (None, effects);
        }
        let id = WaiterId(self.next_waiter);
        self.next_waiter += 1;
        self.waiters.insert(id, executor.clone());
        seat.line.push_back(id);
        match &seat.present {
            None => effects.extend(seat.known.iter().map(|slot| Effect::Want(slot.registration.clone()))),
            Some(Present { slot, hold: Hold::Held { .. } }) => effects.push(Effect::Want(slot.registration.clone())),
            Some(_) => {}
        }
        seat.advance(now, &mut effects);
        effects.retain(|effect| *effect != Effect::Wake(id));
        (Some(id), effects)
    }

    /// The client asks.
    pub fn ask(&mut self, waiter: WaiterId, now: Now) -> (Answer, Vec<Effect>) {
        let mut effects = Vec::new();
        let Some(seat) = self.waiters.get(&waiter).and_then(|executor| self.seats.get_mut(executor)) else {
            return (Answer::Waiting { why: Wait::Away { last_seen: None }, until: None }, effects);
        };
        seat.advance(now, &mut effects);
        effects.retain(|effect| *effect != Effect::Wake(waiter));
        if let Some(Present { slot, hold: Hold::Reserved { waiter: holder, until, .. } }) = &mut seat.present
            && *holder == waiter
        {
            until.get_or_insert(now.instant + self.reservation);
            let slot = slot.clone();
            // The first in line has to watch the reservation.
            effects.extend(seat.line.front().map(|first| Effect::Wake(*first)));
            return (Answer::Granted(slot), effects);
        }
        if let Some(slot) = seat.shared() {
            let slot = slot.clone();
            seat.line.retain(|other| *other != waiter);
            return (Answer::Granted(slot), effects);
        }
        let is_first = seat.line.front() == Some(&waiter);
        let until = if is_first { seat.lapses_at() } else { None };
        (Answer::Waiting { why: seat.why(), until }, effects)
    }

    /// The client is gone: out of the line, or without a use for what it was granted.
    pub fn leave(&mut self, waiter: WaiterId, now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        let executor = self.waiters.remove(&waiter);
        let Some(seat) = executor.and_then(|executor| self.seats.get_mut(&executor)) else { return effects };
        let was_first = seat.line.front() == Some(&waiter);
        seat.line.retain(|other| *other != waiter);
        match &mut seat.present {
            Some(Present { hold: hold @ Hold::Reserved { .. }, .. }) if hold.is_for(waiter) => *hold = Hold::Free,
            _ => {}
        }
        seat.promise.take_if(|promise| promise.hold.is_for(waiter));
        seat.advance(now, &mut effects);
        if was_first && effects.is_empty() {
            effects.extend(seat.line.front().map(|first| Effect::Wake(*first)));
        }
        effects
    }

    /// The client is on its way with what it was granted; the reservation goes on without it.
    pub fn settle(&mut self, waiter: WaiterId) {
        self.waiters.remove(&waiter);
    }

    /// Whether this registration is present, and reserved for this client or for all.
    pub fn stands(&self, waiter: WaiterId, registration: &RegistrationId) -> bool {
        let seat = self.executors.get(registration).and_then(|executor| self.seats.get(executor));
        let present = seat.and_then(|seat| seat.present.as_ref());
        present.is_some_and(|Present { slot, hold }| {
            slot.registration == *registration && (!slot.transport.is_exclusive() || hold.is_for(waiter))
        })
    }

    /// What is present of the executor.
    pub fn present(&self, executor: &ExecutorId) -> Option<&Slot> {
        self.seats.get(executor)?.present.as_ref().map(|present| &present.slot)
    }

    /// The registrations of the executor that may be connected somewhere.
    pub fn known(&self, executor: &ExecutorId) -> Vec<RegistrationId> {
        let known = self.seats.get(executor).into_iter().flat_map(|seat| &seat.known);
        known.map(|slot| slot.registration.clone()).collect()
    }

    /// Why the executor is not to be had at the moment; none if it is.
    pub fn why(&self, executor: &ExecutorId) -> Option<Wait> {
        match self.seats.get(executor) {
            Some(Seat { present: Some(Present { hold: Hold::Free, .. }), .. }) => None,
            Some(seat) => Some(seat.why()),
            None => Some(Wait::Away { last_seen: None }),
        }
    }

    /// How many executors are online.
    pub fn online_count(&self) -> usize {
        self.seats.values().filter(|seat| seat.present.is_some()).count()
    }

    /// The executor of this registration.
    pub fn executor_of(&self, registration: &RegistrationId) -> Option<&ExecutorId> {
        self.executors.get(registration)
    }

    /// The executor's registrations are worth nothing any more. Who waits for it goes on waiting: another may come.
    pub fn forget(&mut self, executor: &ExecutorId) -> Vec<Effect> {
        let Some(seat) = self.seats.get_mut(executor) else { return Vec::new() };
        seat.vacate();
        (seat.promise, seat.fence, seat.last_seen, seat.unsaved) = (None, 0, None, false);
        let gone = seat.known.drain(..).map(|known| known.registration).collect::<Vec<_>>();
        if seat.line.is_empty() {
            self.seats.remove(executor);
        }
        for registration in &gone {
            self.executors.remove(registration);
        }
        gone.into_iter().map(|registration| Effect::Cut(registration, CloseReason::Revoked)).collect()
    }

    /// What is to be saved: executors that were seen since this was last asked, and those that are online.
    pub fn take_seen(&mut self, now: Now) -> Vec<(ExecutorId, u64)> {
        let mut seen = Vec::new();
        for (executor, seat) in &mut self.seats {
            let at = if seat.present.is_some() { Some(now.unix) } else { seat.last_seen.filter(|_| seat.unsaved) };
            seat.unsaved = false;
            seen.extend(at.map(|at| (executor.clone(), at)));
        }
        seen
    }

    /// These could not be saved.
    pub fn put_seen_back(&mut self, seen: &[(ExecutorId, u64)]) {
        for (executor, _) in seen {
            if let Some(seat) = self.seats.get_mut(executor) {
                seat.unsaved = true;
            }
        }
    }

    /// Where this registration is present.
    fn seat_of(&mut self, registration: &RegistrationId) -> Option<&mut Seat> {
        let seat = self.executors.get(registration).and_then(|executor| self.seats.get_mut(executor))?;
        let is_present = seat.present.as_ref().is_some_and(|present| present.slot.registration == *registration);
        is_present.then_some(seat)
    }
}

impl Hold {
    /// Whether a client took note of the grant, and may still come.
    fn is_promised(&self, now: Now) -> bool {
        matches!(self, Self::Reserved { until: Some(until), .. } if *until > now.instant)
    }

    fn is_for(&self, client: WaiterId) -> bool {
        matches!(self, Self::Reserved { waiter, .. } if *waiter == client)
    }
}

impl Seat {
    /// Ends a reservation that lapsed, and grants what is free to the first in line.
    fn advance(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.lapses_at().is_some_and(|until| until <= now.instant)
            && let Some(present) = &mut self.present
        {
            present.hold = Hold::Free;
        }
        if self.shared().is_some() {
            effects.extend(self.line.iter().map(|waiter| Effect::Wake(*waiter)));
        } else if let Some(Present { hold: hold @ Hold::Free, .. }) = &mut self.present
            && let Some(waiter) = self.line.pop_front()
        {
            *hold = Hold::Reserved { waiter, since: now.unix, until: None };
            effects.push(Effect::Wake(waiter));
        }
    }

    /// What is present, if all may have it at once.
    fn shared(&self) -> Option<&Slot> {
        self.present.as_ref().map(|present| &present.slot).filter(|slot| !slot.transport.is_exclusive())
    }

    fn lapses_at(&self) -> Option<Instant> {
        match &self.present {
            Some(Present { hold: Hold::Reserved { until, .. }, .. }) => *until,
            _ => None,
        }
    }

    fn why(&self) -> Wait {
        match &self.present {
            Some(Present { hold: Hold::Reserved { since, .. } | Hold::Held { since }, .. }) => {
                Wait::Held { since: *since }
            }
            Some(_) | None => Wait::Away { last_seen: self.last_seen },
        }
    }

    fn see(&mut self, now: Now) {
        (self.last_seen, self.unsaved) = (Some(now.unix), true);
    }

    /// Whoever was present is no more. A client that was granted it and does not know yet is the first in line again.
    fn vacate(&mut self) -> Option<Present> {
        let present = self.present.take();
        if let Some(Present { hold: Hold::Reserved { waiter, until: None, .. }, .. }) = &present {
            self.line.push_front(*waiter);
        }
        present
    }

    /// Forgets the registrations below the fence.
    fn fence_off(&mut self) -> Vec<RegistrationId> {
        let fence = self.fence;
        let gone =
            self.known.iter().filter(|known| known.epoch < fence).map(|known| known.registration.clone()).collect();
        self.known.retain(|known| known.epoch >= fence);
        gone
    }
}

#[cfg(test)]
mod tests;
