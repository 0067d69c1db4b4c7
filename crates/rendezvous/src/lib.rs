//! The rendezvous: a websocket router that brings an executor and its client together.
//!
//! In come requests with signed tickets ([`Rendezvous::router`] serves them inside any axum server), and through every
//! pair the frames of either side to the other, as they arrive. It holds the signing keys and nothing else of the
//! registry's: no store, no token, no cipher; and it reads no message.
//!
//! How it hangs together: `http` asks the `gate` about the ticket and the `router` (pure; driven by `hub`) about the
//! place, upgrades, and gives the connection to `meeting`, one task for each executor, which `pump`s `frames` between
//! two `socket`s, or to the `hall` where an executor has many clients, and parts from them by `farewell`. A server
//! gives its HTTP library an [`Io`] for each connection; with another stream than that or a TCP stream, the kernel cannot
//! be asked about the peer.

mod budget;
mod conduct;
mod config;
mod error;
mod farewell;
mod frames;
mod gate;
mod hall;
mod http;
mod hub;
mod leave;
mod legacy;
pub mod limits;
mod linger;
mod mailbox;
mod meeting;
#[cfg(test)]
mod piped;
mod presence;
mod pump;
mod router;
mod shares;
mod socket;
mod tasks;
mod tcp;

use std::sync::Arc;
use std::time::Duration;

use exedra_proto::close::CloseReason;
use exedra_proto::ids::{RegistrationId, TokenId};
use exedra_proto::plane::{Connection, Cutoff};

pub use config::{RendezvousConfig, Times};
pub use error::RendezvousError;
pub use legacy::Legacy;
pub use socket::io::{Io, Stream};

pub use hub::Figures;

use crate::gate::Gate;
use crate::http::{Shared, now};
use crate::hub::Hub;
use crate::router::Fences;
use crate::tasks::Tasks;

/// The rendezvous. Dropped, it cuts all connections.
pub struct Rendezvous {
    shared: Arc<Shared>,
}

impl Rendezvous {
    /// Opens. Clients' tickets issued before this moment are refused, unless what was known of them is
    /// [handed over](RendezvousConfig::legacy).
    ///
    /// # Errors
    /// The configuration makes no sense.
    pub fn new(config: RendezvousConfig) -> Result<Self, RendezvousError> {
        config.check()?;
        let (gate, fences) = match config.legacy {
            Some(legacy) => (Gate::after(config.key_ring, legacy.tickets), legacy.fences),
            None => (Gate::new(config.key_ring, now()), Fences::default()),
        };
        let shared = Shared {
            gate,
            hub: Arc::new(Hub::new(config.max_connections, fences, config.presence, config.times.stall)),
            tasks: Tasks::new(),
            times: config.times,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The route `/rendezvous/{registration_id}`, to be served with upgrades (as `axum::serve` does).
    pub fn router(&self) -> axum::Router {
        http::router(Arc::clone(&self.shared))
    }

    /// What there is to count.
    pub fn figures(&self) -> Figures {
        self.shared.hub.figures()
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.shared.hub.connections()
    }

    /// Lets nobody in any more (503), and closes the connections with [`CloseReason::GoingAway`], spread over
    /// [`Times::drain_window`]. Returns at once.
    pub fn drain(&self) {
        self.shared.hub.drain(self.shared.times.drain_window);
    }

    /// Lets nobody in any more (503), for another one does. Executors without clients are closed with
    /// [`CloseReason::GoingAway`], spread over `window`; each of the others with its last client, or when it is
    /// [wanted](Cutoff::wanted) there. What comes back is for that other one.
    pub fn retire(&self, window: Duration) -> Legacy {
        self.shared.hub.retire(window);
        // In this order: whoever was let in before has claimed his ticket.
        Legacy { tickets: self.shared.gate.claimed(), fences: self.shared.hub.fences() }
    }

    /// Returns when the last connection has ended.
    pub async fn emptied(&self) {
        self.shared.hub.emptied().await;
    }

    /// Drains, and waits for the last connection; what has not ended by then is cut.
    pub async fn shutdown(&self) {
        self.drain();
        let times = &self.shared.times;
        // A connection that is still being upgraded ends by its own deadline, or by the order that waits for it.
        let patience = times.drain_window + times.close_deadline + times.close_deadline;
        self.shared.tasks.finish(patience).await;
    }
}

impl Cutoff for Rendezvous {
    fn registration(&self, registration: &RegistrationId, reason: CloseReason) {
        tracing::info!(?registration, ?reason, "registration cut");
        self.shared.hub.cut_registration(registration, reason, now());
    }

    fn token(&self, token: &TokenId, reason: CloseReason) {
        tracing::info!(?token, ?reason, "token cut");
        self.shared.hub.cut_token(token, reason, now());
    }

    fn expired(&self, token: &TokenId, reason: CloseReason) {
        tracing::info!(?token, ?reason, "what an expired token opened is cut");
        self.shared.hub.cut_expired(token, reason);
    }

    fn renewed(&self, token: &TokenId, until: u64, reason: CloseReason) {
        tracing::info!(?token, until, ?reason, "what a token opened before it had another secret is cut");
        self.shared.hub.cut_renewed(token, until, reason, now());
    }

    fn barred(&self, registration: &RegistrationId, token: &TokenId, reason: CloseReason) {
        tracing::info!(?registration, ?token, ?reason, "a token's clients are cut from an executor");
        self.shared.hub.bar(registration, token, reason, now());
    }

    fn key(&self, key_id: &str, reason: CloseReason) {
        tracing::info!(key_id, ?reason, "signing key cut");
        self.shared.hub.cut_key(key_id, reason);
    }

    fn wanted(&self, registration: &RegistrationId) {
        self.shared.hub.wanted(registration);
    }

    fn connections(&self) -> Vec<Connection> {
        self.shared.hub.present()
    }
}

impl Drop for Rendezvous {
    fn drop(&mut self) {
        self.shared.hub.drain(Duration::ZERO);
        self.shared.tasks.abort();
    }
}
