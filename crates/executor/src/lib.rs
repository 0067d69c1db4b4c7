//! Sessions over a link, served by the host: the executor's side of the exec protocol.
//!
//! In flow connections: of clients that a [`listen::Listener`] accepts, or of a rendezvous that a [`daemon::Daemon`]
//! dials. Out flow answers and the events of processes. Storage, the registry's internals and how a process is started
//! are not known here.

pub mod audit;
pub mod config;
pub mod credential;
pub mod daemon;
mod dispatch;
pub mod error;
pub mod executor;
pub mod identity;
pub mod listen;
pub mod peer;
mod private;
mod refusals;
mod rest;
pub mod serve;
mod session;

pub use config::{ExecutorConfig, MIN_SESSION_TTL};
pub use error::ExecutorError;
pub use executor::Executor;
pub use peer::{Client, Peer};
pub use serve::{End, Served};
