//! The memory that large answers may take while they are made and wait to be sent, and how many may be made at a time.
//!
//! In flow sizes, out flow [`Share`]s, each held from before the work begins until its answer is in the connection's queue
//! or nobody wants it any more. Every connection has a budget, and all connections of an executor have one together. Who
//! waits for a share holds up nothing but the request it is for. It knows no method and no message.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use super::reply::{LARGE, MAX_MESSAGE};

/// What the large answers of one connection may take at a time, in bytes as JSON: one of the largest, or several smaller
/// ones. Further large answers wait, in order, until the client has taken earlier ones; nobody else does.
pub const PER_CONNECTION: usize = MAX_MESSAGE;
/// What the answers from [`LARGE`] on of all connections of an executor may take at a time, in bytes as JSON: four of the
/// largest. Further ones wait, in order; smaller answers never wait for other connections.
pub const PER_EXECUTOR: usize = 256 * 1024 * 1024;
/// Answers below this, in bytes as JSON, are free: as many as one connection may have unanswered take less than one of the
/// largest does.
pub const SMALL: usize = 64 * 1024;
/// Largest payload whose answer, as base64, is free, in bytes.
pub const FREE: u64 = (SMALL as u64 - 1) / 4 * 3;
/// Operations on files that one connection may have under way at a time. Further ones wait, in order, and nobody else
/// does: each takes a thread, and threads are for all connections.
const TURNS: usize = 32;
/// Lists of directories that one connection may have under way, or waiting for room: how large one is, is known only when
/// it is made. Further ones wait, in order.
const LISTS: usize = 4;
/// What one permit stands for, in bytes.
const UNIT: usize = 1024;

/// What all connections of an executor share.
#[derive(Clone, Debug)]
pub struct Pool(Arc<Semaphore>);

/// What one connection may take.
#[derive(Clone, Debug)]
pub struct Budget {
    own: Arc<Semaphore>,
    pool: Pool,
    turns: Arc<Semaphore>,
    lists: Arc<Semaphore>,
}

/// The right to be under way; given back when dropped.
pub type Turn<'a> = Option<SemaphorePermit<'a>>;

/// Room for one answer; given back when dropped.
#[derive(Debug, Default)]
pub struct Share {
    own: Option<OwnedSemaphorePermit>,
    pooled: Option<OwnedSemaphorePermit>,
}

impl Default for Pool {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(PER_EXECUTOR / UNIT)))
    }
}

impl Budget {
    /// For a new connection.
    pub fn new(pool: Pool) -> Self {
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        Self { own: semaphore(PER_CONNECTION / UNIT), pool, turns: semaphore(TURNS), lists: semaphore(LISTS) }
    }

    /// Waits until one more operation on files may run.
    pub async fn turn(&self) -> Turn<'_> {
        self.turns.acquire().await.ok()
    }

    /// Waits until one more directory may be listed.
    pub async fn list(&self) -> Turn<'_> {
        self.lists.acquire().await.ok()
    }

    /// Waits for room for an answer that carries `payload` bytes as base64. One that no message can carry costs nothing:
    /// it will be refused.
    pub async fn share(&self, payload: u64) -> Share {
        self.share_text(usize::try_from(payload).unwrap_or(usize::MAX).div_ceil(3).saturating_mul(4)).await
    }

    /// Waits for room for an answer of `size` bytes as JSON, as [`Self::share`] does.
    pub async fn share_text(&self, size: usize) -> Share {
        if !(SMALL..=PER_CONNECTION).contains(&size) {
            return Share::default();
        }
        let units = u32::try_from(size.div_ceil(UNIT)).unwrap_or(u32::MAX);
        // Neither is ever closed.
        let own = Arc::clone(&self.own).acquire_many_owned(units).await.ok();
        let pooled = match size < LARGE {
            true => None,
            false => Arc::clone(&self.pool.0).acquire_many_owned(units).await.ok(),
        };
        Share { own, pooled }
    }
}

impl Share {
    /// Gives back what is not needed, now that the answer turned out to carry `payload` bytes.
    pub fn shrink(&mut self, payload: usize) {
        let units = payload.div_ceil(3).saturating_mul(4).div_ceil(UNIT);
        for permit in [&mut self.own, &mut self.pooled].into_iter().flatten() {
            drop(permit.split(permit.num_permits().saturating_sub(units)));
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    const LARGEST: u64 = 48 * 1024 * 1024;

    #[tokio::test]
    async fn one_of_the_largest_at_a_time_and_small_ones_always() {
        let budget = Budget::new(Pool::default());
        let mut first = budget.share(LARGEST).await;
        let mut second = Box::pin(budget.share(LARGEST));
        assert!(second.as_mut().now_or_never().is_none());
        assert!(budget.share(1_000).now_or_never().is_some());
        assert!(budget.share(LARGEST + 1).now_or_never().is_some(), "it will be refused");
        first.shrink(1_000);
        assert!(second.as_mut().now_or_never().is_none(), "the first still has a little");
        drop(first);
        assert!(second.now_or_never().is_some());
        assert_eq!(budget.own.available_permits(), PER_CONNECTION / UNIT);
    }

    #[tokio::test]
    async fn what_is_free_takes_no_room_and_a_byte_more_does() {
        let budget = Budget::new(Pool::default());
        assert!(budget.share(FREE).await.own.is_none());
        assert!(budget.share(FREE + 1).await.own.is_some());
    }

    #[tokio::test]
    async fn all_connections_together_are_bounded_but_for_answers_of_middle_size() {
        let pool = Pool::default();
        let shares: Vec<_> = (0..4).map(|_| Budget::new(pool.clone()).share(LARGEST).now_or_never().unwrap()).collect();
        let fifth = Budget::new(pool.clone());
        let mut waiting = Box::pin(fifth.share(LARGE as u64));
        assert!(waiting.as_mut().now_or_never().is_none());
        assert!(fifth.share(LARGE as u64 / 2).now_or_never().is_some());
        drop(shares);
        assert!(waiting.now_or_never().is_some());
    }
}
