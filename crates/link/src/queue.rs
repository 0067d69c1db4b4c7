//! A bounded queue that counts bytes: between a socket's driver and those who send and receive.
//!
//! In go items with their size, out come the same items in the same order. The budget is held by an item until it is
//! taken out, so that a few large messages bound the queue as well as many small ones. Room for items is had while there
//! are any: an empty queue, as of thousands of idle connections, takes some 200 bytes. It knows nothing of sockets.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, Semaphore};
use tokio::task::coop::cooperative;

/// What an item counts at least, so that a budget bounds their number, too: 1 MiB holds at most 1,024 items.
const MIN_COST: usize = 1024;

/// Where items go in; clones feed the same queue.
#[derive(Debug)]
pub(crate) struct Tx<T> {
    shared: Arc<Shared<T>>,
    budget: usize,
}

/// Where they come out.
#[derive(Debug)]
pub(crate) struct Rx<T> {
    shared: Arc<Shared<T>>,
}

#[derive(Debug)]
struct Shared<T> {
    items: Mutex<Items<T>>,
    room: Semaphore,
    /// Tells the receiver of an item, or that no more will come.
    filled: Notify,
}

#[derive(Debug)]
struct Items<T> {
    queue: VecDeque<(T, u32)>,
    senders: usize,
    open: bool,
}

/// What is in the queue now.
enum Next<T> {
    Item(T),
    Nothing,
    End,
}

/// Nobody takes items out any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Closed;

/// A queue for `budget` bytes; an item larger than that fits when the queue is empty.
pub(crate) fn channel<T>(budget: usize) -> (Tx<T>, Rx<T>) {
    let budget = budget.clamp(MIN_COST, u32::MAX as usize);
    let items = Mutex::new(Items { queue: VecDeque::new(), senders: 1, open: true });
    let shared = Arc::new(Shared { items, room: Semaphore::new(budget), filled: Notify::new() });
    (Tx { shared: Arc::clone(&shared), budget }, Rx { shared })
}

impl<T> Shared<T> {
    fn items(&self) -> MutexGuard<'_, Items<T>> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Next<T> {
        let mut items = self.items();
        match items.queue.pop_front() {
            Some((item, cost)) => {
                if items.queue.is_empty() {
                    items.queue = VecDeque::new();
                }
                drop(items);
                self.room.add_permits(cost as usize);
                Next::Item(item)
            }
            None if items.open && items.senders > 0 => Next::Nothing,
            None => Next::End,
        }
    }
}

impl<T> Clone for Tx<T> {
    fn clone(&self) -> Self {
        self.shared.items().senders += 1;
        Self { shared: Arc::clone(&self.shared), budget: self.budget }
    }
}

impl<T> Drop for Tx<T> {
    fn drop(&mut self) {
        let mut items = self.shared.items();
        items.senders -= 1;
        let last = items.senders == 0;
        drop(items);
        if last {
            self.shared.filled.notify_one();
        }
    }
}

impl<T> Tx<T> {
    /// Waits until `item` of `bytes` fits, and puts it in.
    pub(crate) async fn send(&self, item: T, bytes: usize) -> Result<(), Closed> {
        let cost = self.cost(bytes);
        self.shared.room.acquire_many(cost).await.map_err(|_| Closed)?.forget();
        if self.put(item, cost) { Ok(()) } else { Err(Closed) }
    }

    /// Puts `item` in if it fits now; tells whether it did.
    pub(crate) fn try_send(&self, item: T, bytes: usize) -> bool {
        let cost = self.cost(bytes);
        match self.shared.room.try_acquire_many(cost) {
            Ok(room) => {
                room.forget();
                self.put(item, cost)
            }
            Err(_) => false,
        }
    }

    /// With its room taken already; false if nobody takes items out any more.
    fn put(&self, item: T, cost: u32) -> bool {
        let mut items = self.shared.items();
        let open = items.open;
        if open {
            items.queue.push_back((item, cost));
        }
        drop(items);
        self.shared.filled.notify_one();
        open
    }

    fn cost(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.clamp(MIN_COST, self.budget)).unwrap_or(u32::MAX)
    }
}

impl<T> Rx<T> {
    /// The next item, or none when all senders are gone. Cancelling the wait loses none.
    pub(crate) async fn recv(&mut self) -> Option<T> {
        // Takes its turn with others in the task, as a queue of the runtime's would.
        cooperative(async {
            loop {
                match self.shared.next() {
                    Next::Item(item) => return Some(item),
                    Next::End => return None,
                    Next::Nothing => self.shared.filled.notified().await,
                }
            }
        })
        .await
    }

    /// The next item, if one is there.
    pub(crate) fn try_recv(&mut self) -> Option<T> {
        match self.shared.next() {
            Next::Item(item) => Some(item),
            Next::Nothing | Next::End => None,
        }
    }

    /// Whether nothing is inside.
    pub(crate) fn is_empty(&self) -> bool {
        self.shared.items().queue.is_empty()
    }

    /// Refuses further items; those inside can still be taken out.
    pub(crate) fn close(&mut self) {
        self.shared.room.close();
        self.shared.items().open = false;
    }
}

impl<T> Drop for Rx<T> {
    fn drop(&mut self) {
        self.close();
        let left = std::mem::take(&mut self.shared.items().queue);
        // Outside the lock: what they are may do anything when it goes.
        drop(left);
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

    #[tokio::test]
    async fn a_receiver_gets_what_is_left_and_then_the_end() {
        let (tx, mut rx) = channel(4096);
        let other = tx.clone();
        drop(tx);
        other.send(1, 1).await.unwrap();
        drop(other);
        assert_eq!(rx.recv().await, Some(1));
        assert_eq!(rx.recv().await, None);
        let (tx, mut rx) = channel::<u8>(4096);
        let (end, ()) = tokio::join!(rx.recv(), async { drop(tx) });
        assert_eq!(end, None);
    }

    #[tokio::test]
    async fn an_empty_queue_has_room_for_nothing() {
        let (tx, mut rx) = channel(1 << 20);
        for item in 0..100 {
            assert!(tx.try_send(item, 1));
        }
        for item in 0..100 {
            assert_eq!(rx.recv().await, Some(item));
        }
        assert_eq!(rx.shared.items().queue.capacity(), 0);
        rx.close();
        assert_eq!(tx.send(1, 1).await, Err(Closed));
    }
}
