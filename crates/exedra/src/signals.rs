//! The signals that ask the process to stop.
//!
//! In flow SIGINT, SIGTERM and SIGHUP, out flows which one came, once per delivery. What stopping means is for the
//! command that listens.

use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::exit::{Exit, Failure};

/// How long a second signal waits for what must not be left undone.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// A request to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Ctrl-C.
    Interrupt,
    /// `kill`.
    Terminate,
    /// The terminal is gone.
    Hangup,
}

/// Listens for [`Stop`]s; while it lives, the signals no longer end the process by themselves. A signal that is ignored
/// from the start (`nohup`, a background job of a script) stays ignored.
#[derive(Debug)]
pub struct Signals {
    interrupt: Option<Signal>,
    terminate: Option<Signal>,
    hangup: Option<Signal>,
}

impl Stop {
    /// The number of the signal.
    pub fn number(self) -> i32 {
        let kind = match self {
            Self::Interrupt => SignalKind::interrupt(),
            Self::Terminate => SignalKind::terminate(),
            Self::Hangup => SignalKind::hangup(),
        };
        kind.as_raw_value()
    }
}

impl Signals {
    /// Starts to listen.
    ///
    /// # Errors
    /// The system refuses a handler.
    pub fn listen() -> io::Result<Self> {
        let ignored = ignored();
        let listen = |kind: SignalKind| {
            let bit = 1u64 << (kind.as_raw_value() - 1);
            (ignored & bit == 0).then(|| signal(kind)).transpose()
        };
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    /// Gives SIGHUP another meaning, also where it was ignored from the start: it does not ask to stop any more.
    ///
    /// # Errors
    /// The system refuses a handler.
    pub fn take_hangup(&mut self) -> io::Result<Signal> {
        self.hangup.take().map_or_else(|| signal(SignalKind::hangup()), Ok)
    }

    /// Waits for the next one. Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> Stop {
        tokio::select! {
            () = delivered(&mut self.interrupt) => Stop::Interrupt,
            () = delivered(&mut self.terminate) => Stop::Terminate,
            () = delivered(&mut self.hangup) => Stop::Hangup,
        }
    }

    /// Runs `work`; a signal cancels it and waits for its end. A second one calls `hurry` and waits [`LAST_WAIT`] at most.
    ///
    /// # Errors
    /// What `work` fails with, or the second signal.
    pub async fn cancelling<T>(
        &mut self,
        cancel: &CancellationToken,
        hurry: impl FnOnce(),
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        tokio::pin!(work);
        tokio::select! {
            done = &mut work => return done,
            stop = self.next() => tracing::info!(?stop, "stopping"),
        }
        cancel.cancel();
        self.hurrying(hurry, work).await.unwrap_or_else(|stop| {
            let cut = Failure::from(anyhow::anyhow!("stopped at once by a second signal"));
            Err(cut.with_exit(Exit::Signal(stop.number())))
        })
    }

    /// Waits for `work`; the next signal calls `hurry` and waits [`LAST_WAIT`] at most.
    ///
    /// # Errors
    /// That signal.
    pub async fn hurrying<T>(&mut self, hurry: impl FnOnce(), work: impl Future<Output = T>) -> Result<T, Stop> {
        tokio::pin!(work);
        match self.unless_again(&mut work).await {
            Ok(done) => Ok(done),
            Err(stop) => {
                hurry();
                let _ = tokio::time::timeout(LAST_WAIT, work).await;
                Err(stop)
            }
        }
    }

    /// Waits for `work`, which is cut short by the next signal.
    ///
    /// # Errors
    /// That signal.
    pub async fn unless_again<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Stop> {
        tokio::select! {
            biased;
            done = work => Ok(done),
            stop = self.next() => Err(stop),
        }
    }
}

async fn delivered(signal: &mut Option<Signal>) {
    let delivered = match signal {
        Some(signal) => signal.recv().await,
        None => None,
    };
    if delivered.is_none() {
        std::future::pending().await
    }
}

/// The set of signals that this process ignores; none where the system does not tell.
fn ignored() -> u64 {
    std::fs::read_to_string("/proc/self/status").map(|status| ignored_in(&status)).unwrap_or(0)
}

fn ignored_in(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ignored_signals_are_read() {
        assert_eq!(ignored_in("Name:\tx\nSigIgn:\t0000000000001001\nSigCgt:\t3\n"), 0x1001);
        assert_eq!(ignored_in("Name:\tx\n"), 0);
    }
}
