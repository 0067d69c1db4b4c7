//! Connections for tests: of one executor and its clients, over whatever stream a test has.

use std::sync::Arc;

use bytes::Bytes;
use exedra_proto::ids::{RegistrationId, TokenId};
use exedra_proto::introduction::Client;
use exedra_proto::plane::Presence;
use exedra_proto::ticket::{Claims, Role, Shape};

use crate::config::Times;
use crate::hub::{Hub, Link};
use crate::socket::Socket;
use crate::socket::io::{Io, Stream};

/// Reports that nobody reads.
pub struct Nobody;

impl Presence for Nobody {
    fn online(&self, _: &RegistrationId, _: u64) {}
    fn held(&self, _: &RegistrationId) {}
    fn offline(&self, _: &RegistrationId, _: u64) {}
}

/// What a ticket says of the executor `r`, by the token `e`, or of a client of it, by `c`.
pub fn claims(role: Role, shape: Shape) -> Claims {
    Claims {
        registration: RegistrationId::new("r"),
        role,
        shape,
        epoch: 1,
        token: TokenId::new(if role == Role::Executor { "e" } else { "c" }),
        issued_at: 0,
        expires_at: 1,
        ticket_id: String::new(),
        client: Client::default(),
    }
}

/// A connection that has a place and is not open yet; `asks` as in [`Hub::admit`].
pub fn link(hub: &Arc<Hub>, claims: &Claims, asks: bool, stream: impl Stream + 'static) -> Box<Link> {
    let (seat, mailbox) = hub.admit(claims, "k", asks, 0).unwrap();
    let socket = Socket::new(Io::Other(Box::new(stream)), Bytes::new(), Times::default());
    Box::new(Link { seat, socket, mailbox })
}
