//! What all halls hold together, and when that is too much.
//!
//! In flow what each hall holds after each of its turns, out flows whether there is pressure: then a hall reads its
//! executor only when nothing of its own waits, and collects no messages. So each goes on at its own clients' pace, none
//! waits for another, and all together hold little more than the limit. Two numbers; no lock, nobody to wake.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The sums over all halls.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    bytes: AtomicUsize,
    streams: AtomicUsize,
}

/// One hall's part of the sums; taken away when it is dropped.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    bytes: usize,
    streams: usize,
}

impl Budget {
    /// Pressure begins at `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { limit, bytes: AtomicUsize::new(0), streams: AtomicUsize::new(0) }
    }

    /// Bytes that wait, and streams that are open.
    pub fn sums(&self) -> (usize, usize) {
        (self.bytes.load(Ordering::Relaxed), self.streams.load(Ordering::Relaxed))
    }
}

impl Share {
    /// Nothing yet.
    pub fn new(budget: Arc<Budget>) -> Self {
        Self { budget, bytes: 0, streams: 0 }
    }

    /// The hall holds so much now.
    pub fn set(&mut self, bytes: usize, streams: usize) {
        change(&self.budget.bytes, &mut self.bytes, bytes);
        change(&self.budget.streams, &mut self.streams, streams);
    }

    /// Whether all together hold too much.
    pub fn is_pressed(&self) -> bool {
        self.budget.bytes.load(Ordering::Relaxed) >= self.budget.limit
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0, 0);
    }
}

fn change(sum: &AtomicUsize, part: &mut usize, now: usize) {
    if now > *part {
        sum.fetch_add(now - *part, Ordering::Relaxed);
    } else if now < *part {
        sum.fetch_sub(*part - now, Ordering::Relaxed);
    }
    *part = now;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sums_are_those_of_the_halls_that_are_there() {
        let budget = Arc::new(Budget::new(100));
        let [mut one, mut other] = [(); 2].map(|()| Share::new(Arc::clone(&budget)));
        one.set(60, 2);
        other.set(39, 1);
        assert_eq!((budget.sums(), one.is_pressed()), ((99, 3), false));
        other.set(40, 1);
        assert!(one.is_pressed() && other.is_pressed());
        one.set(10, 0);
        assert_eq!((budget.sums(), other.is_pressed()), ((50, 1), false));
        drop(other);
        assert_eq!(budget.sums(), (10, 0));
    }
}
