//! What comes for one receiver, in order: a queue of numbered items and the reordering behind it.
//!
//! In flow items as the connection delivers them, out flow the same in the order of their numbers. Knows of an item
//! only its number and its size.

use std::time::Instant;

use tokio::sync::mpsc;

use crate::reorder::{Gap, Reorder};

/// An item with a number.
pub(crate) trait Numbered {
    /// Its number, from 1.
    fn seq(&self) -> u64;

    /// About how many bytes it holds.
    fn size(&self) -> usize;
}

/// The receiving end of a queue.
#[derive(Debug)]
pub(crate) struct Inbox<T> {
    queue: mpsc::Receiver<T>,
    order: Reorder<T>,
}

impl<T: Numbered> Inbox<T> {
    pub(crate) fn new(queue: mpsc::Receiver<T>) -> Self {
        Self { queue, order: Reorder::default() }
    }

    /// The next item in order; none if the connection ended first. Cancelling loses nothing.
    pub(crate) async fn next(&mut self) -> Result<Option<T>, Gap> {
        loop {
            if let Some(item) = self.order.pop(Instant::now()) {
                return Ok(Some(item));
            }
            if !self.receive().await? {
                return Ok(None);
            }
        }
    }

    /// Waits for one item, or for the time at which a missing one counts as lost. False if the connection ended.
    async fn receive(&mut self) -> Result<bool, Gap> {
        self.order.check(Instant::now())?;
        let item = match self.order.deadline() {
            None => self.queue.recv().await,
            // The time is checked on the next turn.
            Some(deadline) => match tokio::time::timeout_at(deadline.into(), self.queue.recv()).await {
                Ok(item) => item,
                Err(_) => return Ok(true),
            },
        };
        let Some(item) = item else { return Ok(false) };
        self.order.push(item.seq(), item.size(), item, Instant::now())?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    impl Numbered for u64 {
        fn seq(&self) -> u64 {
            *self
        }

        fn size(&self) -> usize {
            1
        }
    }

    #[tokio::test]
    async fn an_item_that_never_comes_is_told_and_not_passed_over() {
        let (sender, queue) = mpsc::channel(10);
        let mut inbox = Inbox { queue, order: Reorder::with_patience(Duration::from_millis(20)) };
        for seq in [1, 3, 4] {
            sender.try_send(seq).unwrap();
        }
        assert_eq!(inbox.next().await, Ok(Some(1)));
        assert_eq!(inbox.next().await, Err(Gap { first: 2, last: 2 }));
        drop(sender);
        assert_eq!(inbox.next().await, Err(Gap { first: 2, last: 2 }), "and stays missing");
    }

    #[tokio::test]
    async fn the_end_of_the_queue_is_the_end() {
        let (sender, queue) = mpsc::channel(10);
        let mut inbox = Inbox::new(queue);
        sender.try_send(1).unwrap();
        drop(sender);
        assert_eq!(inbox.next().await, Ok(Some(1)));
        assert_eq!(inbox.next().await, Ok(None));
    }
}
