//! Reaps what nobody waits for: killed children whose owner is gone, and orphans. An orphan descends from a child of ours
//! and is handed to us by the system when its parent ends, so that no zombie stays whatever the first process does.
//!
//! In flow numbers of children to bury, and word of starts and exits; out flows nothing. One thread, asleep while no
//! process runs. Only what carries a mark of ours, or is in a session that is not ours, is taken for an orphan: the children
//! of whoever else starts some in this process are left alone, and so are our own, which belong to the threads that
//! started them. Knows no table.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};
use std::{io, thread};

use rustix::process::{getpid, set_child_subreaper};
use tracing::debug;

use super::census;
use super::mark::Maker;
use super::strays;
use super::wait::reap;

/// How often to look whether somebody who was killed has ended: a matter of moments.
const SOON: Duration = Duration::from_millis(10);
/// How often to look for orphans that have ended, while there may be some.
const LATER: Duration = Duration::from_millis(500);
/// How long to wait for the killed after the last handle is gone.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// A handle to the thread. Its queue has no bound of its own: there is one number per child at most.
#[derive(Clone, Debug)]
pub struct Undertaker {
    orders: Sender<Order>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Children that run.
    living: AtomicUsize,
    /// Whether the thread looks for orphans now.
    awake: AtomicBool,
}

enum Order {
    Bury(i32),
    Wake,
}

struct Thread {
    orders: Receiver<Order>,
    shared: Arc<Shared>,
    /// Whose orphans come to us.
    maker: Option<Maker>,
    graves: Vec<i32>,
}

impl Undertaker {
    /// Makes the thread, and this process the one to which orphans come, if they can be told by `maker`.
    ///
    /// # Errors
    /// The system refuses the thread.
    pub fn start(maker: Option<Maker>) -> io::Result<Self> {
        let maker = maker.filter(|_| strays::adopted().is_ok() && set_child_subreaper(Some(getpid())).is_ok());
        if maker.is_some() {
            strays::begin();
        }
        let (orders, received) = channel();
        let shared = Arc::new(Shared::default());
        let mut work = Thread { orders: received, shared: shared.clone(), maker, graves: Vec::new() };
        thread::Builder::new().name("undertaker".into()).stack_size(128 * 1024).spawn(move || work.run())?;
        Ok(Self { orders, shared })
    }

    /// A child runs.
    pub fn started(&self) {
        self.shared.living.fetch_add(1, Ordering::SeqCst);
        if !self.shared.awake.swap(true, Ordering::SeqCst) {
            let _ = self.orders.send(Order::Wake);
        }
    }

    /// A child that ran has been reaped.
    pub fn ended(&self) {
        self.shared.living.fetch_sub(1, Ordering::SeqCst);
    }

    /// Reaps a child that has been killed and that nobody waits for.
    pub fn bury(&self, pid: i32) {
        let _ = self.orders.send(Order::Bury(pid));
    }
}

impl Thread {
    fn run(&mut self) {
        loop {
            match self.next() {
                Ok(Order::Bury(pid)) => self.graves.push(pid),
                Ok(Order::Wake) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.look();
        }
        let deadline = Instant::now() + LAST_WAIT;
        while !self.graves.is_empty() && Instant::now() < deadline {
            thread::sleep(SOON);
            self.look();
        }
        debug!(unreaped = self.graves.len(), "the thread that reaps the forgotten ends");
    }

    fn next(&self) -> Result<Order, RecvTimeoutError> {
        if !self.graves.is_empty() {
            self.orders.recv_timeout(SOON)
        } else if self.shared.awake.load(Ordering::SeqCst) {
            self.orders.recv_timeout(LATER)
        } else {
            self.orders.recv().map_err(|_| RecvTimeoutError::Disconnected)
        }
    }

    fn look(&mut self) {
        self.graves.retain(|pid| reap(*pid).is_none());
        let Some(maker) = self.maker else {
            self.shared.awake.store(false, Ordering::SeqCst);
            return;
        };
        // Before the look: whoever is started after it finds the flag down, and wakes us again.
        let living = self.shared.living.load(Ordering::SeqCst) > 0;
        if !living {
            self.shared.awake.store(false, Ordering::SeqCst);
        }
        strays::settle();
        if orphans(maker) > 0 || self.shared.living.load(Ordering::SeqCst) > 0 {
            self.shared.awake.store(true, Ordering::SeqCst);
        }
    }
}

/// Reaps the orphans that have ended, whether or not they bear a mark still; how many live.
fn orphans(maker: Maker) -> usize {
    let ours = |pid: &i32| {
        matches!(census::mark_of(*pid), Ok(Some(mark)) if mark.maker() == maker)
            || census::stat(*pid).is_some_and(|stat| strays::is_orphan(&stat))
    };
    let living = |pid: &i32| census::stat(*pid).is_some_and(|stat| !stat.zombie || !strays::bury(&stat));
    strays::adopted().unwrap_or_default().into_iter().filter(ours).filter(living).count()
}
