//! The writer: one thread that takes records in order, chains them, writes, syncs in groups, signs and rotates.
//!
//! In flow records, out flow word that they are on the disk, and the state: sound, or why nothing can be written. While
//! nothing can be, what still comes is kept in order and tried again every second.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};

use super::chain::Chain;
use super::error::AuditError;
use super::head::Head;
use super::record::Record;
use super::room::Room;
use super::segments::Segments;
use crate::identity::Identity;

/// What was written is on the disk at the latest after this time; at once where somebody waits for it.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// Between two tries to write what could not be written.
const RETRY: Duration = Duration::from_secs(1);
/// Lines that are kept while nothing can be written, in bytes. Above it what clients can cause without end is counted only.
const KEPT: usize = 1 << 20;
/// Records that are written together at most.
const BATCH: usize = 1024;

/// Why nothing can be written; none while it can.
pub type State = Option<String>;

/// Something for the writer. The queue has no bound of its own: records of requests hold a permit, running processes have
/// two each, and kept output is bounded by [`Room`].
pub enum Order {
    /// Write this.
    Write {
        /// What.
        record: Box<Record>,
        /// Whom to tell when it is on the disk, or that it cannot be.
        done: Option<oneshot::Sender<Result<(), String>>>,
        /// Given back when it was taken.
        permit: Option<OwnedSemaphorePermit>,
        /// Bytes that it takes of the room.
        bytes: usize,
    },
    /// Sign, sync and end.
    Stop,
}

/// The thread's end of things.
struct Writer {
    segments: Segments,
    chain: Chain,
    identity: Arc<Identity>,
    state: watch::Sender<State>,
    room: Arc<Room>,
    /// Lines that are not in the file yet.
    backlog: Vec<u8>,
    /// Bytes of the room that they take.
    taken: usize,
    waiting: Vec<oneshot::Sender<Result<(), String>>>,
    head: Option<Head>,
    unsynced_since: Option<Instant>,
    retry_at: Option<Instant>,
    /// Lines that were not kept, by their kinds, and since when.
    gap: BTreeMap<&'static str, u64>,
    gap_since: Option<u64>,
    /// A sync failed: what is on the disk is unknown, and stays so.
    lost: bool,
}

/// A writer at work.
pub struct Journal {
    /// Where records go in.
    pub orders: Sender<Order>,
    /// Whether it can write.
    pub state: watch::Receiver<State>,
    /// Ends after [`Order::Stop`], or when nobody can send any more.
    pub thread: thread::JoinHandle<()>,
}

/// Starts the thread.
///
/// # Errors
/// The system refuses it.
pub fn start(
    segments: Segments,
    chain: Chain,
    identity: Arc<Identity>,
    room: Arc<Room>,
) -> Result<Journal, AuditError> {
    let (orders, received) = channel();
    let (state, watched) = watch::channel(None);
    let writer = Writer {
        segments,
        chain,
        identity,
        state,
        room,
        backlog: Vec::new(),
        taken: 0,
        waiting: Vec::new(),
        head: None,
        unsynced_since: None,
        retry_at: None,
        gap: BTreeMap::new(),
        gap_since: None,
        lost: false,
    };
    let builder = thread::Builder::new().name("audit".into()).stack_size(256 * 1024);
    let thread = builder.spawn(move || writer.run(&received)).map_err(AuditError::Thread)?;
    Ok(Journal { orders, state: watched, thread })
}

impl Writer {
    fn run(mut self, orders: &Receiver<Order>) {
        loop {
            let first = match self.wake_at() {
                None => orders.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => orders.recv_timeout(at.saturating_duration_since(Instant::now())),
            };
            let stop = match first {
                Ok(order) => !self.take(order) || !orders.try_iter().take(BATCH).all(|order| self.take(order)),
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => true,
            };
            if stop {
                self.tell_of_the_gap();
                self.append(&Record::Stopped);
            }
            self.write(stop);
            if stop {
                return;
            }
        }
    }

    /// When there is something to do, whether or not anything comes.
    fn wake_at(&self) -> Option<Instant> {
        let sync = self.unsynced_since.map(|since| since + SYNC_EVERY);
        match self.retry_at {
            Some(retry) => Some(retry),
            None => self.chain.head_due().into_iter().chain(sync).min(),
        }
    }

    /// False if it was the last.
    fn take(&mut self, order: Order) -> bool {
        let Order::Write { record, done, permit, bytes } = order else { return false };
        if self.backlog.len() >= KEPT && !record.is_kept() && self.state.borrow().is_some() {
            *self.gap.entry(record.kind()).or_default() += 1;
            self.gap_since.get_or_insert_with(now_ms);
        } else {
            self.append(&record);
        }
        self.taken += bytes;
        drop(permit);
        match self.state.borrow().clone() {
            Some(trouble) => _ = done.map(|done| done.send(Err(trouble))),
            None => self.waiting.extend(done),
        }
        true
    }

    /// One line about those that are missing, if any are.
    fn tell_of_the_gap(&mut self) {
        if let Some(since) = self.gap_since.take() {
            let lines = std::mem::take(&mut self.gap);
            self.append(&Record::Gap { since, lines });
        }
    }

    fn append(&mut self, record: &Record) {
        let line = self.chain.append(record, now_ms(), Instant::now());
        self.push(line);
        if self.chain.head_due().is_some_and(|due| due <= Instant::now()) {
            self.sign();
        }
    }

    fn sign(&mut self) {
        let (head, line) = self.chain.sign(&self.identity, now_ms(), Instant::now());
        self.push(line);
        self.head = Some(head);
    }

    fn push(&mut self, line: Vec<u8>) {
        self.backlog.extend(line);
        self.backlog.push(b'\n');
    }

    fn write(&mut self, last: bool) {
        let now = Instant::now();
        if self.chain.head_due().is_some_and(|due| last || due <= now) {
            self.sign();
        }
        if self.retry_at.is_some_and(|at| at > now) && !last {
            return;
        }
        let mut written = self.try_write(now, last);
        if written.is_ok() && self.gap_since.is_some() {
            self.tell_of_the_gap();
            written = self.try_write(now, last);
        }
        match written {
            Ok(()) => {
                self.retry_at = None;
                let recovered = self.state.send_if_modified(|state| state.take().is_some());
                if recovered {
                    tracing::warn!("the audit can be written again");
                }
            }
            Err(trouble) => self.fail(now, &trouble),
        }
        if self.backlog.is_empty() {
            self.room.give_back(std::mem::take(&mut self.taken));
        }
    }

    fn fail(&mut self, now: Instant, trouble: &str) {
        self.retry_at = Some(now + RETRY);
        for done in self.waiting.drain(..) {
            let _ = done.send(Err(trouble.to_owned()));
        }
        let known = self.state.borrow().is_some();
        self.state.send_replace(Some(trouble.to_owned()));
        if !known {
            tracing::error!("the audit cannot be written, no new work is taken: {trouble}");
        }
    }

    fn try_write(&mut self, now: Instant, last: bool) -> Result<(), String> {
        if self.lost {
            return Err("a sync failed, what is on the disk is not known; start the executor again".to_owned());
        }
        if !self.backlog.is_empty() {
            self.segments.append(&self.backlog).map_err(|error| error.to_string())?;
            self.backlog.clear();
            self.backlog.shrink_to(64 * 1024);
            self.unsynced_since.get_or_insert(now);
        }
        let overdue = self.unsynced_since.is_some_and(|since| now >= since + SYNC_EVERY);
        if self.unsynced_since.is_some() && (overdue || last || !self.waiting.is_empty() || self.segments.is_full()) {
            self.segments.sync().map_err(|error| {
                self.lost = true;
                error.to_string()
            })?;
            self.unsynced_since = None;
            if let Some(head) = &self.head {
                self.segments.keep_head(head).map_err(|error| error.to_string())?;
                self.head = None;
            }
        }
        if self.unsynced_since.is_none() {
            for done in self.waiting.drain(..) {
                let _ = done.send(Ok(()));
            }
            if self.segments.is_full() {
                self.segments.rotate().map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
