//! The runtime that a command runs on, and what the system lets it have.
//!
//! In flows a future, out flows what it came to. Threads that still read stdin do not hold up the end.

use std::future::Future;
use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
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

/// Takes all file descriptors that the system grants this process, where the usual number is a small part of it. If that
/// is refused, the number stays as it was, and a server has to do with fewer connections.
///
/// Not for a process that starts commands: they would inherit the number, and many handle every descriptor that they
/// might have.
pub fn take_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_descriptors_are_taken_that_are_granted() {
        let limit = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: Some(256), ..limit }).unwrap();
        take_descriptors();
        assert_eq!(getrlimit(Resource::Nofile), Rlimit { current: limit.maximum, ..limit });
    }
}
