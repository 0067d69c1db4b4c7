//! The permanent thread: it starts every child, because the signal that a child gets at its parent's death follows the
//! thread that started it, and it reaps the children that nobody waits for any more.
//!
//! In flow launches and the numbers of orphans, out flow launched children. It ends when the last handle is gone. Knows
//! no process table and no stream.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use tokio::sync::oneshot;
use tracing::{debug, warn};

use super::launch::{Launch, Launched, Launcher};
use super::signal::kill_group;

/// How often to look whether an orphan has ended. They have been killed, so it is a matter of moments.
const LOOK: Duration = Duration::from_millis(10);
/// How long to wait for orphans after the last handle is gone.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// A handle to the thread. Its queue has no bound of its own: who asks waits for the answer, so there is one order per
/// process being started, and one number per orphan.
#[derive(Clone, Debug)]
pub struct Spawner {
    orders: Sender<Order>,
    pidfd: bool,
}

enum Order {
    Launch { launch: Box<Launch>, pidfd: bool, reply: oneshot::Sender<io::Result<Launched>> },
    Bury(i32),
}

impl Spawner {
    /// Makes the thread.
    ///
    /// # Errors
    /// The system refuses the thread or its memory.
    pub fn start(pidfd: bool) -> io::Result<Self> {
        let (orders, received) = channel();
        let (tell, told) = channel();
        thread::Builder::new().name("spawner".into()).stack_size(128 * 1024).spawn(move || match Launcher::new() {
            Ok(launcher) => {
                let _ = tell.send(Ok(()));
                serve(&received, launcher);
            }
            Err(error) => {
                let _ = tell.send(Err(error));
            }
        })?;
        told.recv().unwrap_or_else(|_| Err(gone()))?;
        Ok(Self { orders, pidfd })
    }

    /// Starts a child. If the future is dropped, the child is killed.
    ///
    /// # Errors
    /// What the system said.
    pub async fn launch(&self, launch: Launch) -> io::Result<Launched> {
        let (reply, answer) = oneshot::channel();
        let order = Order::Launch { launch: Box::new(launch), pidfd: self.pidfd, reply };
        self.orders.send(order).map_err(|_| gone())?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Reaps a child that has been killed and that nobody waits for.
    pub fn bury(&self, pid: i32) {
        let _ = self.orders.send(Order::Bury(pid));
    }
}

/// Reaps `pid` if it has ended: 0 to 255, or 128 + n after signal n.
pub fn reap(pid: i32) -> Option<i32> {
    let status = match waitid(WaitId::Pid(Pid::from_raw(pid)?), WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
        Ok(status) => status?,
        Err(Errno::CHILD) => {
            warn!(pid, "a child was reaped by somebody else, its exit code is lost");
            return Some(-1);
        }
        Err(_) => return None,
    };
    status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal))
}

fn serve(orders: &Receiver<Order>, mut launcher: Launcher) {
    let mut orphans: Vec<i32> = Vec::new();
    loop {
        let order = if orphans.is_empty() {
            orders.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            orders.recv_timeout(LOOK)
        };
        match order {
            Ok(Order::Launch { launch, pidfd, reply }) => {
                orphans.extend(start(&mut launcher, &launch, pidfd, reply));
            }
            Ok(Order::Bury(pid)) => orphans.push(pid),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        orphans.retain(|pid| reap(*pid).is_none());
    }
    let deadline = Instant::now() + LAST_WAIT;
    while !orphans.is_empty() && Instant::now() < deadline {
        thread::sleep(LOOK);
        orphans.retain(|pid| reap(*pid).is_none());
    }
    debug!(unreaped = orphans.len(), "the thread that starts processes ends");
}

/// Starts a child and gives it to who asked; if that one is gone, kills it and returns its number.
fn start(
    launcher: &mut Launcher,
    launch: &Launch,
    pidfd: bool,
    reply: oneshot::Sender<io::Result<Launched>>,
) -> Option<i32> {
    let launched = launcher.launch(launch, pidfd);
    let unwanted = reply.send(launched).err()?.ok()?;
    kill_group(unwanted.pid);
    Some(unwanted.pid)
}

fn gone() -> io::Error {
    io::Error::other("the thread that starts processes is gone")
}
