//! From a message to the method that serves it, and back: decoding, order, routing, refusals.
//!
//! In flow messages of a client, out flow texts to send. The host does the work; sessions and sockets are not known
//! here, apart from the session that a connection holds.

pub mod audited;
pub mod bounds;
pub mod budget;
pub mod errors;
pub mod fs;
pub mod gate;
pub mod http;
pub mod incoming;
pub mod order;
pub mod process;
pub mod reply;
pub mod rights;
pub mod route;
