//! A bounded queue that counts bytes: between a socket's driver and those who send and receive.
//!
//! In go items with their size, out come the same items in the same order. The budget is held by an item until it is
//! taken out, so that a few large messages bound the queue as well as many small ones. It knows nothing of sockets.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// What an item counts at least, so that a budget bounds their number, too: 1 MiB holds at most 1,024 items.
const MIN_COST: usize = 1024;

/// Where items go in; clones feed the same queue.
#[derive(Debug)]
pub(crate) struct Tx<T> {
    items: mpsc::UnboundedSender<(T, OwnedSemaphorePermit)>,
    room: Arc<Semaphore>,
    budget: usize,
}

/// Where they come out.
#[derive(Debug)]
pub(crate) struct Rx<T> {
    items: mpsc::UnboundedReceiver<(T, OwnedSemaphorePermit)>,
    room: Arc<Semaphore>,
}

/// Nobody takes items out any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Closed;

/// A queue for `budget` bytes; an item larger than that fits when the queue is empty.
pub(crate) fn channel<T>(budget: usize) -> (Tx<T>, Rx<T>) {
    let budget = budget.clamp(MIN_COST, u32::MAX as usize);
    let room = Arc::new(Semaphore::new(budget));
    let (tx, rx) = mpsc::unbounded_channel();
    (Tx { items: tx, room: Arc::clone(&room), budget }, Rx { items: rx, room })
}

impl<T> Clone for Tx<T> {
    fn clone(&self) -> Self {
        Self { items: self.items.clone(), room: Arc::clone(&self.room), budget: self.budget }
    }
}

impl<T> Tx<T> {
    /// Waits until `item` of `bytes` fits, and puts it in.
    pub(crate) async fn send(&self, item: T, bytes: usize) -> Result<(), Closed> {
        let permit = Arc::clone(&self.room).acquire_many_owned(self.cost(bytes)).await.map_err(|_| Closed)?;
        self.items.send((item, permit)).map_err(|_| Closed)
    }

    /// Puts `item` in if it fits now; tells whether it did.
    pub(crate) fn try_send(&self, item: T, bytes: usize) -> bool {
        match Arc::clone(&self.room).try_acquire_many_owned(self.cost(bytes)) {
            Ok(permit) => self.items.send((item, permit)).is_ok(),
            Err(_) => false,
        }
    }

    fn cost(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.clamp(MIN_COST, self.budget)).unwrap_or(u32::MAX)
    }
}

impl<T> Rx<T> {
    /// The next item, or none when all senders are gone.
    pub(crate) async fn recv(&mut self) -> Option<T> {
        self.items.recv().await.map(|(item, _room)| item)
    }

    /// The next item, if one is there.
    pub(crate) fn try_recv(&mut self) -> Option<T> {
        self.items.try_recv().ok().map(|(item, _room)| item)
    }

    /// Refuses further items; those inside can still be taken out.
    pub(crate) fn close(&mut self) {
        self.room.close();
        self.items.close();
    }
}

impl<T> Drop for Rx<T> {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_full_queue_makes_the_sender_wait() {
        let (tx, mut rx) = channel(4096);
        tx.send(1, 3000).await.unwrap();
        assert!(!tx.try_send(2, 2000));
        assert!(timeout(Duration::from_millis(20), tx.send(2, 2000)).await.is_err());
        assert_eq!(rx.recv().await, Some(1));
        tx.send(2, 2000).await.unwrap();
        assert_eq!(rx.try_recv(), Some(2));
        assert_eq!(rx.try_recv(), None);
    }

    #[tokio::test]
    async fn an_item_beyond_the_budget_fits_alone() {
        let (tx, mut rx) = channel(4096);
        tx.send(1, 1 << 30).await.unwrap();
        assert!(!tx.try_send(2, 0));
        assert_eq!(rx.recv().await, Some(1));
        assert!(tx.try_send(2, 0));
    }

    #[tokio::test]
    async fn tiny_items_are_bounded_in_number() {
        let (tx, _rx) = channel(4096);
        let fitted = (0..100).filter(|_| tx.try_send((), 0)).count();
        assert_eq!(fitted, 4);
    }

    #[tokio::test]
    async fn a_waiting_sender_learns_that_the_other_end_is_gone() {
        let (tx, rx) = channel(1024);
        tx.send(1, 1024).await.unwrap();
        let (sent, ()) = tokio::join!(tx.send(2, 1), async { drop(rx) });
        assert_eq!(sent, Err(Closed));
    }
}
