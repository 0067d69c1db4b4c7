//! What an executor is made of, with the values of every day as defaults; tests make the times short.

use std::time::Duration;

use exedra_host::HostConfig;
use exedra_host::process::Limits;

use crate::audit::Audit;

/// What an executor is made of.
#[derive(Clone, Debug)]
pub struct ExecutorConfig {
    /// The machine.
    pub host: HostConfig,
    /// Bounds of the processes of one session.
    pub processes: Limits,
    /// How long a session outlives its connection.
    pub session_ttl: Duration,
    /// How many sessions there may be, attached or not; one more is refused.
    pub max_sessions: usize,
    /// How many sessions may wait for a connection; above it, the longest detached without a live process go first.
    pub max_detached: usize,
    /// How long processes have between SIGTERM and SIGKILL when their session ends.
    pub grace: Duration,
    /// Where everything is written down; without a writable one, if there is one, nothing new is done.
    pub audit: Option<Audit>,
}

impl Default for ExecutorConfig {
    fn default() -> Self {
        Self {
            host: HostConfig::default(),
            processes: Limits::default(),
            session_ttl: Duration::from_secs(600),
            max_sessions: 4_096,
            max_detached: 256,
            grace: Duration::from_secs(5),
            audit: None,
        }
    }
}
