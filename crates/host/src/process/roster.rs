//! Who is there: the processes of one owner by id, their logs, the turns in which their events are notified, and how
//! long the closed ones stay.
//!
//! In flow ids, events of processes, attach and detach, and the time; out flow events in fair turns and those who have
//! been forgotten. Pure: no tokio, no clock; the handle `H` that it keeps per process is nothing to it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use exedra_proto::ids::ProcessId;

use super::event::{Delivery, Event};
use super::ledger::Ledger;
use super::output::{Demand, Log, Progress};
use super::spool::Place;
use crate::error::StartError;
use crate::policy::WhenFull;

/// Closed processes that stay known: so many that somebody was given all of, and so many that nobody was. When the
/// former are full, the oldest is forgotten before its time; when the latter are, nothing starts any more.
pub const CLOSED_MAX: usize = 1024;
/// The same of those that nobody was given all of, where word of that takes the time of a round trip: short commands
/// one after the other must not outrun it.
const CLOSED_ON_THE_WAY: usize = 16 * CLOSED_MAX;
/// Delivered output of all closed processes together, in bytes. When full, that of the oldest goes; exit codes stay.
pub const CLOSED_BYTES: usize = 64 * 1024 * 1024;
/// Output that one process may have notified before it is the next one's turn, in bytes.
const TURN_BYTES: usize = 128 * 1024;
/// Events of one turn.
const TURN_EVENTS: usize = 256;

/// See the module.
#[derive(Debug)]
pub struct Roster<H> {
    slots: HashMap<ProcessId, Slot<H>>,
    ring: VecDeque<ProcessId>,
    attached: Option<Delivery>,
    shutting_down: bool,
    retention: Duration,
    when_full: WhenFull,
    /// Whether there is a disk for what does not stay in memory.
    spills: bool,
    /// The closed ones that somebody was given all of.
    settled: VecDeque<Settled>,
    /// How many closed ones are not among them.
    owed: usize,
    closed_bytes: usize,
    ledger: Arc<Ledger>,
    /// What of it is ours.
    held: usize,
}

#[derive(Debug)]
enum Slot<H> {
    Starting { cancelled: bool, names: usize },
    Live(Entry<H>),
}

#[derive(Debug)]
struct Entry<H> {
    handle: H,
    log: Log,
    in_ring: bool,
    settled: bool,
    /// What was taken of the ledger for its id and arguments.
    names: usize,
}

#[derive(Debug)]
struct Settled {
    id: ProcessId,
    /// Counted from the first [`Roster::purge`] that sees it.
    forget_at: Option<Instant>,
}

/// What an id stands for.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<H> {
    /// Nothing.
    Unknown,
    /// A process that is being started.
    Starting,
    /// A process, possibly closed already.
    Live(H),
}

/// What came of a change to a log.
#[derive(Debug)]
pub struct Changed<H, R> {
    /// Whose it is.
    pub handle: H,
    /// What the change returned.
    pub value: R,
    /// Whether there are events to notify.
    pub pending: bool,
    /// Whether the pipes may be read.
    pub demand: Demand,
    /// Bytes that were dropped for want of room.
    pub dropped: u64,
    /// Whether it has just come to the point from which its days are counted.
    pub settled: bool,
}

impl<H: Clone> Roster<H> {
    /// Nobody, and nobody attached.
    pub fn new(retention: Duration, ledger: Arc<Ledger>, when_full: WhenFull) -> Self {
        Self {
            slots: HashMap::new(),
            ring: VecDeque::new(),
            attached: None,
            shutting_down: false,
            retention,
            when_full,
            spills: false,
            settled: VecDeque::new(),
            owed: 0,
            closed_bytes: 0,
            ledger,
            held: 0,
        }
    }

    /// The same, with a disk for what does not stay in memory, unless the oldest is to be dropped anyway.
    #[must_use]
    pub fn spilling(mut self) -> Self {
        self.spills = self.when_full == WhenFull::Wait;
        self
    }

    /// Takes an id for a process to be started; `argv` are the bytes of arguments that are kept of it.
    ///
    /// # Errors
    /// It is taken, nothing may start any more, too many results are still to be read, or names take too much memory.
    pub fn reserve(&mut self, id: &ProcessId, argv: usize) -> Result<(), StartError> {
        if self.shutting_down {
            return Err(StartError::ShuttingDown);
        }
        if self.slots.contains_key(id) {
            return Err(StartError::AlreadyExists(id.clone()));
        }
        let on_its_way = self.attached == Some(Delivery::Read);
        if self.owed >= if on_its_way { CLOSED_ON_THE_WAY } else { CLOSED_MAX } {
            return Err(StartError::TooManyUnread(self.owed));
        }
        let names = self.ledger.take_names(id.as_str().len() + argv).ok_or(StartError::TooLongNames)?;
        self.slots.insert(id.clone(), Slot::Starting { cancelled: false, names });
        Ok(())
    }

    /// Gives an id back whose process did not start.
    pub fn release(&mut self, id: &ProcessId) {
        if let Some(Slot::Starting { names, .. }) = self.slots.get(id) {
            self.ledger.give_names_back(*names);
            self.slots.remove(id);
        }
    }

    /// The process of a reserved id runs.
    ///
    /// # Errors
    /// It must not: it was terminated meanwhile, or all are. The id is free again.
    pub fn admit(&mut self, id: &ProcessId, handle: H) -> Result<(), StartError> {
        let (cancelled, names) = match self.slots.get(id) {
            Some(Slot::Starting { cancelled, names }) => (*cancelled, *names),
            _ => (true, 0),
        };
        if cancelled || self.shutting_down {
            self.release(id);
            return Err(if cancelled { StartError::Cancelled(id.clone()) } else { StartError::ShuttingDown });
        }
        let log = Log::new(self.attached, self.when_full);
        let log = if self.spills { log.spilling() } else { log };
        let entry = Entry { handle, log, in_ring: false, settled: false, names };
        self.slots.insert(id.clone(), Slot::Live(entry));
        Ok(())
    }

    /// What `id` stands for.
    pub fn find(&self, id: &ProcessId) -> Found<H> {
        match self.slots.get(id) {
            None => Found::Unknown,
            Some(Slot::Starting { .. }) => Found::Starting,
            Some(Slot::Live(entry)) => Found::Live(entry.handle.clone()),
        }
    }

    /// A process that is being started shall not run.
    pub fn cancel(&mut self, id: &ProcessId) {
        if let Some(Slot::Starting { cancelled, .. }) = self.slots.get_mut(id) {
            *cancelled = true;
        }
    }

    /// Whether the exit of `id` is in its log; an unknown one counts as gone.
    pub fn has_exited(&self, id: &ProcessId) -> bool {
        match self.slots.get(id) {
            Some(Slot::Live(entry)) => entry.log.has_exited(),
            Some(Slot::Starting { .. }) => false,
            None => true,
        }
    }

    /// Changes the log of `id` and keeps everything else in step with it.
    pub fn change<R>(&mut self, id: &ProcessId, change: impl FnOnce(&mut Log) -> R) -> Option<Changed<H, R>> {
        let Some(Slot::Live(entry)) = self.slots.get_mut(id) else { return None };
        let was_closed = entry.log.is_closed();
        let before = if was_closed { entry.log.retained() } else { 0 };
        let (before_held, dropped) = (entry.log.held(), entry.log.dropped());
        let value = change(&mut entry.log);
        self.ledger.change(before_held, entry.log.held());
        let mut held = entry.log.held();
        while held > before_held && !self.ledger.has_room() && entry.log.drop_oldest() {
            self.ledger.change(held, entry.log.held());
            held = entry.log.held();
        }
        self.held = self.held + held - before_held;
        let dropped = entry.log.dropped() - dropped;
        let after = if entry.log.is_closed() { entry.log.retained() } else { 0 };
        self.closed_bytes = self.closed_bytes + after - before;
        self.owed += usize::from(entry.log.is_closed() && !was_closed);
        let settled = entry.log.is_settled() && !std::mem::replace(&mut entry.settled, true);
        if settled {
            self.owed -= 1;
            self.settled.push_back(Settled { id: id.clone(), forget_at: None });
        }
        let pending = entry.log.has_pending();
        if pending && !std::mem::replace(&mut entry.in_ring, true) {
            self.ring.push_back(id.clone());
        }
        let demand = entry.log.demand(self.ledger.has_room());
        let handle = entry.handle.clone();
        Some(Changed { handle, value, pending, demand, settled, dropped })
    }

    /// Appends the last event of `id`. Its days are counted from when somebody was given all of it.
    pub fn close(&mut self, id: &ProcessId) -> Option<Changed<H, ()>> {
        let changed = self.change(id, Log::closed)?;
        self.trim();
        Some(changed)
    }

    /// From now on events are to be notified, and count as delivered as `how` says. The days of the closed ones are counted anew: an answer that was given
    /// before may have been lost.
    pub fn attach(&mut self, how: Delivery) {
        self.attached = Some(how);
        self.ring.clear();
        self.settled.iter_mut().for_each(|settled| settled.forget_at = None);
        for (id, slot) in &mut self.slots {
            let Slot::Live(entry) = slot else { continue };
            entry.log.attach(how);
            entry.in_ring = entry.log.has_pending();
            if entry.in_ring {
                self.ring.push_back(id.clone());
            }
        }
    }

    /// From now on events are only kept.
    pub fn detach(&mut self) {
        self.attached = None;
        self.ring.clear();
        for entry in self.entries() {
            entry.in_ring = false;
            entry.log.detach();
        }
        self.closed_bytes = self.entries().filter(|entry| entry.log.is_closed()).map(|e| e.log.retained()).sum();
        self.trim();
    }

    /// Takes events to notify, in turns: at least one if there is one, about `max_bytes` of output.
    pub fn take(&mut self, max_bytes: usize) -> Vec<Event> {
        let (mut events, mut waiting) = (Vec::new(), Vec::new());
        let mut total = 0;
        while events.is_empty() || total < max_bytes {
            let Some(id) = self.ring.pop_front() else { break };
            let Some(Slot::Live(entry)) = self.slots.get_mut(&id) else { continue };
            let turn = TURN_BYTES.min(max_bytes - total.min(max_bytes));
            let taken = entry.log.take(turn, TURN_EVENTS);
            if taken.is_empty() && entry.log.has_pending() {
                waiting.push(id);
                continue;
            }
            for (seq, kind) in taken {
                total += kind.output_len();
                events.push(Event { process: id.clone(), seq, kind });
            }
            entry.in_ring = entry.log.has_pending();
            if entry.in_ring {
                self.ring.push_back(id);
            }
        }
        self.ring.extend(waiting);
        events
    }

    /// Pieces of one process that have to be read back before any of its events can be taken.
    pub fn to_recall(&self) -> Option<(ProcessId, Vec<(u64, Place)>)> {
        self.ring.iter().find_map(|id| match self.slots.get(id) {
            Some(Slot::Live(entry)) => {
                Some((id.clone(), entry.log.to_recall())).filter(|(_, places)| !places.is_empty())
            }
            _ => None,
        })
    }

    /// Forgets the closed ones that somebody was given all of and whose time is over, or for whom there is no room. They
    /// are returned. One whose end a slow peer has not taken yet stays as long again. While nobody is attached, no time
    /// is over.
    pub fn purge(&mut self, now: Instant) -> Vec<H> {
        let forget_at = Some(now + self.retention);
        let fresh = self.settled.iter_mut().rev().take_while(|settled| settled.forget_at.is_none());
        fresh.for_each(|settled| settled.forget_at = forget_at);
        let mut forgotten = Vec::new();
        for _ in 0..self.settled.len() {
            let over = self.settled.len() > CLOSED_MAX;
            let due =
                |front: &mut Settled| over || (self.attached.is_some() && front.forget_at.is_some_and(|at| at <= now));
            let Some(front) = self.settled.pop_front_if(due) else { break };
            match self.slots.get(&front.id) {
                Some(Slot::Live(entry)) if entry.log.has_pending() => {
                    self.settled.push_back(Settled { forget_at, ..front });
                }
                Some(Slot::Live(entry)) => {
                    self.closed_bytes -= entry.log.retained();
                    self.ledger.change(entry.log.held(), 0);
                    self.ledger.give_names_back(entry.names);
                    self.held -= entry.log.held();
                    forgotten.push(entry.handle.clone());
                    self.slots.remove(&front.id);
                }
                Some(Slot::Starting { .. }) | None => {}
            }
        }
        forgotten
    }

    /// When to purge next, unless something changes before.
    pub fn next_purge(&self) -> Option<Instant> {
        self.settled.front().filter(|_| self.attached.is_some())?.forget_at
    }

    /// Nothing starts any more.
    pub fn shut_down(&mut self) {
        self.shutting_down = true;
    }

    /// All processes, the closed ones included.
    pub fn handles(&self) -> Vec<H> {
        let live = |slot: &Slot<H>| match slot {
            Slot::Live(entry) => Some(entry.handle.clone()),
            Slot::Starting { .. } => None,
        };
        self.slots.values().filter_map(live).collect()
    }

    /// All processes with how far each has come.
    pub fn progress(&self) -> Vec<(H, Progress)> {
        let live = |slot: &Slot<H>| match slot {
            Slot::Live(entry) => Some((entry.handle.clone(), entry.log.progress())),
            Slot::Starting { .. } => None,
        };
        self.slots.values().filter_map(live).collect()
    }

    fn entries(&mut self) -> impl Iterator<Item = &mut Entry<H>> {
        self.slots.values_mut().filter_map(|slot| match slot {
            Slot::Live(entry) => Some(entry),
            Slot::Starting { .. } => None,
        })
    }

    fn trim(&mut self) {
        for settled in &self.settled {
            if self.closed_bytes <= CLOSED_BYTES {
                return;
            }
            if let Some(Slot::Live(entry)) = self.slots.get_mut(&settled.id) {
                self.closed_bytes -= entry.trim();
            }
        }
        for slot in self.slots.values_mut() {
            if self.closed_bytes <= CLOSED_BYTES {
                return;
            }
            match slot {
                Slot::Live(entry) if entry.log.is_closed() => self.closed_bytes -= entry.trim(),
                _ => {}
            }
        }
    }
}

impl<H> Drop for Roster<H> {
    fn drop(&mut self) {
        for slot in self.slots.values() {
            let (Slot::Starting { names, .. } | Slot::Live(Entry { names, .. })) = slot;
            self.ledger.give_names_back(*names);
        }
        self.ledger.change(self.held, 0);
    }
}

impl<H> Entry<H> {
    /// How much went.
    fn trim(&mut self) -> usize {
        let before = self.log.retained();
        self.log.trim();
        before - self.log.retained()
    }
}

#[cfg(test)]
mod tests;
