//! The roster behind its lock, and the wake-ups: what drivers report here reaches readers and whoever takes events.
//!
//! In flow output, exits and deliveries, out flow events and answers, and room for the drivers to read on. The lock is
//! held for moments and never across a wait. Knows no descriptor and no task.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use exedra_proto::ids::ProcessId;
use exedra_proto::limits::Limit;
use exedra_proto::process::OutputStream;
use tokio::sync::Notify;

use super::cgroup::Group;
use super::event::{Delivery, Event, EventRun};
use super::launch::Watched;
use super::ledger::Ledger;
use super::mark::{Given, Maker, Mark};
use super::output::{Demand, Log, Progress, Reading};
use super::reap::Leader;
use super::roster::{Found, Roster};
use super::signal::{self, Kin, Root};
use super::spool::Place;
use super::stdin::Stdin;
use super::strays::{self, Claim, Swept};
use crate::error::{StartError, UnknownProcess};
use crate::policy::WhenFull;

/// Between two looks for room that others have made.
const LOOK: Duration = Duration::from_millis(100);

/// One process, shared by its driver and the table.
#[derive(Debug)]
pub struct Process {
    /// Its name.
    pub id: ProcessId,
    /// The child.
    pub leader: Leader,
    /// Its standard input, if writable.
    pub stdin: Option<Stdin>,
    /// Our end of its terminal, if it has one, for as long as that is open.
    pub terminal: Option<Weak<Watched>>,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// When it was started.
    pub started: Instant,
    /// Bytes of its output that were dropped.
    dropped: AtomicU64,
    /// Tells long polls of an event.
    changed: Notify,
    /// Tells the driver that it may read on.
    room: Notify,
}

/// See the module.
#[derive(Debug)]
pub struct Hub {
    roster: Mutex<Roster<Arc<Process>>>,
    events: Notify,
    exits: Notify,
    /// The time of the next purge may be another.
    untidy: Notify,
    /// Forgotten processes that left a process group behind.
    left_behind: Mutex<Vec<Root>>,
    /// Their control groups, as long as something lives in them.
    left_groups: Mutex<Vec<Group>>,
    /// Their claims on what they may have left without a mark.
    left_claims: Mutex<Vec<Claim>>,
    /// What all processes and their descendants carry.
    marks: Mutex<Given>,
}

impl Process {
    /// A process that runs.
    pub fn new(
        id: ProcessId,
        argv: Vec<String>,
        leader: Leader,
        stdin: Option<Stdin>,
        terminal: Option<Weak<Watched>>,
    ) -> Self {
        Self {
            id,
            leader,
            stdin,
            terminal,
            argv,
            started: Instant::now(),
            dropped: AtomicU64::new(0),
            changed: Notify::new(),
            room: Notify::new(),
        }
    }

    /// Waits until it is worth asking again, after a `demand` that was not for more. Others that make room say so to
    /// nobody: it is looked for.
    pub async fn room(&self, demand: Demand) {
        match demand {
            Demand::Short => _ = tokio::time::timeout(LOOK, self.room.notified()).await,
            Demand::More | Demand::Full => self.room.notified().await,
        }
    }
}

impl Hub {
    /// An empty one.
    pub fn new(retention: Duration, ledger: Arc<Ledger>, when_full: WhenFull, maker: Option<Maker>) -> Self {
        Self::over(Roster::new(retention, ledger, when_full), maker)
    }

    /// The same, with a disk for output that does not stay in memory.
    pub fn spilling(retention: Duration, ledger: Arc<Ledger>, when_full: WhenFull, maker: Option<Maker>) -> Self {
        Self::over(Roster::new(retention, ledger, when_full).spilling(), maker)
    }

    fn over(roster: Roster<Arc<Process>>, maker: Option<Maker>) -> Self {
        Self {
            marks: Mutex::new(Given::new(maker)),
            roster: Mutex::new(roster),
            events: Notify::new(),
            exits: Notify::new(),
            untidy: Notify::new(),
            left_behind: Mutex::new(Vec::new()),
            left_groups: Mutex::new(Vec::new()),
            left_claims: Mutex::new(Vec::new()),
        }
    }

    /// Takes an id for a process to be started, with the arguments that are kept of it; dropping the reservation gives it
    /// back.
    ///
    /// # Errors
    /// It is taken, or nothing may start any more.
    pub fn reserve(self: &Arc<Self>, id: &ProcessId, argv: &[String]) -> Result<Reservation, StartError> {
        self.roster().reserve(id, argv.iter().map(String::len).sum())?;
        Ok(Reservation { hub: self.clone(), id: id.clone() })
    }

    /// What `id` stands for.
    pub fn find(&self, id: &ProcessId) -> Found<Arc<Process>> {
        self.roster().find(id)
    }

    /// What `id` stands for, to end it: a start is cancelled, an exited process is unknown.
    pub fn find_to_end(&self, id: &ProcessId) -> Found<Arc<Process>> {
        let mut roster = self.roster();
        roster.cancel(id);
        if roster.has_exited(id) { Found::Unknown } else { roster.find(id) }
    }

    /// All processes with how far each has come, in order of their start.
    pub fn list(&self) -> Vec<(Arc<Process>, Progress)> {
        let mut all = self.roster().progress();
        all.sort_by_key(|(process, _)| process.started);
        all
    }

    /// Appends output; whether more is wanted.
    pub fn output(&self, id: &ProcessId, stream: OutputStream, bytes: Bytes) -> Demand {
        self.append(id, |log| log.output(stream, bytes))
    }

    /// Appends the exit, and whether it looks like the doing of a sandbox.
    pub fn exited(&self, id: &ProcessId, code: i32, limit: Option<Limit>, denied: bool) {
        self.append(id, |log| {
            if denied {
                log.denied();
            }
            log.exited(code, limit);
        });
        self.exits.notify_waiters();
    }

    /// Appends the end.
    pub fn closed(&self, id: &ProcessId) {
        let changed = self.roster().close(id);
        if let Some(changed) = changed {
            let dropped = changed.handle.dropped.load(Ordering::Relaxed);
            if dropped > 0 {
                tracing::warn!(process = ?id.as_str(), bytes = dropped, "output was dropped");
            }
            changed.handle.changed.notify_waiters();
            if changed.pending {
                self.events.notify_one();
            }
        }
        self.tidy();
    }

    /// Whether more output of `id` is wanted.
    pub fn demand(&self, id: &ProcessId) -> Demand {
        self.roster().change(id, |_| ()).map_or(Demand::Full, |changed| changed.demand)
    }

    /// Answers a read, waiting until `deadline` for something to answer with.
    ///
    /// # Errors
    /// There is no such process.
    pub async fn read(
        &self,
        id: &ProcessId,
        after: u64,
        max_bytes: Option<usize>,
        deadline: Instant,
    ) -> Result<Reading, UnknownProcess> {
        let Found::Live(process) = self.find(id) else { return Err(UnknownProcess(id.clone())) };
        loop {
            // Made before the look, it hears of whatever happens after.
            let changed = process.changed.notified();
            let reading = self.read_now(id, after, max_bytes)?;
            if reading.is_news || Instant::now() >= deadline {
                return Ok(reading);
            }
            let _ = tokio::time::timeout_at(deadline.into(), changed).await;
        }
    }

    /// From now on events are to be notified, and count as delivered as `how` says.
    pub fn attach(&self, how: Delivery) {
        self.roster().attach(how);
        self.events.notify_one();
        self.tidy();
        self.wake_drivers();
    }

    /// From now on events are only kept.
    pub fn detach(&self) {
        self.roster().detach();
        self.wake_drivers();
    }

    /// Waits for events to notify and takes them.
    pub async fn next_events(&self, max_bytes: usize) -> Vec<Event> {
        loop {
            let events = self.roster().take(max_bytes);
            if !events.is_empty() {
                return events;
            }
            if !self.recall().await {
                self.events.notified().await;
            }
        }
    }

    /// Brings back from disk what events wait for; false if none does.
    async fn recall(&self) -> bool {
        let Some((id, places)) = self.roster().to_recall() else { return false };
        let read = move || places.into_iter().map(|(seq, place)| (seq, place.read())).collect::<Vec<_>>();
        // A pool that is shut down has nobody left to bring it to.
        let Ok(pieces) = tokio::task::spawn_blocking(read).await else { return false };
        self.roster().change(&id, |log| {
            for (seq, piece) in pieces {
                if let Err(error) = &piece {
                    tracing::error!(process = ?id.as_str(), %error, "output cannot be read back from disk");
                }
                log.recalled(seq, piece.ok());
            }
        });
        true
    }

    /// Pieces of `id` that are to be written to disk now.
    pub fn take_for_disk(&self, id: &ProcessId) -> Vec<(u64, Bytes)> {
        self.roster().change(id, Log::take_for_disk).map_or_else(Vec::new, |changed| changed.value)
    }

    /// They were written to these places, or not; whether more output is wanted then.
    pub fn spilled(&self, id: &ProcessId, places: Option<Vec<(u64, Place)>>) -> Demand {
        self.append(id, |log| match places {
            Some(places) => log.spilled(places),
            None => log.not_spilled(),
        })
    }

    /// These were handed to a peer, or read by it.
    pub fn delivered(&self, runs: &[EventRun]) {
        let mut settled = false;
        let mut roster = self.roster();
        for run in runs {
            let delivered = |log: &mut Log| (run.first..=run.last).for_each(|seq| log.delivered(seq));
            let Some(changed) = roster.change(&run.process, delivered) else { continue };
            settled |= changed.settled;
            if changed.demand == Demand::More {
                changed.handle.room.notify_one();
            }
        }
        drop(roster);
        if settled {
            self.tidy();
        }
    }

    /// The peer has every event of a process up to `seq`.
    pub fn acknowledge(&self, id: &ProcessId, seq: u64) {
        let Some(changed) = self.roster().change(id, |log| log.acknowledge(seq)) else { return };
        if changed.pending {
            self.events.notify_one();
        }
        if changed.demand == Demand::More {
            changed.handle.room.notify_one();
        }
        if changed.settled {
            self.tidy();
        }
    }

    /// Forgets those whose time is over, for ever.
    pub async fn keep_house(&self) {
        loop {
            self.purge();
            let next = self.roster().next_purge();
            match next {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => self.untidy.notified().await,
            }
        }
    }

    /// Nothing starts any more.
    pub fn shut_down(&self) {
        self.roster().shut_down();
    }

    /// Kills all that is or was ours. Blocks.
    pub fn kill_all(&self) {
        self.roster().handles().iter().for_each(|process| process.leader.kill_members());
        self.left_groups().iter().for_each(Group::kill);
        signal::kill_trees(|| self.kin());
    }

    /// All that is or was ours has been ended: what is left without a mark is killed, as far as nobody else can have left
    /// it. Blocks.
    pub fn sweep(&self) -> Swept {
        self.roster().handles().iter().for_each(|process| process.leader.give_up_claim());
        self.left_claims().clear();
        strays::sweep()
    }

    /// What the next process is to carry.
    pub fn mark(&self) -> Option<Mark> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner).give()
    }

    /// Every child of ours that may have left something: all that are known, and the forgotten that did; and what all
    /// that were ever ours carry.
    pub fn kin(&self) -> Kin {
        let mut roots = self.roots();
        roots.extend(self.left_behind().iter());
        Kin { roots, marks: self.marks.lock().unwrap_or_else(PoisonError::into_inner).clone() }
    }

    /// Every child of ours that is known.
    pub fn roots(&self) -> Vec<Root> {
        self.roster().handles().iter().map(|process| process.leader.root()).collect()
    }

    /// Waits until every child has been reaped.
    pub async fn all_reaped(&self) {
        loop {
            let exits = self.exits.notified();
            if self.roster().handles().iter().all(|process| process.leader.root().reaped) {
                return;
            }
            exits.await;
        }
    }

    fn read_now(&self, id: &ProcessId, after: u64, max_bytes: Option<usize>) -> Result<Reading, UnknownProcess> {
        let changed = self.roster().change(id, |log| log.read(after, max_bytes));
        let changed = changed.ok_or_else(|| UnknownProcess(id.clone()))?;
        if changed.pending {
            self.events.notify_one();
        }
        if changed.demand == Demand::More {
            changed.handle.room.notify_one();
        }
        if changed.settled {
            self.tidy();
        }
        Ok(changed.value)
    }

    fn append(&self, id: &ProcessId, append: impl FnOnce(&mut Log)) -> Demand {
        let Some(changed) = self.roster().change(id, append) else { return Demand::Full };
        if changed.dropped > 0 && changed.handle.dropped.fetch_add(changed.dropped, Ordering::Relaxed) == 0 {
            tracing::warn!(process = ?id.as_str(), "there is no room for more output: the oldest is dropped");
        }
        changed.handle.changed.notify_waiters();
        if changed.pending {
            self.events.notify_one();
        }
        changed.demand
    }

    fn wake_drivers(&self) {
        for process in self.roster().handles() {
            process.room.notify_one();
        }
    }

    fn tidy(&self) {
        self.purge();
        self.untidy.notify_one();
    }

    fn purge(&self) {
        let forgotten = self.roster().purge(Instant::now());
        if forgotten.is_empty() {
            return;
        }
        let mut left_behind = self.left_behind();
        left_behind.extend(forgotten.iter().map(|process| process.leader.root()));
        left_behind.retain(|root| signal::group_exists(root.pid));
        let mut left_groups = self.left_groups();
        left_groups.extend(forgotten.iter().filter_map(|process| process.leader.take_group()));
        left_groups.retain(Group::is_populated);
        let mut left_claims = self.left_claims();
        left_claims.extend(forgotten.iter().filter_map(|process| process.leader.take_claim()));
        left_claims.retain(Claim::is_open);
    }

    fn roster(&self) -> MutexGuard<'_, Roster<Arc<Process>>> {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn left_groups(&self) -> MutexGuard<'_, Vec<Group>> {
        self.left_groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn left_claims(&self) -> MutexGuard<'_, Vec<Claim>> {
        self.left_claims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn left_behind(&self) -> MutexGuard<'_, Vec<Root>> {
        self.left_behind.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An id taken for a process that is being started.
#[derive(Debug)]
pub struct Reservation {
    hub: Arc<Hub>,
    id: ProcessId,
}

impl Reservation {
    /// The process runs.
    ///
    /// # Errors
    /// It must not run on: it was terminated meanwhile, or all are.
    pub fn admit(self, process: Arc<Process>) -> Result<(), StartError> {
        self.hub.roster().admit(&self.id, process)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.hub.roster().release(&self.id);
    }
}
