//! What crosses a wire, as plain data: JSON-RPC messages, HTTP bodies, tickets, close codes.
//!
//! In flows text or bytes from a peer, out flow typed values, and back again. Nothing here knows tokio, opens a
//! socket or reads the clock: where time matters it is a parameter.

pub mod base64;
pub mod binary;
pub mod bulk;
pub mod capability;
pub mod close;
pub mod dialect;
pub mod envelope;
pub mod environment;
pub mod frame;
pub mod fs;
pub mod http;
pub mod ids;
pub mod introduction;
pub mod limits;
pub mod liveness;
pub mod mark;
pub mod method;
pub mod noise;
pub mod path;
pub mod plane;
pub mod problem;
pub mod process;
pub mod registry;
pub mod rights;
pub mod sandbox;
pub mod secret;
pub mod session;
pub mod ticket;
pub mod token;
pub mod wrapped;
