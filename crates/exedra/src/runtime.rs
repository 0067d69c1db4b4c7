//! The runtime that a command runs on.
//!
//! In flows a future, out flows what it came to. Threads that still read stdin do not hold up the end.

use std::future::Future;
use std::io;

use tokio::runtime::Builder;

use crate::exit::Failure;

/// Most threads of a server: passing bytes on needs few, and each costs memory while it is idle.
const MAX_THREADS: usize = 8;

/// Runs `work` on this thread alone: quick to start, for one connection.
///
/// # Errors
/// What `work` fails with, or the system refuses a runtime.
pub fn light<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    block_on(&mut Builder::new_current_thread(), work)
}

/// Runs `work` with a thread per processor, up to [`MAX_THREADS`], for servers.
///
/// # Errors
/// What `work` fails with, or the system refuses a runtime.
pub fn full<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
    block_on(Builder::new_multi_thread().worker_threads(threads), work)
}

fn block_on<T>(builder: &mut Builder, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = builder
        .enable_all()
        .build()
        .map_err(|error: io::Error| Failure::from(anyhow::Error::new(error).context("cannot start the runtime")))?;
    let done = runtime.block_on(work);
    runtime.shutdown_background();
    done
}
