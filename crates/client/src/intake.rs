//! The events of one process, in order, over however many connections: a queue, the reordering behind it, and what a read
//! after a break fills in.
//!
//! In flow events as connections deliver them, and [`Snapshot`]s; out flow the same events from number 1 on, each once. A
//! snapshot is what the rules for stock executors ask for (`process/read` after the last event that was given): its
//! pieces have numbers, the end has the highest of all, and the exit the one that is missing. Sends nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use exedra_proto::ids::ProcessId;
use exedra_proto::method::ServerEvent;
use exedra_proto::process::{ClosedParams, ExitedParams, OutputParams, ReadResult};
use tokio::sync::mpsc;

use crate::error::Error;
use crate::inbox::Numbered;
use crate::reorder::{Gap, Reorder};

/// What comes for a process.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// An event.
    Event(ServerEvent),
    /// What happened meanwhile, after the break of that number.
    Snapshot(u64, Snapshot),
    /// What happened meanwhile is not to be had.
    Lost(Error),
}

/// What a process had come to when it was read.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// Its latest answer.
    pub(crate) last: ReadResult,
    /// Those before, where one answer did not hold everything.
    pub(crate) before: Vec<ReadResult>,
}

/// What the receiving end and those who fill it share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// The last event that was given to the caller.
    seen: AtomicU64,
    /// The number of the break of which a snapshot is still to come; 0 if none is.
    mending: AtomicU64,
    /// Answers of a snapshot that is not complete. Asking for more has confirmed them, so they are nowhere else; the
    /// snapshot after the next break goes on behind them.
    answers: Mutex<Vec<ReadResult>>,
}

/// The receiving end.
#[derive(Debug)]
pub(crate) struct Intake {
    id: ProcessId,
    queue: mpsc::Receiver<Arrival>,
    order: Reorder<ServerEvent>,
    exit_given: bool,
    shared: Arc<Shared>,
}

impl Shared {
    /// The last event that was given to the caller.
    pub(crate) fn seen(&self) -> u64 {
        self.seen.load(Ordering::Acquire)
    }

    /// After the break of that number, from 1, a snapshot is to come.
    pub(crate) fn mend(&self, number: u64) {
        self.mending.store(number, Ordering::Release);
    }

    /// Keeps an answer that more have to follow.
    pub(crate) fn keep(&self, answer: ReadResult) {
        self.answers().push(answer);
    }

    /// The last event that was given to the caller, or is in what was kept.
    pub(crate) fn known(&self) -> u64 {
        let kept = self.answers().last().map_or(0, |answer| answer.next_seq.saturating_sub(1));
        kept.max(self.seen())
    }

    /// What was kept, with the answer that nothing follows.
    pub(crate) fn complete(&self, last: ReadResult) -> Snapshot {
        Snapshot { last, before: std::mem::take(&mut *self.answers()) }
    }

    fn answers(&self) -> MutexGuard<'_, Vec<ReadResult>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_mending(&self) -> bool {
        self.mending.load(Ordering::Acquire) != 0
    }
}

impl Intake {
    pub(crate) fn new(id: ProcessId, queue: mpsc::Receiver<Arrival>, shared: Arc<Shared>) -> Self {
        Self { id, queue, order: Reorder::default(), exit_given: false, shared }
    }

    /// The next event; none if there is no connection any more. Cancelling loses nothing.
    pub(crate) async fn next(&mut self) -> Result<Option<ServerEvent>, Error> {
        loop {
            if let Some(event) = self.order.pop(Instant::now()) {
                self.exit_given |= matches!(event, ServerEvent::ProcessExited(_));
                self.shared.seen.store(event.seq(), Ordering::Release);
                return Ok(Some(event));
            }
            if !self.receive().await? {
                return Ok(None);
            }
        }
    }

    /// Takes arrivals out of the queue until more than `limit` bytes are held or there is no connection any more.
    pub(crate) async fn take_early(&mut self, limit: usize) -> Result<(), Error> {
        while self.order.held_bytes() <= limit && self.receive().await? {}
        Ok(())
    }

    /// Bytes that wait here.
    pub(crate) fn held_bytes(&self) -> usize {
        self.order.held_bytes()
    }

    /// Waits for one arrival, or for the time at which a missing event counts as lost. False if there will be none.
    async fn receive(&mut self) -> Result<bool, Error> {
        self.order.forgive(self.shared.is_mending(), Instant::now());
        self.order.check(Instant::now())?;
        let arrival = match self.order.deadline() {
            None => self.queue.recv().await,
            // The time is checked on the next turn.
            Some(deadline) => match tokio::time::timeout_at(deadline.into(), self.queue.recv()).await {
                Ok(arrival) => arrival,
                Err(_) => return Ok(true),
            },
        };
        // A break may have been told while this waited.
        self.order.forgive(self.shared.is_mending(), Instant::now());
        match arrival {
            None => return Ok(false),
            Some(Arrival::Event(event)) => self.push(event)?,
            Some(Arrival::Snapshot(number, snapshot)) => {
                self.fill(snapshot)?;
                // Unless there was another break since.
                let _ = self.shared.mending.compare_exchange(number, 0, Ordering::AcqRel, Ordering::Acquire);
            }
            Some(Arrival::Lost(error)) => return Err(error),
        }
        Ok(true)
    }

    fn push(&mut self, event: ServerEvent) -> Result<(), Gap> {
        self.order.push(event.seq(), event.size(), event, Instant::now())
    }

    fn fill(&mut self, snapshot: Snapshot) -> Result<(), Error> {
        let Snapshot { last, before } = snapshot;
        let target = last.next_seq.saturating_sub(1);
        let (exit_code, closed, limit) = (last.exit_code.filter(|_| last.exited), last.closed, last.limit);
        let sandbox_denied = last.sandbox_denied;
        for chunk in before.into_iter().chain([last]).flat_map(|answer| answer.chunks) {
            if chunk.seq > target || (closed && chunk.seq == target) {
                return Err(lost(format!("a piece of output has number {} of {target}", chunk.seq)));
            }
            let (process_id, seq, stream) = (self.id.clone(), chunk.seq, chunk.stream);
            self.push(ServerEvent::ProcessOutput(OutputParams { process_id, seq, stream, chunk: chunk.chunk.into() }))?;
        }
        if closed {
            let process_id = self.id.clone();
            self.push(ServerEvent::ProcessClosed(ClosedParams { process_id, seq: target }))?;
        }
        let missing: Vec<u64> =
            (self.order.next_number()..=target).filter(|seq| self.order.get(*seq).is_none()).take(2).collect();
        match (missing.as_slice(), exit_code) {
            ([], _) => Ok(()),
            ([seq], Some(exit_code)) if !self.knows_exit(target) => {
                let process_id = self.id.clone();
                let exit = ExitedParams { process_id, seq: *seq, exit_code, limit, sandbox_denied };
                Ok(self.push(ServerEvent::ProcessExited(exit))?)
            }
            ([first, ..], _) => Err(lost(format!("the executor no longer had number {first} of {target}"))),
        }
    }

    fn knows_exit(&self, target: u64) -> bool {
        let is_exit = |seq| matches!(self.order.get(seq), Some(ServerEvent::ProcessExited(_)));
        self.exit_given || (self.order.next_number()..=target).any(is_exit)
    }
}

impl Snapshot {
    /// Whether there may be more than `answer` tells: it ends with a piece although the process has ended, or holds much.
    pub(crate) fn may_lack(answer: &ReadResult) -> bool {
        const MUCH: usize = 1024 * 1024;
        let ends_with_piece = answer.chunks.last().is_some_and(|chunk| chunk.seq + 1 == answer.next_seq);
        let bytes: usize = answer.chunks.iter().map(|chunk| chunk.chunk.0.len()).sum();
        ends_with_piece && (answer.exited || bytes > MUCH)
    }
}

impl Numbered for ServerEvent {
    fn seq(&self) -> u64 {
        match self {
            Self::ProcessOutput(params) => params.seq,
            Self::ProcessExited(params) => params.seq,
            Self::ProcessClosed(params) => params.seq,
            Self::HttpBodyDelta(params) => params.seq,
            // It comes once.
            Self::FsMissingChanged(_) => 1,
        }
    }

    fn size(&self) -> usize {
        match self {
            Self::ProcessOutput(params) => params.chunk.decoded_len_estimate(),
            Self::HttpBodyDelta(params) => params.delta_base64.decoded_len_estimate(),
            Self::ProcessExited(_) | Self::ProcessClosed(_) | Self::FsMissingChanged(_) => 0,
        }
    }
}

fn lost(text: String) -> Error {
    Error::NotRecovered(text)
}
