//! How much undelivered output, and how much of what clients name, a host keeps in all, whoever it belongs to.
//!
//! In flow how much each owner's is more or less, out flows whether there is room. Pure: two numbers. Knows no process and
//! no owner.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of long ids and arguments that a host keeps for all processes that are known, where nothing else is said. Above it, none
/// with more than [`FREE`] is started until some are forgotten.
pub const NAMES: usize = 32 * 1024 * 1024;
/// Bytes of id and arguments of one process that are not counted.
const FREE: usize = 1024;

/// See the module.
#[derive(Debug)]
pub struct Ledger {
    held: AtomicUsize,
    limit: usize,
    names: AtomicUsize,
    most_names: usize,
}

impl Ledger {
    /// Nothing held yet of at most `limit` bytes of output, and `most_names` of names.
    pub fn new(limit: usize, most_names: usize) -> Self {
        Self { held: AtomicUsize::new(0), limit, names: AtomicUsize::new(0), most_names }
    }

    /// Whether more may be held.
    pub fn has_room(&self) -> bool {
        self.held.load(Ordering::Relaxed) < self.limit
    }

    /// What an owner held was `before` and is `after`.
    pub fn change(&self, before: usize, after: usize) {
        if after >= before {
            self.held.fetch_add(after - before, Ordering::Relaxed);
        } else {
            self.held.fetch_sub(before - after, Ordering::Relaxed);
        }
    }

    /// Takes room for the id and the arguments of a process, `bytes` together: how much was taken, to be given back.
    pub fn take_names(&self, bytes: usize) -> Option<usize> {
        let bytes = bytes.saturating_sub(FREE);
        let fits = |names: usize| (names + bytes <= self.most_names).then_some(names + bytes);
        let taken = bytes == 0 || self.names.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok();
        taken.then_some(bytes)
    }

    /// A process is forgotten for which so much was taken.
    pub fn give_names_back(&self, taken: usize) {
        self.names.fetch_sub(taken, Ordering::Relaxed);
    }

    /// What is held.
    #[cfg(test)]
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_fill_it_and_short_ones_never_do() {
        let ledger = Ledger::new(1, NAMES);
        let taken: Vec<usize> = std::iter::from_fn(|| ledger.take_names(64 * 1024)).collect();
        assert_eq!(taken.len(), NAMES / (63 * 1024));
        assert_eq!((ledger.take_names(FREE), ledger.take_names(64 * 1024)), (Some(0), None));
        ledger.give_names_back(taken[0]);
        assert_eq!(ledger.take_names(64 * 1024), Some(63 * 1024));
    }
}
