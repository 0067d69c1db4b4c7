//! The driver of one process: reads its output as long as it is wanted, takes its exit, and reports the end.
//!
//! In flow readiness of pipes or PTY and of the child, out flow pieces of output, the exit and the close, in that order:
//! what had been written when the child was reaped comes before the exit. A process that goes beyond a limit is ended, with
//! all that descends from it. Knows no peer and no descriptor.

use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use exedra_proto::ids::ProcessId;
use exedra_proto::process::OutputStream;
use tokio::sync::OwnedSemaphorePermit;
use tracing::{debug, info};

use super::denial::Denial;
use super::hub::{Hub, Process};
use super::observer::Observer;
use super::output::Demand;
use super::quota::Meter;
use super::reap::ExitWatch;
use super::source::Sources;
use super::spool::Writer;
use crate::sandbox::Placeholders;

/// Between two looks at a PTY that the child has closed and might open again.
const LOOK: Duration = Duration::from_millis(250);

/// See the module.
#[derive(Debug)]
pub struct Driver {
    /// Where to report.
    pub hub: Arc<Hub>,
    /// Whom it drives.
    pub process: Arc<Process>,
    /// Its exit.
    pub exit: ExitWatch,
    /// Its outputs.
    pub sources: Sources,
    /// What it is confined by, until it has ended.
    pub sandbox: Option<Placeholders>,
    /// What tells of that in its output.
    pub denial: Option<Denial>,
    /// Who watches, if anybody does.
    pub observer: Option<Arc<dyn Observer>>,
    /// What it may use.
    pub meter: Meter,
    /// Where output goes that does not stay in memory.
    pub spool: Option<Writer>,
    /// Its place among the processes of the host.
    pub slot: OwnedSemaphorePermit,
}

impl Driver {
    /// Runs until the process has closed.
    pub async fn run(mut self) {
        let mut exited = false;
        let mut demand = self.hub.demand(&self.process.id);
        while !exited || self.sources.any_open() {
            let next_look = self.meter.next_look().filter(|_| !exited);
            tokio::select! {
                biased;
                code = self.process.leader.exit(&mut self.exit), if !exited => {
                    exited = true;
                    self.exited(code).await;
                }
                () = until(next_look), if next_look.is_some() => self.look().await,
                (stream, bytes) = std::future::poll_fn(|cx| poll_read(&mut self.sources, self.observer.as_deref(), cx)), if demand == Demand::More => {
                    let passed = self.meter.passed().is_some();
                    demand = self.output(stream, bytes).unwrap_or(demand);
                    demand = self.spill().await.unwrap_or(demand);
                    if !passed && self.meter.passed().is_some() {
                        self.kill().await;
                    }
                }
                () = self.process.room(demand), if demand != Demand::More => {
                    demand = self.hub.demand(&self.process.id);
                    demand = self.spill().await.unwrap_or(demand);
                }
                () = tokio::time::sleep(LOOK), if self.sources.any_deserted() => self.sources.look_again(),
            }
        }
        self.observe(|observer, id| observer.closed(id));
        // Before anybody hears of the end, and might want the place.
        drop(self.slot);
        self.hub.closed(&self.process.id);
        debug!(process = ?self.process.id.as_str(), "closed");
    }

    /// Passes on what may be passed on of a piece; whether more is wanted then.
    fn output(&mut self, stream: OutputStream, bytes: Bytes) -> Option<Demand> {
        let bytes = bytes.slice(..self.meter.output(bytes.len()));
        if bytes.is_empty() {
            return None;
        }
        if let Some(denial) = &mut self.denial {
            denial.output(&bytes);
        }
        self.observe(|observer, id| observer.output(id, stream, &bytes));
        Some(self.hub.output(&self.process.id, stream, bytes))
    }

    /// Writes to disk what is to go there; whether more is wanted then, if there was anything.
    async fn spill(&mut self) -> Option<Demand> {
        let mut writer = self.spool.take()?;
        let pieces = self.hub.take_for_disk(&self.process.id);
        if pieces.is_empty() {
            self.spool = Some(writer);
            return None;
        }
        let (seqs, bytes): (Vec<u64>, Vec<Bytes>) = pieces.into_iter().unzip();
        let write = move || {
            let places = writer.write(&bytes);
            (writer, places)
        };
        let (writer, places) = tokio::task::spawn_blocking(write).await.ok()?;
        self.spool = Some(writer);
        let places = places.inspect_err(|error| {
            debug!(process = ?self.process.id.as_str(), %error, "the disk takes no more output, the command may have to wait");
        });
        let places = places.ok().map(|places| seqs.into_iter().zip(places).collect());
        Some(self.hub.spilled(&self.process.id, places))
    }

    async fn look(&mut self) {
        if self.meter.look(Instant::now(), self.process.leader.counts()) {
            self.kill().await;
        }
    }

    /// The tree went beyond a limit.
    async fn kill(&self) {
        let process = self.process.clone();
        info!(process = ?process.id.as_str(), limit = ?self.meter.passed(), "a limit is passed, the process is ended");
        let _ = tokio::task::spawn_blocking(move || process.leader.kill_tree()).await;
    }

    async fn exited(&mut self, code: i32) {
        if let Some(stdin) = &self.process.stdin {
            stdin.child_is_gone();
        }
        let killed = self.meter.passed().is_some();
        self.meter.exited(code, self.process.leader.counts());
        let mut pieces = Vec::new();
        self.sources.drain(|stream, bytes| pieces.push((stream, bytes)));
        for (stream, bytes) in pieces {
            self.output(stream, bytes);
        }
        let limit = self.meter.passed();
        if limit.is_some() && !killed {
            self.kill().await;
        }
        self.process.leader.give_up_group();
        let last = !self.sources.any_open();
        self.observe(|observer, id| observer.exited(id, code, limit, last));
        // Its end was the end of all within.
        drop(self.sandbox.take());
        // Who was ended for a limit was not refused anything.
        let denied = limit.is_none() && self.denial.as_ref().is_some_and(|denial| denial.explains(code));
        self.hub.exited(&self.process.id, code, limit, denied);
        debug!(process = ?self.process.id.as_str(), code, ?limit, denied, "exited");
    }

    fn observe(&self, tell: impl FnOnce(&dyn Observer, &ProcessId)) {
        if let Some(observer) = &self.observer {
            tell(observer.as_ref(), &self.process.id);
        }
    }
}

/// The next piece, once whoever watches has room for it.
fn poll_read(
    sources: &mut Sources,
    observer: Option<&dyn Observer>,
    context: &mut Context<'_>,
) -> Poll<(OutputStream, Bytes)> {
    if let Some(observer) = observer {
        ready!(observer.poll_room(context));
    }
    sources.poll_read(context)
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}
