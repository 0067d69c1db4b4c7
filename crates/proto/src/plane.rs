//! The two small traits that join registry and rendezvous, which otherwise share only the signing keys; and what the server
//! in front of both says of a request.

use std::any::Any;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::close::CloseReason;
use crate::ids::{RegistrationId, TokenId};
use crate::ticket::Role;

/// What the rendezvous reports. Calls must not block.
pub trait Presence: Send + Sync {
    /// The executor of this registration is connected and free.
    fn online(&self, registration: &RegistrationId, epoch: u64);

    /// The same, of one that is told who its clients are.
    fn online_told(&self, registration: &RegistrationId, epoch: u64) {
        self.online(registration, epoch);
    }

    /// The executor's connection took the place of another one of the same registration that had not ended. Whoever does not care
    /// need not be told.
    fn replaced(&self, _registration: &RegistrationId) {}

    /// A client holds the executor.
    fn held(&self, registration: &RegistrationId);

    /// The executor's connection is gone; `bytes` went through it both ways.
    fn offline(&self, registration: &RegistrationId, bytes: u64);
}

/// One websocket at the rendezvous.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Of which registration.
    pub registration: RegistrationId,
    /// Whose side.
    pub role: Role,
    /// The token behind its ticket.
    pub token: TokenId,
    /// Since when, seconds since 1970.
    pub since: u64,
    /// Payload that went through it, both ways.
    pub bytes: u64,
}

/// What the registry orders: connections that must go now. Calls must not block.
pub trait Cutoff: Send + Sync {
    /// Close the connections of this registration and refuse its tickets from now on.
    fn registration(&self, registration: &RegistrationId, reason: CloseReason);

    /// Close the connections that were opened with tickets of this token, and refuse those that were issued up to now.
    fn token(&self, token: &TokenId, reason: CloseReason);

    /// This token's time is over, and that of its tickets: close the connections that were opened with them. No ticket is refused
    /// for it, since the clock that says so may be wrong: when it is right again, so are they.
    fn expired(&self, token: &TokenId, reason: CloseReason) {
        self.token(token, reason);
    }

    /// This token has another secret: close the connections that were opened with tickets issued up to `until`, seconds since
    /// 1970, and refuse those tickets once it is that time.
    fn renewed(&self, token: &TokenId, _until: u64, reason: CloseReason) {
        self.token(token, reason);
    }

    /// Clients with this token are no longer let in to the executor of this registration: close their connections there, and
    /// refuse the tickets that were issued up to now.
    fn barred(&self, _registration: &RegistrationId, token: &TokenId, reason: CloseReason) {
        self.token(token, reason);
    }

    /// Close the connections that were opened with tickets of this signing key, and let in nobody whose ticket it signed.
    fn key(&self, key_id: &str, reason: CloseReason);

    /// The executor of this registration is wanted here, or is here: another server that this one took the place of, and
    /// that may still hold its connection, lets go of it; and a client that has it to itself here gives a sign of life soon, or has
    /// it no longer. There is neither, unless somebody says so.
    fn wanted(&self, _registration: &RegistrationId) {}

    /// Who is connected at the moment.
    fn connections(&self) -> Vec<Connection> {
        Vec::new()
    }
}

/// Why a request was refused, as an extension of the answer, for whoever counts. The words are few and fixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// For its token.
    Token(&'static str),
    /// Because whoever this word names asked too often.
    Rate(&'static str),
    /// For its ticket, or because the place that the ticket names is not to be had.
    Ticket(&'static str),
}

/// Where a request comes from, as an extension of the request.
#[derive(Clone)]
pub struct Origin {
    /// The client's address, which a trusted proxy may have told.
    pub address: IpAddr,
    /// The client's place among the connections of its address; it is free again when the last one is dropped.
    pub place: Arc<dyn Any + Send + Sync>,
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Origin").field(&self.address).finish()
    }
}
