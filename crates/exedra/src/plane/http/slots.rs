//! The slots of connections that speak HTTP, and who gives one up when there are none left: whoever has been silent longest.
//!
//! In flow connections that come, send the whole head of a request, and go; out flow slots, and whom to cut. A connection
//! is *silent* until its first head is whole; after that it keeps its slot. Who is new has a moment of grace, for its head may
//! have arrived without having been read. One that its address has no place for is a *guest*: there are few slots for
//! guests, only guests give theirs up to a guest, without grace, and when all have spoken a few may wait. The table knows no socket and no clock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use super::Tally;

/// Before a silent connection is cut: the clock moves only after the sockets were looked at.
const LAST_LOOK: Duration = Duration::from_millis(10);

/// A connection's number; the higher, the later it came.
type Number = u64;

/// Who has a slot. Pure.
#[derive(Debug)]
struct Table {
    most: usize,
    most_guests: usize,
    grace: Duration,
    next: Number,
    /// All, and whether each is a guest.
    open: BTreeMap<Number, bool>,
    guests: usize,
    /// With the end of its grace.
    silent: BTreeMap<Number, Instant>,
    silent_guests: BTreeSet<Number>,
}

/// A newcomer's slot, and who gave it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    number: Number,
    evicted: Option<Number>,
}

/// Whether a newcomer who is no guest would get a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    Now,
    /// When somebody's grace is over.
    At(Instant),
    /// When somebody goes.
    None,
}

impl Table {
    fn new(most: usize, most_guests: usize, grace: Duration) -> Self {
        let (open, silent, silent_guests) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        Self { most, most_guests, grace, next: 0, open, guests: 0, silent, silent_guests }
    }

    fn room(&self, now: Instant) -> Room {
        if self.open.len() < self.most || !self.silent_guests.is_empty() {
            return Room::Now;
        }
        match self.silent.first_key_value() {
            Some((_, grace)) if *grace <= now => Room::Now,
            Some((_, grace)) => Room::At(*grace),
            None => Room::None,
        }
    }

    /// A slot for a newcomer; none if nobody can be sent away for it.
    fn enter(&mut self, is_guest: bool, now: Instant) -> Option<Entry> {
        let silent_guest = self.silent_guests.first().copied();
        let evicted = if is_guest && self.guests >= self.most_guests {
            Some(silent_guest?)
        } else if self.open.len() >= self.most {
            // Guests first: the others are within what their addresses may have.
            let silent = self.silent.first_key_value().filter(|(_, grace)| **grace <= now);
            Some(silent_guest.or_else(|| silent.map(|(number, _)| *number))?)
        } else {
            None
        };
        if let Some(evicted) = evicted {
            self.leave(evicted);
        }
        let number = self.next;
        self.next += 1;
        self.open.insert(number, is_guest);
        self.guests += usize::from(is_guest);
        if is_guest {
            self.silent_guests.insert(number);
        } else {
            self.silent.insert(number, now + self.grace);
        }
        Some(Entry { number, evicted })
    }

    /// It has sent the whole head of a request.
    fn spoke(&mut self, number: Number) {
        self.silent.remove(&number);
        self.silent_guests.remove(&number);
    }

    fn leave(&mut self, number: Number) {
        self.spoke(number);
        if let Some(is_guest) = self.open.remove(&number) {
            self.guests -= usize::from(is_guest);
        }
    }
}

/// The slots.
#[derive(Clone, Debug)]
pub struct Slots(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    freed: Notify,
    freed_for_guests: Notify,
    #[cfg(test)]
    guests: usize,
    /// Guests that may wait for a slot at a time. When there are as many, the next is refused.
    waiting: Semaphore,
    tally: Arc<Tally>,
}

#[derive(Debug)]
struct State {
    table: Table,
    /// To tell those that are silent that they are to go.
    cuts: BTreeMap<Number, CancellationToken>,
}

/// A slot, until it is dropped.
#[derive(Debug)]
pub struct Slot {
    slots: Slots,
    number: Number,
    needed: CancellationToken,
}

impl Slots {
    /// `most` slots, of which guests may have `guests`, and as many may wait for one; nobody else is cut before `grace` is over.
    pub fn new(most: usize, guests: usize, grace: Duration, tally: Arc<Tally>) -> Self {
        let state = State { table: Table::new(most, guests, grace), cuts: BTreeMap::new() };
        Self(Arc::new(Shared {
            state: Mutex::new(state),
            freed: Notify::new(),
            freed_for_guests: Notify::new(),
            #[cfg(test)]
            guests,
            waiting: Semaphore::new(guests),
            tally,
        }))
    }

    /// Returns when there is a slot for one who is no guest. Only one may wait.
    pub async fn free(&self) {
        loop {
            let room = self.lock().table.room(Instant::now());
            match room {
                Room::Now => return,
                // Somebody may go before.
                Room::At(grace) => drop(timeout_at(grace, self.0.freed.notified()).await),
                Room::None => self.0.freed.notified().await,
            }
        }
    }

    /// A slot for a newcomer; who has been silent longest is told to go if there is none. None if nobody is silent.
    pub fn enter(&self, is_guest: bool) -> Option<Slot> {
        let mut state = self.lock();
        let Entry { number, evicted } = state.table.enter(is_guest, Instant::now())?;
        let cut = evicted.and_then(|evicted| state.cuts.remove(&evicted));
        let needed = CancellationToken::new();
        state.cuts.insert(number, needed.clone());
        drop(state);
        self.0.tally.accepted.fetch_add(1, Ordering::Relaxed);
        self.0.tally.cut.fetch_add(u64::from(evicted.is_some()), Ordering::Relaxed);
        if let Some(cut) = cut {
            cut.cancel();
        }
        Some(Slot { slots: self.clone(), number, needed })
    }

    /// A place to wait in for a guest that got no slot. None if too many wait.
    pub fn queue(&self) -> Option<SemaphorePermit<'_>> {
        self.0.waiting.try_acquire().ok()
    }

    /// A slot for a guest with a place to wait in, as soon as there is one. None after `limit`.
    pub async fn wait_as_guest(&self, limit: Duration) -> Option<Slot> {
        let end = Instant::now() + limit;
        loop {
            if let Some(slot) = self.enter(true) {
                return Some(slot);
            }
            timeout_at(end, self.0.freed_for_guests.notified()).await.ok()?;
        }
    }

    /// How many guests wait for a slot.
    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        self.0.guests - self.0.waiting.available_permits()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// Returns when another has it and there was time to read what had arrived.
    pub async fn is_needed(&self) {
        self.needed.cancelled().await;
        sleep(LAST_LOOK).await;
    }

    /// The connection has sent the whole head of a request: it keeps its slot from now on.
    pub fn spoke(&self) {
        let mut state = self.slots.lock();
        state.table.spoke(self.number);
        state.cuts.remove(&self.number);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.slots.lock();
        state.table.leave(self.number);
        let cut = state.cuts.remove(&self.number);
        drop((state, cut));
        self.slots.0.freed.notify_one();
        self.slots.0.freed_for_guests.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(1);

    fn entry(number: Number, evicted: Option<Number>) -> Option<Entry> {
        Some(Entry { number, evicted })
    }

    #[test]
    fn the_one_that_was_silent_longest_gives_its_slot_up_and_who_spoke_never() {
        let mut table = Table::new(3, 1, GRACE);
        let begin = Instant::now();
        for number in 0..3 {
            assert_eq!(table.enter(false, begin), entry(number, None));
        }
        assert_eq!((table.enter(false, begin), table.room(begin)), (None, Room::At(begin + GRACE)));
        let now = begin + GRACE;
        table.spoke(0);
        assert_eq!(table.enter(false, now), entry(3, Some(1)));
        assert_eq!(table.enter(false, now), entry(4, Some(2)));
        assert_eq!((table.enter(false, now), table.room(now)), (None, Room::At(now + GRACE)));
        table.spoke(3);
        table.spoke(4);
        let now = now + 9 * GRACE;
        assert_eq!((table.enter(false, now), table.room(now)), (None, Room::None), "all have spoken");
        // One that was cut ends later than its slot.
        table.leave(1);
        assert_eq!(table.room(now), Room::None);
        table.leave(3);
        assert_eq!(table.room(now), Room::Now);
        assert_eq!(table.enter(false, now), entry(5, None));
        assert_eq!(table.open.len(), 3);
    }

    #[test]
    fn guests_take_nothing_from_others_and_go_first() {
        let mut table = Table::new(4, 2, GRACE);
        let begin = Instant::now();
        let now = begin + GRACE;
        assert_eq!(table.enter(false, begin), entry(0, None));
        assert_eq!(table.enter(true, begin), entry(1, None));
        assert_eq!(table.enter(true, begin), entry(2, None));
        assert_eq!(table.enter(true, begin), entry(3, Some(1)), "in the place of a guest");
        table.spoke(2);
        assert_eq!(table.enter(true, now), entry(4, Some(3)));
        table.spoke(4);
        assert_eq!(table.enter(true, now), None, "the silent one is no guest");
        assert_eq!(table.enter(false, now), entry(5, None));
        assert_eq!(table.enter(false, now), entry(6, Some(0)));
        table.leave(2);
        assert_eq!(table.enter(true, now), entry(7, None));
        assert_eq!(table.enter(false, now), entry(8, Some(7)), "a silent guest goes before one who is none");
        assert_eq!((table.open.len(), table.guests), (4, 1));
    }
}
