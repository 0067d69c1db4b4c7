//! How much undelivered output a host keeps in all, whoever it belongs to.
//!
//! In flow how much each owner's is more or less, out flows whether there is room. Pure: a number. Knows no process and
//! no owner.

use std::sync::atomic::{AtomicUsize, Ordering};

/// See the module.
#[derive(Debug)]
pub struct Ledger {
    held: AtomicUsize,
    limit: usize,
}

impl Ledger {
    /// Nothing held yet of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { held: AtomicUsize::new(0), limit }
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

    /// What is held.
    #[cfg(test)]
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }
}
