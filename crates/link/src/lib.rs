//! Turns an address into a stream of messages, and messages into calls.
//!
//! In flows an address (a websocket URL, a pair of pipes, nothing at all for [`memory`]), out flows a
//! [`connection::Connection`]: a [`connection::Sender`] and a [`connection::Receiver`] with bounded queues between them
//! and the socket. [`peer`] makes calls and events out of one. [`dial`] finds out where to connect and when to try
//! again; [`carrier`] how many connections a websocket carries. Nothing here knows what a method means, or what a
//! process or a file is.

pub mod carrier;
pub mod certificate;
pub mod connection;
pub mod dial;
pub mod error;
pub mod memory;
pub mod message;
mod mux;
pub mod peer;
pub mod probe;
mod queue;
mod retry_after;
pub mod stdio;
pub mod ws;

pub use connection::{Connection, Receiver, Sender};
pub use error::{Disconnect, LinkError};
pub use message::Message;
