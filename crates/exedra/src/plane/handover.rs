//! A server hands over to a new process of itself, and nobody who connects is refused: on SIGUSR2, after the binary was
//! replaced, say.
//!
//! The old process starts the new one and gives it the listening socket and the hold on the data directory. The new one
//! opens its records and says that it is ready; the old one then stops to accept, ends the requests under way, and passes
//! on what it knows of tickets; the new one accepts. Executors in use stay with the old process for as long as they have
//! clients; over the same socket the new one orders it to cut what has to be cut, and to let go of what it wants. If the
//! new one does not come up, the old one goes on as if nothing had been.

mod channel;
mod predecessor;
mod successor;

use exedra_proto::close::CloseReason;
use exedra_proto::ids::{RegistrationId, TokenId};
use exedra_proto::plane::Cutoff;
use exedra_rendezvous::Legacy;
use serde::{Deserialize, Serialize};

pub use predecessor::{Orders, Predecessor};
pub use successor::{Program, Successor};

/// What the new process says.
#[derive(Debug, Serialize, Deserialize)]
enum ToOld {
    /// Its records are open.
    Ready,
    /// For the connections that the old one still has.
    Order(Order),
}

/// What the old process says.
#[derive(Debug, Serialize, Deserialize)]
enum ToNew {
    /// It accepts no more, and writes no more; from now on it is the new one's turn.
    YourTurn(Box<Legacy>),
}

/// A call of [`Cutoff`].
#[derive(Debug, Serialize, Deserialize)]
enum Order {
    Registration(RegistrationId, CloseReason),
    Token(TokenId, CloseReason),
    Expired(TokenId, CloseReason),
    Renewed(TokenId, u64, CloseReason),
    Barred(RegistrationId, TokenId, CloseReason),
    Key(String, CloseReason),
    Wanted(RegistrationId),
}

impl Order {
    fn carry_out(self, cutoff: &dyn Cutoff) {
        match self {
            Self::Registration(registration, reason) => cutoff.registration(&registration, reason),
            Self::Token(token, reason) => cutoff.token(&token, reason),
            Self::Expired(token, reason) => cutoff.expired(&token, reason),
            Self::Renewed(token, until, reason) => cutoff.renewed(&token, until, reason),
            Self::Barred(registration, token, reason) => cutoff.barred(&registration, &token, reason),
            Self::Key(key_id, reason) => cutoff.key(&key_id, reason),
            Self::Wanted(registration) => cutoff.wanted(&registration),
        }
    }
}
