//! What a machine can do: run processes, work with files, fetch from its place in the network.
//!
//! In flow the params of the protocol's methods, out flow their results, the events of processes and typed errors.
//! Nothing here knows a connection, a session, JSON-RPC codes or an HTTP server: the executor does.

mod encoding;
pub mod error;
pub mod facts;
pub mod fetch;
pub mod fs;
pub mod launcher;
mod own;
pub mod policy;
pub mod process;
pub mod sandbox;

pub use error::HostError;
pub use process::{Host, HostConfig, rest};
