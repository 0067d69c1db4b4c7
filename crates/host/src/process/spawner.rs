//! The permanent threads that start every child: the signal that a child gets at its parent's death follows the thread
//! that started it.
//!
//! In flow launches, out flow launched children. There are few threads, and one more while all of them are held up: a
//! program on a file system that hangs holds up the thread that executes it, and nobody else. They end when the last
//! handle is gone. Knows no process table and no stream.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{fmt, io, thread};

use tokio::sync::oneshot;
use tracing::{debug, warn};

use super::launch::{Launch, Launched, Launcher};
use super::signal::kill_group;
use super::undertaker::Undertaker;

/// Threads at the start.
const FIRST: usize = 2;
/// Threads at most. When all of them hang, starts wait.
const MOST: usize = 16;
/// How long no thread takes anything before another one is made: longer than on a busy machine, since it stays.
const PATIENCE: Duration = Duration::from_secs(1);

/// A handle to the threads. Their queue has no bound of its own: who asks waits for the answer, so there is one order per
/// process being started.
#[derive(Clone, Debug)]
pub struct Spawner {
    counter: Arc<Counter>,
    pool: Arc<Pool>,
    undertaker: Undertaker,
    pidfd: bool,
}

#[derive(Debug)]
struct Pool {
    queue: Arc<Queue>,
    threads: AtomicUsize,
    /// Orders that were given, and those of them that were taken.
    given: AtomicUsize,
    taken: Arc<AtomicUsize>,
}

/// Where orders are given. Dropped, the threads end.
#[derive(Debug)]
struct Counter(Arc<Queue>);

/// The orders that wait. One that comes wakes one thread, and none else.
#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    came: Condvar,
}

#[derive(Default)]
struct Waiting {
    orders: VecDeque<Order>,
    closed: bool,
}

struct Order {
    launch: Box<Launch>,
    pidfd: bool,
    undertaker: Undertaker,
    reply: oneshot::Sender<io::Result<Launched>>,
}

impl Spawner {
    /// Makes the threads.
    ///
    /// # Errors
    /// The system refuses a thread or its memory.
    pub fn start(pidfd: bool, undertaker: Undertaker) -> io::Result<Self> {
        let queue = Arc::<Queue>::default();
        let counter = Arc::new(Counter(Arc::clone(&queue)));
        let (threads, given) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let pool = Arc::new(Pool { queue, threads, given, taken: Arc::default() });
        for _ in 0..FIRST {
            pool.grow()?;
        }
        Ok(Self { counter, pool, undertaker, pidfd })
    }

    /// Starts a child. If the future is dropped, the child is killed.
    ///
    /// # Errors
    /// What the system said.
    pub async fn launch(&self, launch: Launch) -> io::Result<Launched> {
        let (reply, mut answer) = oneshot::channel();
        let (launch, undertaker) = (Box::new(launch), self.undertaker.clone());
        let order = Order { launch, pidfd: self.pidfd, undertaker, reply };
        self.pool.given.fetch_add(1, Ordering::Relaxed);
        self.counter.0.give(order);
        loop {
            let taken = self.pool.taken.load(Ordering::Relaxed);
            match tokio::time::timeout(PATIENCE, &mut answer).await {
                Ok(answer) => return answer.unwrap_or_else(|_| Err(gone())),
                Err(_) => self.pool.help(taken),
            }
        }
    }

    /// Who reaps what nobody waits for.
    pub fn undertaker(&self) -> &Undertaker {
        &self.undertaker
    }
}

impl Pool {
    /// One more thread, if orders wait and none was taken since `before`; unless there are enough.
    fn help(&self, before: usize) {
        let taken = self.taken.load(Ordering::Relaxed);
        let held_up = taken == before && self.given.load(Ordering::Relaxed) != taken;
        if held_up && self.threads.load(Ordering::Relaxed) < MOST {
            match self.grow() {
                Ok(()) => debug!("every thread that starts processes is held up, there is one more now"),
                Err(error) => warn!(%error, "every thread that starts processes is held up"),
            }
        }
    }

    fn grow(&self) -> io::Result<()> {
        let launcher = Launcher::new()?;
        let (queue, taken) = (self.queue.clone(), self.taken.clone());
        thread::Builder::new()
            .name("spawner".into())
            .stack_size(128 * 1024)
            .spawn(move || serve(&queue, &taken, launcher))?;
        self.threads.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}

impl Queue {
    fn give(&self, order: Order) {
        self.lock().orders.push_back(order);
        self.came.notify_one();
    }

    /// Waits for an order; none once nobody can give one any more.
    fn take(&self) -> Option<Order> {
        let idle = |waiting: &mut Waiting| waiting.orders.is_empty() && !waiting.closed;
        self.came.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner).orders.pop_front()
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.came.notify_all();
    }
}

fn serve(queue: &Queue, taken: &AtomicUsize, mut launcher: Launcher) {
    while let Some(order) = queue.take() {
        taken.fetch_add(1, Ordering::Relaxed);
        start(&mut launcher, order);
    }
}

/// Starts a child and gives it to who asked; if that one is gone, the child is killed and buried.
fn start(launcher: &mut Launcher, order: Order) {
    let launched = launcher.launch(&order.launch, order.pidfd);
    // Our copies of the child's ends: as long as they are open, its output has no end.
    drop(order.launch);
    if let Err(Ok(unwanted)) = order.reply.send(launched) {
        kill_group(unwanted.pid);
        order.undertaker.bury(unwanted.pid);
    }
}

fn gone() -> io::Error {
    io::Error::other("the threads that start processes are gone")
}

#[cfg(test)]
mod tests {
    use super::super::launch::tests::{leased, shell};
    use super::super::wait;
    use super::*;

    #[tokio::test]
    async fn a_program_that_cannot_be_read_holds_up_nobody_else() {
        let spawner = Spawner::start(true, Undertaker::start(None).unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let mut stuck = tokio::task::JoinSet::new();
        let mut leases = Vec::new();
        for number in 0..FIRST + 2 {
            let program = dir.path().join(number.to_string());
            std::fs::copy("/bin/sh", &program).unwrap();
            leases.push(leased(&program));
            let (launch, _) = shell("exit 3");
            let program = std::ffi::CString::new(program.to_str().unwrap()).unwrap();
            let (spawner, launch) = (spawner.clone(), Launch { candidates: vec![program], ..launch });
            stuck.spawn(async move { spawner.launch(launch).await.unwrap().pid });
        }
        let counts = || [&spawner.pool.given, &spawner.pool.taken].map(|count| count.load(Ordering::Relaxed));
        while counts()[0] < FIRST + 2 || counts()[1] < FIRST {
            tokio::task::yield_now().await;
        }
        let (launch, _output) = shell("exit 0");
        let pid = spawner.launch(launch).await.unwrap().pid;
        wait::ended(pid);
        assert_eq!(wait::reap(pid), Some(0));
        assert!(stuck.try_join_next().is_none(), "the others hang still");
        drop(leases);
        for pid in stuck.join_all().await {
            wait::ended(pid);
            assert_eq!(wait::reap(pid), Some(3));
        }
    }
}
