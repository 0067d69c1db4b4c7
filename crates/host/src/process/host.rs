//! The host as such: the thread that starts every process, and what children inherit.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::Arc;

use crate::error::HostError;

/// What a [`Host`] is made of.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HostConfig {
    /// What children inherit under an `envPolicy`; leave out what they must not see, such as our own token.
    pub environment: BTreeMap<OsString, OsString>,
    /// Watch exits through process descriptors; without, as on old kernels, a thread per process does.
    pub pidfd: bool,
}

impl Default for HostConfig {
    fn default() -> Self {
        Self { environment: std::env::vars_os().collect(), pidfd: true }
    }
}

/// A machine to run processes on. It owns the one thread that starts them, because the signal that a child gets when
/// its parent dies follows the thread and not the process.
#[derive(Debug)]
pub struct Host {}

impl Host {
    /// Makes the thread.
    ///
    /// # Errors
    /// [`HostError::Thread`] if the system refuses it.
    pub fn start(_config: HostConfig) -> Result<Arc<Self>, HostError> {
        Ok(Arc::new(Self {}))
    }
}
