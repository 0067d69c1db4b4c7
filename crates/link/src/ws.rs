//! Websocket connections: dialled, or accepted after somebody else answered the HTTP upgrade.
//!
//! In flows a URL or a byte stream, out flows a [`Connection`](crate::Connection). A reader and a writer task stand
//! between its queues and the socket; liveness, limits, fragments and the closing handshake are kept here. What a
//! message says is no business of this module.

mod accept;
mod dial;
mod driver;
mod frames;
mod inlet;
mod limits;
mod marks;
mod opening;
mod reader;
mod replies;
mod socket;
mod tls;
mod watch;
mod writer;

pub use accept::accept;
pub use dial::{DialOptions, dial, dial_asking};
pub use limits::{Limits, Times, WsOptions};
pub use socket::{TcpView, prepare_tcp};
pub use tls::{client_tls, tls_trusting, trust_only};
