//! The sizes and times of a websocket connection.

use std::time::Duration;

use exedra_proto::liveness::{PING_INTERVAL, SILENCE_LIMIT};

/// Sizes and times of one connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct WsOptions {
    /// Sizes.
    pub limits: Limits,
    /// Times.
    pub times: Times,
}

/// Sizes, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Largest message that a peer may send; a larger one is answered with close code 1009.
    pub message: usize,
    /// Larger messages of ours are sent in fragments of at most this size (stock refuses frames over 16 MiB).
    pub fragment: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { message: 64 * 1024 * 1024, fragment: 8 * 1024 * 1024 }
    }
}

/// Times.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Between pings.
    pub ping: Duration,
    /// A peer silent for this long is gone.
    pub silence: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self { ping: PING_INTERVAL, silence: SILENCE_LIMIT }
    }
}
