//! The permanent threads that start every child: the signal that a child gets at its parent's death follows the thread
//! that started it.
//!
//! In flow launches, out flow launched children. There are few threads, and one more while all of them are held up: a
//! program on a file system that hangs holds up the thread that executes it, and nobody else. They end when the last
//! handle is gone. Knows no process table and no stream.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{io, thread};

use tokio::sync::oneshot;
use tracing::{debug, warn};

use super::launch::{Launch, Launched, Launcher};
use super::signal::kill_group;
use super::undertaker::Undertaker;

/// Threads at the start.
const FIRST: usize = 2;
/// Threads at most. When all of them hang, starts wait.
const MOST: usize = 16;
/// How long a launch waits for a thread before another one is made.
const PATIENCE: Duration = Duration::from_millis(100);

/// A handle to the threads. Their queue has no bound of its own: who asks waits for the answer, so there is one order per
/// process being started.
#[derive(Clone, Debug)]
pub struct Spawner {
    orders: Sender<Order>,
    pool: Arc<Pool>,
    undertaker: Undertaker,
    pidfd: bool,
}

#[derive(Debug)]
struct Pool {
    queue: Arc<Mutex<Receiver<Order>>>,
    threads: AtomicUsize,
}

struct Order {
    launch: Box<Launch>,
    pidfd: bool,
    taken: Arc<AtomicBool>,
    undertaker: Undertaker,
    reply: oneshot::Sender<io::Result<Launched>>,
}

impl Spawner {
    /// Makes the threads.
    ///
    /// # Errors
    /// The system refuses a thread or its memory.
    pub fn start(pidfd: bool, undertaker: Undertaker) -> io::Result<Self> {
        let (orders, received) = channel();
        let pool = Arc::new(Pool { queue: Arc::new(Mutex::new(received)), threads: AtomicUsize::new(0) });
        for _ in 0..FIRST {
            pool.grow()?;
        }
        Ok(Self { orders, pool, undertaker, pidfd })
    }

    /// Starts a child. If the future is dropped, the child is killed.
    ///
    /// # Errors
    /// What the system said.
    pub async fn launch(&self, launch: Launch) -> io::Result<Launched> {
        let (reply, mut answer) = oneshot::channel();
        let taken = Arc::new(AtomicBool::new(false));
        let (launch, undertaker) = (Box::new(launch), self.undertaker.clone());
        let order = Order { launch, pidfd: self.pidfd, taken: taken.clone(), undertaker, reply };
        self.orders.send(order).map_err(|_| gone())?;
        loop {
            match tokio::time::timeout(PATIENCE, &mut answer).await {
                Ok(answer) => return answer.unwrap_or_else(|_| Err(gone())),
                Err(_) if taken.load(Ordering::Relaxed) => return answer.await.unwrap_or_else(|_| Err(gone())),
                Err(_) => self.pool.help(),
            }
        }
    }

    /// Who reaps what nobody waits for.
    pub fn undertaker(&self) -> &Undertaker {
        &self.undertaker
    }
}

impl Pool {
    /// One more thread, unless there are enough.
    fn help(&self) {
        if self.threads.load(Ordering::Relaxed) < MOST {
            match self.grow() {
                Ok(()) => debug!("every thread that starts processes is held up, there is one more now"),
                Err(error) => warn!(%error, "every thread that starts processes is held up"),
            }
        }
    }

    fn grow(&self) -> io::Result<()> {
        let launcher = Launcher::new()?;
        let queue = self.queue.clone();
        thread::Builder::new().name("spawner".into()).stack_size(128 * 1024).spawn(move || serve(&queue, launcher))?;
        self.threads.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

fn serve(queue: &Mutex<Receiver<Order>>, mut launcher: Launcher) {
    loop {
        // One waits for an order, the others wait for their turn to wait.
        let order = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(order) = order else { return };
        order.taken.store(true, Ordering::Relaxed);
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
