//! What the reader leaves for the writer: the answer to the newest ping. And when the peer was last heard.
//!
//! While an answer waits, a newer one takes its place, which RFC 6455 allows. So a peer that floods us with pings fills
//! no memory.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::Notify;

/// See the module.
#[derive(Debug)]
pub(super) struct Replies {
    slot: Mutex<Option<Bytes>>,
    filled: Notify,
    heard: Mutex<Instant>,
}

impl Replies {
    pub(super) fn new() -> Self {
        Self { slot: Mutex::new(None), filled: Notify::new(), heard: Mutex::new(Instant::now()) }
    }

    /// The payload of a pong is to be sent.
    pub(super) fn put(&self, payload: Bytes) {
        *self.slot() = Some(payload);
        self.filled.notify_one();
    }

    /// Waits for the payload of a pong. Cancelling the wait loses none.
    pub(super) async fn next(&self) -> Bytes {
        loop {
            if let Some(payload) = self.slot().take() {
                return payload;
            }
            self.filled.notified().await;
        }
    }

    /// When the last byte of the peer arrived.
    pub(super) fn heard(&self) -> Instant {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A byte of the peer has arrived.
    pub(super) fn hear(&self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn slot(&self) -> MutexGuard<'_, Option<Bytes>> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
