//! The processes of one owner: the calls, and the tasks behind them.
//!
//! In flow the params of `process/*`, word of attachment and delivery; out flow results and events. Every task belongs to
//! the table: dropping it kills all processes, [`Table::shutdown`] ends them with grace first.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use exedra_proto::base64::Base64Text;
use exedra_proto::dialect::NextSeq;
use exedra_proto::ids::ProcessId;
use exedra_proto::process::{
    ListedProcess, OutputStream, ReadChunk, ReadParams, ReadResult, ResizeStatus, SandboxType, StartParams,
    TerminalSize, WriteStatus,
};
use rustix::process::Signal;
use tokio::task::JoinSet;
use tracing::{debug, info, warn};

use super::denial::Denial;
use super::driver::Driver;
use super::event::{Delivery, Event, EventRun};
use super::host::Host;
use super::hub::{Hub, Process};
use super::observer::Observer;
use super::output::{Body, Progress, Reading};
use super::quota::Quota;
use super::roster::Found;
use super::signal::Kin;
use super::source::Sources;
use super::spawn::{self, Spawned};
use super::spool::Spool;
use super::stdin::Stdin;
use super::strays::Swept;
use super::{pty, signal, stdin};
use crate::encoding;
use crate::error::{StartError, UnknownProcess, WriteFailed};

/// The longest that a read waits, whatever it asks for.
const LONGEST_POLL: Duration = Duration::from_secs(24 * 60 * 60);
/// How long shutting down waits for exits after it has killed everything.
const LAST_WAIT: Duration = Duration::from_secs(2);
/// Between two looks for descendants that outlived their root.
const LOOK: Duration = Duration::from_millis(20);

/// Bytes of the arguments of one process that are kept for lists; what is beyond is cut off.
const ARGV_KEPT: usize = 16 * 1024;

/// Bounds of a [`Table`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// How long a closed process, and with it its id, stays known after somebody was given all of it, the end included;
    /// time when nobody is attached does not count. One that nobody was given all of stays.
    pub retention: Duration,
}

/// Output that a read found, not yet made an answer: it takes no memory of its own.
#[derive(Debug)]
pub struct Retained(Reading);

impl Default for Limits {
    fn default() -> Self {
        Self { retention: Duration::from_secs(80) }
    }
}

/// The processes of one owner. Dropping it kills them all, without grace.
pub struct Table {
    host: Arc<Host>,
    hub: Arc<Hub>,
    tasks: Mutex<Tasks>,
    observer: Option<Arc<dyn Observer>>,
}

#[derive(Default)]
struct Tasks {
    set: JoinSet<()>,
    /// Something was started and not yet shut down.
    busy: bool,
}

impl Table {
    /// An empty table, detached.
    pub fn new(host: Arc<Host>, limits: Limits) -> Self {
        let make = if host.spool().is_some() { Hub::spilling } else { Hub::new };
        let hub = Arc::new(make(limits.retention, host.ledger().clone(), host.when_full(), host.maker()));
        Self { host, hub, tasks: Mutex::default(), observer: None }
    }

    /// With somebody who watches all that is started from now on.
    #[must_use]
    pub fn observed_by(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Starts a process, and says what confines it. If the future is dropped before it is done, the process does not run on.
    ///
    /// # Errors
    /// Why it did not start.
    pub async fn start(&self, params: StartParams) -> Result<SandboxType, StartError> {
        spawn::check(&params)?;
        let argv = kept(&params.argv);
        let reservation = self.hub.reserve(&params.process_id, &argv)?;
        let slot = self.host.slot()?;
        let policy = self.host.policy();
        let quota = Quota::new(&policy.limits, params.limits.as_ref());
        let spawned = spawn::spawn(&self.host, &params, (&policy, &quota), self.hub.mark()).await?;
        let Spawned { leader, exit, stdin, sources, terminal, sandbox } = spawned;
        let meter = quota.meter(Instant::now());
        let (stdin, queue) = stdin.map(Stdin::new).unzip();
        let process = Arc::new(Process::new(params.process_id, argv, leader, stdin, terminal));
        let mut tasks = self.tasks();
        reservation.admit(process.clone())?;
        debug!(process = ?process.id.as_str(), "started");
        while tasks.set.try_join_next().is_some() {}
        if !std::mem::replace(&mut tasks.busy, true) {
            let hub = self.hub.clone();
            tasks.set.spawn(async move { hub.keep_house().await });
        }
        let kind = if sandbox.is_some() { SandboxType::LinuxSeccomp } else { SandboxType::None };
        let denial = sandbox.is_some().then(Denial::default);
        let (sources, observer) = (Sources::new(sources), self.observer.clone());
        let spool = self.host.spool().map(Spool::writer);
        let hub = self.hub.clone();
        tasks.set.spawn(Driver { hub, process, exit, sources, sandbox, denial, observer, meter, spool, slot }.run());
        if let Some(queue) = queue {
            tasks.set.spawn(stdin::Queue::run(queue));
        }
        Ok(kind)
    }

    /// Reads retained output, waiting for some if asked to. What it asks to come after counts as delivered, what it
    /// returns does not yet.
    ///
    /// # Errors
    /// There is no such process.
    pub async fn read(&self, params: ReadParams, next_seq: NextSeq) -> Result<ReadResult, UnknownProcess> {
        Ok(self.look(params, next_seq).await?.encode().await)
    }

    /// As [`Self::read`], and leaves it to the caller when room is taken for the answer.
    ///
    /// # Errors
    /// There is no such process.
    pub async fn look(&self, params: ReadParams, next_seq: NextSeq) -> Result<Retained, UnknownProcess> {
        let wait = Duration::from_millis(params.wait_ms.unwrap_or(0)).min(LONGEST_POLL);
        let after = params.after_seq.unwrap_or(0);
        let mut reading = self.hub.read(&params.process_id, after, params.max_bytes, Instant::now() + wait).await?;
        if next_seq == NextSeq::NextEvent && params.max_bytes.is_none() {
            reading.next_seq = reading.next_event;
        }
        Ok(Retained(reading))
    }

    /// Queues `bytes` for stdin; waits only while the queue is full. Writes take their turn in the order in which they
    /// were first polled. One whose id was accepted before is accepted again and not delivered again.
    ///
    /// # Errors
    /// The child is gone, or has closed its stdin.
    pub async fn write(
        &self,
        process: &ProcessId,
        bytes: Bytes,
        write_id: Option<String>,
    ) -> Result<WriteStatus, WriteFailed> {
        match self.hub.find(process) {
            Found::Unknown => Ok(WriteStatus::UnknownProcess),
            Found::Starting => Ok(WriteStatus::Starting),
            Found::Live(process) => match &process.stdin {
                Some(stdin) => stdin.write(bytes, write_id.as_deref()).await,
                None => Ok(WriteStatus::StdinClosed),
            },
        }
    }

    /// Ends stdin after what is queued. A pipe is closed. On a PTY the end-of-file character is typed, twice on a begun
    /// line, if the program reads lines; if it reads raw, nothing is typed, since it has no end of file. Later writes
    /// are answered `stdinClosed`.
    pub async fn close_stdin(&self, process: &ProcessId) -> WriteStatus {
        match self.hub.find(process) {
            Found::Unknown => WriteStatus::UnknownProcess,
            Found::Starting => WriteStatus::Starting,
            Found::Live(process) => match &process.stdin {
                Some(stdin) => stdin.close().await,
                None => WriteStatus::StdinClosed,
            },
        }
    }

    /// Gives the terminal of a process another size; the programs on it are told.
    pub fn resize(&self, process: &ProcessId, size: TerminalSize) -> ResizeStatus {
        let process = match self.hub.find(process) {
            Found::Unknown => return ResizeStatus::UnknownProcess,
            Found::Starting => return ResizeStatus::Starting,
            Found::Live(process) => process,
        };
        let terminal = process.terminal.as_ref().and_then(Weak::upgrade);
        let resized = terminal.is_some_and(|terminal| pty::resize(terminal.get_ref(), size).is_ok());
        if resized { ResizeStatus::Resized } else { ResizeStatus::NoTerminal }
    }

    /// All processes that are running or still known, in order of their start.
    pub fn list(&self) -> Vec<ListedProcess> {
        let listed = |(process, progress): (Arc<Process>, Progress)| ListedProcess {
            process_id: process.id.clone(),
            pid: process.leader.root().pid.cast_unsigned(),
            argv: process.argv.clone(),
            tty: process.terminal.is_some(),
            age_ms: u64::try_from(process.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            last_seq: progress.last_seq,
            exit_code: progress.exit_code,
            closed: progress.closed,
        };
        self.hub.list().into_iter().map(listed).collect()
    }

    /// Kills a process and its descendants; false and nothing else if it is unknown or has exited. Its exit follows as
    /// an event. Must be called within a runtime.
    pub fn terminate(&self, process: &ProcessId) -> bool {
        match self.hub.find_to_end(process) {
            Found::Unknown => false,
            Found::Starting => true,
            Found::Live(process) => {
                self.tasks().set.spawn_blocking(move || {
                    process.leader.kill_tree();
                    // Not before: a child that sees the end of its input ends well, and was not killed.
                    if let Some(stdin) = &process.stdin {
                        stdin.child_is_gone();
                    }
                });
                true
            }
        }
    }

    /// Sends SIGINT to the process group of a process that runs; nothing if there is none.
    pub fn interrupt(&self, process: &ProcessId) {
        if let Found::Live(process) = self.hub.find(process) {
            process.leader.interrupt_group();
        }
    }

    /// From now on events are for [`Self::next_events`], and count as delivered as `how` says.
    pub fn attach(&self, how: Delivery) {
        self.hub.attach(how);
    }

    /// From now on output is kept, for [`Self::read`] and for whoever attaches to acknowledge it.
    pub fn detach(&self) {
        self.hub.detach();
    }

    /// Waits for at least one event and takes what there is, up to about `max_bytes` of output, in turns over the
    /// processes, in order of seq per process. Nothing is lost if the future is dropped. Pends while detached.
    pub async fn next_events(&self, max_bytes: usize) -> Vec<Event> {
        self.hub.next_events(max_bytes).await
    }

    /// These were handed to a socket, or read at its other end, as was said when it attached: they may be evicted, and the
    /// command may go on. Says nothing where delivery is acknowledged.
    pub fn delivered(&self, events: &[EventRun]) {
        self.hub.delivered(events);
    }

    /// Whoever is attached has every event of `process` up to `seq`, the exit and the end like any other. Until then
    /// they are kept, and about 1 MiB of output is handed out ahead of it.
    pub fn acknowledge(&self, process: &ProcessId, seq: u64) {
        self.hub.acknowledge(process, seq);
    }

    /// Whether any child has not been reaped yet.
    pub fn has_live(&self) -> bool {
        self.hub.roots().iter().any(|root| !root.reaped)
    }

    /// Ends all: SIGTERM to each tree, at most `grace` for it, then SIGKILL, also for what exited processes left behind.
    /// Nothing starts afterwards.
    pub async fn shutdown(&self, grace: Duration) {
        self.hub.shut_down();
        if self.tasks().busy {
            let began = Instant::now();
            self.on_kin(|kin| signal::signal_trees(kin, Signal::TERM)).await;
            let clean = tokio::time::timeout(grace, self.all_gone()).await.is_ok();
            if !clean {
                self.kill_all().await;
                let _ = tokio::time::timeout(LAST_WAIT, self.hub.all_reaped()).await;
            }
            let hub = self.hub.clone();
            let Swept { killed, left } = tokio::task::spawn_blocking(move || hub.sweep()).await.unwrap_or_default();
            let clean = clean && killed == 0;
            info!(clean, strays = killed, took = ?began.elapsed(), "processes ended");
            if left > 0 {
                warn!(left, "there are orphans without a mark that somebody else may have left: they go on");
            }
        }
        let mut set = {
            let mut tasks = self.tasks();
            tasks.busy = false;
            std::mem::take(&mut tasks.set)
        };
        set.shutdown().await;
    }

    async fn all_gone(&self) {
        self.hub.all_reaped().await;
        while self.on_kin(|kin| signal::any_alive(kin)).await {
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn kill_all(&self) {
        let hub = self.hub.clone();
        let _ = tokio::task::spawn_blocking(move || hub.kill_all()).await;
    }

    async fn on_kin<R: Send + 'static + Default>(&self, act: impl FnOnce(&dyn Fn() -> Kin) -> R + Send + 'static) -> R {
        let hub = self.hub.clone();
        tokio::task::spawn_blocking(move || act(&|| hub.kin())).await.unwrap_or_default()
    }

    fn tasks(&self) -> MutexGuard<'_, Tasks> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        self.hub.shut_down();
        let tasks = self.tasks.get_mut().unwrap_or_else(PoisonError::into_inner);
        if tasks.busy {
            self.hub.kill_all();
            self.hub.sweep();
        }
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").finish_non_exhaustive()
    }
}

impl Retained {
    /// Bytes of output in it.
    pub fn output_len(&self) -> usize {
        self.0.output_len()
    }

    /// The answer, which takes a third more than that.
    pub async fn encode(self) -> ReadResult {
        // What is on disk is not read on a worker, however little it is.
        let size = if self.0.is_on_disk() { usize::MAX } else { self.output_len() };
        encoding::run(size, move || result(&self.0)).await
    }
}

/// The arguments as far as they are kept.
fn kept(argv: &[String]) -> Vec<String> {
    let mut room = ARGV_KEPT;
    let mut kept = Vec::new();
    for argument in argv {
        let Some(left) = room.checked_sub(argument.len()) else {
            let cut = &argument[..argument.floor_char_boundary(room)];
            kept.push(format!("{cut}…"));
            break;
        };
        room = left;
        kept.push(argument.clone());
    }
    kept
}

fn result(reading: &Reading) -> ReadResult {
    let mut lost = 0;
    let mut chunk = |(seq, stream, body): &(u64, OutputStream, Body)| {
        let bytes = body.load().unwrap_or_else(|error| {
            tracing::error!(seq, %error, "output cannot be read back from disk");
            lost += body.len() as u64;
            Bytes::new()
        });
        ReadChunk { seq: *seq, stream: *stream, chunk: Base64Text::encode(&bytes) }
    };
    let chunks = reading.chunks.iter().map(&mut chunk).collect();
    ReadResult {
        chunks,
        next_seq: reading.next_seq,
        exited: reading.exit_code.is_some(),
        exit_code: reading.exit_code,
        closed: reading.closed,
        dropped_bytes: reading.dropped + lost,
        failure: None,
        limit: reading.limit,
        sandbox_denied: reading.denied,
    }
}
