//! A connection as the sessions see it: its number, what its client may do, a way to ask whether its client still lives, and a way to end it.
//!
//! In flows the wish of another connection for the session, out flows whether the holder is silent, and the word that
//! it has lost the session. It knows no session and no message.

use std::time::Duration;

use exedra_link::Sender;
use exedra_link::probe::Life;
use exedra_proto::rights::Rights;
use tokio_util::sync::CancellationToken;

use super::table::ConnectionId;

/// A connection that may hold a session.
#[derive(Clone, Debug)]
pub struct Holder {
    number: ConnectionId,
    sender: Sender,
    rights: Rights,
    lost: CancellationToken,
}

impl Holder {
    /// The connection of that number, which `sender` sends on, of a client that may do so much.
    pub fn new(number: ConnectionId, sender: Sender, rights: Rights) -> Self {
        Self { number, sender, rights, lost: CancellationToken::new() }
    }

    /// Its number.
    pub fn number(&self) -> ConnectionId {
        self.number
    }

    /// What its client may do.
    pub fn rights(&self) -> Rights {
        self.rights
    }

    /// Asks its client for a sign of life, and waits at most `limit` for one. A client that cannot be asked is alive.
    pub async fn is_silent(&self, limit: Duration) -> bool {
        self.sender.probe(limit).await == Life::Silent
    }

    /// Another connection takes its session: whoever serves it ends it.
    pub fn take_over(&self) {
        self.lost.cancel();
    }

    /// Cancelled when its session was taken.
    pub fn lost(&self) -> &CancellationToken {
        &self.lost
    }
}
