//! What the rendezvous is given: the signing keys, whom to report to, and its times.
//!
//! Plain values, checked once by [`RendezvousConfig::check`]. It reads no file and no environment.

use std::fmt;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use exedra_proto::liveness::{PING_INTERVAL, SILENCE_LIMIT};
use exedra_proto::plane::Presence;
use exedra_proto::ticket::KeyRing;

use crate::error::RendezvousError;
use crate::legacy::Legacy;
use crate::limits::{CHALLENGE, CLOSE_DEADLINE, DRAIN_WINDOW, MAX_CONNECTIONS, STALL, UPGRADE_DEADLINE};

/// How to set up a rendezvous.
#[derive(Clone)]
#[non_exhaustive]
pub struct RendezvousConfig {
    /// The keys that tickets are signed with, shared with the registry.
    pub key_ring: Arc<RwLock<KeyRing>>,
    /// Who is told of executors that come and go.
    pub presence: Arc<dyn Presence>,
    /// Its times.
    pub times: Times,
    /// What the rendezvous before this one knew, if this one takes its place.
    pub legacy: Option<Legacy>,
    /// Connections in all; see [`MAX_CONNECTIONS`].
    pub max_connections: usize,
}

/// How long things may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// Between two pings.
    pub ping_interval: Duration,
    /// A peer silent for this long is gone.
    pub silence_limit: Duration,
    /// For a close handshake.
    pub close_deadline: Duration,
    /// From the answer 101 to a connection that is handed over.
    pub upgrade_deadline: Duration,
    /// Over which the closes of a drain are spread.
    pub drain_window: Duration,
    /// For a sign of life of the other clients of an executor, when a new one comes.
    pub challenge: Duration,
    /// For a client of many that keeps the others waiting.
    pub stall: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            ping_interval: PING_INTERVAL,
            silence_limit: SILENCE_LIMIT,
            close_deadline: CLOSE_DEADLINE,
            upgrade_deadline: UPGRADE_DEADLINE,
            drain_window: DRAIN_WINDOW,
            challenge: CHALLENGE,
            stall: STALL,
        }
    }
}

impl RendezvousConfig {
    /// The usual times and limits.
    pub fn new(key_ring: Arc<RwLock<KeyRing>>, presence: Arc<dyn Presence>) -> Self {
        Self { key_ring, presence, times: Times::default(), legacy: None, max_connections: MAX_CONNECTIONS }
    }

    /// Whether one can work with it.
    pub(crate) fn check(&self) -> Result<(), RendezvousError> {
        let times = &self.times;
        if times.ping_interval.is_zero() || times.silence_limit <= times.ping_interval {
            return Err(RendezvousError::Config(
                "the silence limit must be longer than the ping interval, and that not 0",
            ));
        }
        if times.close_deadline.is_zero()
            || times.upgrade_deadline.is_zero()
            || times.stall.is_zero()
            || times.challenge.is_zero()
        {
            return Err(RendezvousError::Config("a deadline of 0 lets nobody finish"));
        }
        if self.max_connections == 0 {
            return Err(RendezvousError::Config("0 connections let nobody in"));
        }
        Ok(())
    }
}

impl fmt::Debug for RendezvousConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RendezvousConfig")
            .field("times", &self.times)
            .field("max_connections", &self.max_connections)
            .finish_non_exhaustive()
    }
}
