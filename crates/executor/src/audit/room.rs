//! How much kept output may wait for the writer: above it, the pipes of processes are not read.
//!
//! In flow bytes that wait and bytes that were written, out flows whether there is room, with wake-ups.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

/// Output that may wait, in bytes; who reads pipes waits above it. One piece for each process may come on top.
const LIMIT: usize = 4 * 1024 * 1024;

/// See the module.
#[derive(Debug, Default)]
pub struct Room {
    waiting: AtomicUsize,
    wakers: Mutex<Vec<Waker>>,
}

impl Room {
    /// Pending while too much waits.
    pub fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.is_open() {
            return Poll::Ready(());
        }
        self.lock().push(context.waker().clone());
        // It may have opened meanwhile, before the waker was there.
        if self.is_open() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// So much more waits.
    pub fn take(&self, bytes: usize) {
        self.waiting.fetch_add(bytes, Ordering::SeqCst);
    }

    /// So much was written.
    pub fn give_back(&self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        self.waiting.fetch_sub(bytes, Ordering::SeqCst);
        if self.is_open() {
            let wakers = std::mem::take(&mut *self.lock());
            wakers.into_iter().for_each(Waker::wake);
        }
    }

    fn is_open(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) < LIMIT
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Waker>> {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_closes_and_opens_and_wakes() {
        let room = Room::default();
        let mut context = Context::from_waker(Waker::noop());
        assert!(room.poll(&mut context).is_ready());
        room.take(LIMIT);
        assert!(room.poll(&mut context).is_pending());
        assert_eq!(room.lock().len(), 1);
        room.give_back(1);
        assert!(room.poll(&mut context).is_ready());
        assert!(room.lock().is_empty());
    }
}
