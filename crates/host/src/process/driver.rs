//! The driver of one process: reads its output as long as it is wanted, takes its exit, and reports the end.
//!
//! In flow readiness of pipes or PTY and of the child, out flow pieces of output, the exit and the close, in that order:
//! what had been written when the child was reaped comes before the exit. Knows no peer and no descriptor.

use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use exedra_proto::ids::ProcessId;
use exedra_proto::process::OutputStream;
use tracing::debug;

use super::hub::{Hub, Process};
use super::observer::Observer;
use super::output::Demand;
use super::reap::ExitWatch;
use super::source::Sources;

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
    /// Who watches, if anybody does.
    pub observer: Option<Arc<dyn Observer>>,
}

impl Driver {
    /// Runs until the process has closed.
    pub async fn run(mut self) {
        let mut exited = false;
        let mut demand = self.hub.demand(&self.process.id);
        while !exited || self.sources.any_open() {
            tokio::select! {
                biased;
                code = self.process.leader.exit(&mut self.exit), if !exited => {
                    exited = true;
                    self.exited(code);
                }
                (stream, bytes) = std::future::poll_fn(|cx| poll_read(&mut self.sources, self.observer.as_deref(), cx)), if demand == Demand::More => {
                    if !bytes.is_empty() {
                        self.observe(|observer, id| observer.output(id, stream, &bytes));
                        demand = self.hub.output(&self.process.id, stream, bytes);
                    }
                }
                () = self.process.room(demand), if demand != Demand::More => {
                    demand = self.hub.demand(&self.process.id);
                }
                () = tokio::time::sleep(LOOK), if self.sources.any_deserted() => self.sources.look_again(),
            }
        }
        self.observe(|observer, id| observer.closed(id));
        self.hub.closed(&self.process.id);
        debug!(process = %self.process.id, "closed");
    }

    fn exited(&mut self, code: i32) {
        if let Some(stdin) = &self.process.stdin {
            stdin.child_is_gone();
        }
        let (hub, id, observer) = (&self.hub, &self.process.id, self.observer.as_deref());
        self.sources.drain(|stream, bytes| {
            if let Some(observer) = observer {
                observer.output(id, stream, &bytes);
            }
            hub.output(id, stream, bytes);
        });
        let last = !self.sources.any_open();
        self.observe(|observer, id| observer.exited(id, code, last));
        self.hub.exited(&self.process.id, code);
        debug!(process = %self.process.id, code, "exited");
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
