//! What an executor is made of, with the values of every day as defaults; tests make the times short.

use std::time::Duration;

use exedra_host::HostConfig;
use exedra_host::process::Limits;

use crate::audit::Audit;

/// The shortest useful [`ExecutorConfig::session_ttl`]: a stock client may come back as late.
pub const MIN_SESSION_TTL: Duration = Duration::from_secs(80);
/// The default of [`ExecutorConfig::takeover`]: with what is around it, a dead connection loses its session within 5 s.
const TAKEOVER: Duration = Duration::from_millis(4_500);

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
    /// How long the connection that holds a session may stay silent, once it was asked for a sign of life because another
    /// wants the session. Then it loses the session.
    pub takeover: Duration,
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
            takeover: TAKEOVER,
            max_detached: 256,
            grace: Duration::from_secs(5),
            audit: None,
        }
    }
}
