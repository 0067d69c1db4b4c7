//! The exit of a child: learning of it, taking it, and never signalling a number that is no longer ours.
//!
//! In flows a child that was started, out flow its exit code and whether it has been reaped. A child whose [`Leader`] is
//! dropped is killed and handed to the undertaker, so that no zombie stays. Knows no output and no table.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::Interest;
use tokio::sync::oneshot;

use super::cgroup::Group;
use super::launch::Watched;
use super::mark::{Given, Mark};
use super::quota::Counts;
use super::signal::{self, Kin, Root};
use super::spawner::Spawner;
use super::strays::{self, Claim, Swept};
use super::wait;

/// Between two looks at a child that has ended and cannot be reaped yet, as under a debugger.
const LOOK: Duration = Duration::from_millis(10);

/// A child, for signals and for the one reaping.
#[derive(Debug)]
pub struct Leader {
    pid: i32,
    mark: Option<Mark>,
    /// None once nothing is left in it.
    group: Mutex<Option<Group>>,
    /// On what it may have left without a mark; none once another has it.
    claim: Mutex<Option<Claim>>,
    reaped: Mutex<bool>,
    spawner: Spawner,
}

/// Tells when a child can be reaped.
#[derive(Debug)]
pub enum ExitWatch {
    /// Readable once it has ended.
    PidFd(Watched),
    /// A thread waits for it, where there are no such descriptors.
    Thread(oneshot::Receiver<()>),
    /// It has ended.
    Over,
}

impl Leader {
    /// Takes charge of a child.
    pub fn new(pid: i32, mark: Option<Mark>, group: Group, spawner: Spawner) -> Self {
        spawner.undertaker().started();
        let claim = Mutex::new(Some(Claim::open(pid, mark)));
        Self { pid, mark, group: Mutex::new(Some(group)), claim, reaped: Mutex::new(false), spawner }
    }

    /// As the root of its tree.
    pub fn root(&self) -> Root {
        Root { pid: self.pid, reaped: *self.lock() }
    }

    /// Kills it and all that descends from it, strays as far as nobody else can have left them. Blocks.
    pub fn kill_tree(&self) {
        self.kill_members();
        signal::kill_trees(|| Kin { roots: vec![self.root()], marks: Given::only(self.mark) });
        self.kill_group();
        self.give_up_claim();
        let Swept { killed, left } = strays::sweep();
        if killed + left > 0 {
            tracing::info!(killed, left, "there were orphans without a mark");
        }
    }

    /// All that descends from it has been ended.
    pub fn give_up_claim(&self) {
        self.claim().take();
    }

    /// The claim on what it may have left, if it may have left anything.
    pub fn take_claim(&self) -> Option<Claim> {
        self.claim().take().filter(Claim::is_open)
    }

    /// Kills what is in its control group.
    pub fn kill_members(&self) {
        if let Some(group) = &*self.group() {
            group.kill();
        }
    }

    /// What its control group counts.
    pub fn counts(&self) -> Counts {
        let group = self.group();
        group.as_ref().map_or_else(Counts::default, |group| Counts {
            cpu_time: group.cpu_time(),
            out_of_memory: group.ran_out_of_memory(),
            out_of_processes: group.ran_out_of_processes(),
        })
    }

    /// Gives the control group up if nothing lives in it any more; else it can be taken.
    pub fn give_up_group(&self) {
        let empty = self.group().take_if(|group| !group.is_populated());
        drop(empty);
    }

    /// What is left of the control group.
    pub fn take_group(&self) -> Option<Group> {
        self.give_up_group();
        self.group().take()
    }

    /// Kills its process group unless it has been reaped.
    pub fn kill_group(&self) {
        let reaped = self.lock();
        if !*reaped {
            signal::kill_group(self.pid);
        }
    }

    /// Interrupts its process group unless it has been reaped.
    pub fn interrupt_group(&self) {
        let reaped = self.lock();
        if !*reaped {
            signal::interrupt_group(self.pid);
        }
    }

    /// Waits for its end and reaps it: 0 to 255, or 128 + n after signal n. Can be dropped and called again.
    pub async fn exit(&self, watch: &mut ExitWatch) -> i32 {
        watch.ended().await;
        loop {
            if let Some(code) = self.reap() {
                return code;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn reap(&self) -> Option<i32> {
        let mut reaped = self.lock();
        let claim = self.claim();
        claim.iter().for_each(Claim::exited);
        let code = wait::reap(self.pid)?;
        *reaped = true;
        claim.iter().for_each(Claim::reaped);
        drop(claim);
        self.spawner.undertaker().ended();
        Some(code)
    }

    fn group(&self) -> MutexGuard<'_, Option<Group>> {
        self.group.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn claim(&self) -> MutexGuard<'_, Option<Claim>> {
        self.claim.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.reaped.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        if !self.root().reaped {
            self.kill_group();
            self.spawner.undertaker().ended();
            self.spawner.undertaker().bury(self.pid);
        }
    }
}

impl ExitWatch {
    /// Watches `pid` through its descriptor, or by a thread.
    ///
    /// # Errors
    /// The system refuses the registration or the thread.
    pub fn new(pid: i32, pidfd: Option<OwnedFd>) -> io::Result<Self> {
        if let Some(pidfd) = pidfd {
            return Ok(Self::PidFd(Watched::new(pidfd, Interest::READABLE)?));
        }
        let (tell, told) = oneshot::channel();
        std::thread::Builder::new().name("exit-watch".into()).stack_size(128 * 1024).spawn(move || {
            wait::ended(pid);
            let _ = tell.send(());
        })?;
        Ok(Self::Thread(told))
    }

    async fn ended(&mut self) {
        match self {
            Self::PidFd(pidfd) => {
                let _ = pidfd.readable().await;
            }
            Self::Thread(told) => {
                let _ = told.await;
            }
            Self::Over => {}
        }
        *self = Self::Over;
    }
}
