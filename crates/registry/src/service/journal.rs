//! What waits to be written into the journal of events, in order, whatever the store does meanwhile.
//!
//! Events flow in, batches flow out to one writer, which tries again until the store has taken them. Whoever puts one in waits a
//! moment for it to be written, so that it is usually there before the answer that it belongs to; not while the store is known
//! to take none. A queue that is full leaves out the newest, counts them, and says so in their place. It must not know
//! what happened.

mod queue;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::store::{NewEvent, Store, StoreError};
use queue::{Put, Queue};

/// An event that takes longer is not waited for, since what is told of has somebody waiting for it.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two attempts at a store that takes none.
const PAUSE: Duration = Duration::from_millis(250);
/// What the store does not take in this time at the end is lost but for the log.
const LAST: Duration = Duration::from_secs(5);

/// The events that wait, and who writes them.
pub struct Journal {
    store: Arc<dyn Store>,
    queue: Mutex<Queue>,
    news: Notify,
    /// How many were written.
    written: watch::Sender<u64>,
}

/// The one who writes; dropped, it stops at once.
#[derive(Debug)]
pub struct Writer {
    stop: CancellationToken,
    task: JoinSet<()>,
}

impl Journal {
    /// A journal in `store`, which nobody writes yet.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, queue: Mutex::default(), news: Notify::new(), written: watch::Sender::new(0) }
    }

    /// Writes it from now on. Only one may.
    pub fn start(self: &Arc<Self>) -> Writer {
        let (stop, mut task) = (CancellationToken::new(), JoinSet::new());
        let (journal, stopping) = (Arc::clone(self), stop.clone());
        task.spawn(async move { journal.run(stopping).await });
        Writer { stop, task }
    }

    /// Has an event written after all that were put in before, and waits for it a moment. It is written also if the caller goes
    /// away.
    pub async fn put(&self, event: NewEvent) {
        let place = match self.lock().put(event) {
            Put::At(place) => place,
            Put::LeftOut { is_first } => {
                if is_first {
                    tracing::error!(
                        "the journal cannot be written, and no more events are kept for it but in this log"
                    );
                }
                return;
            }
        };
        self.news.notify_one();
        if self.lock().is_failing() || self.store.failing().is_some() {
            return;
        }
        let mut written = self.written.subscribe();
        if timeout(PATIENCE, written.wait_for(|written| *written >= place)).await.is_err() {
            self.lock().waited_in_vain(place);
        }
    }

    async fn run(&self, stop: CancellationToken) {
        tokio::select! {
            biased;
            () = self.write(&stop) => {}
            () = over(&stop) => {}
        }
        let left = self.lock().len();
        if left > 0 {
            tracing::error!(left, "events could not be written into the journal; only the log has them");
        }
    }

    /// Writes what comes until `stop`, and then what is left.
    async fn write(&self, stop: &CancellationToken) {
        loop {
            let batch = self.lock().batch();
            if !batch.is_empty() {
                match self.store.append_events(&batch).await {
                    Ok(_) => self.note_written(batch.len()),
                    Err(StoreError::Closed) => return,
                    Err(error) => {
                        if self.lock().failed() {
                            tracing::warn!(%error, "events cannot be written into the journal; they wait");
                        }
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            } else if stop.is_cancelled() {
                return;
            } else {
                tokio::select! {
                    biased;
                    () = self.news.notified() => {}
                    () = stop.cancelled() => {}
                }
            }
        }
    }

    fn note_written(&self, events: usize) {
        let (written, was_failing) = self.lock().written(events);
        if was_failing {
            tracing::info!("events are written into the journal again");
        }
        self.written.send_replace(written);
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer {
    /// Writes what waits, as far as the store takes it in time, and ends. What is put in later is not written.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        while self.task.join_next().await.is_some() {}
    }
}

/// Returns when the time for what is left at the end is over.
async fn over(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(LAST).await;
}
