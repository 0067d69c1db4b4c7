//! Typed handles to a remote executor.
//!
//! In flows an address (a registry with a token and an executor id, or a listener's URL), out flow an [`Executor`] and
//! what it gives: a [`process::Process`] whose output comes in order and whole, [`files::Files`], and HTTP requests
//! made from over there ([`fetch`]). Knows connections only through `exedra-link`; knows nothing of how an executor or
//! a registry works inside.

pub mod connect;
pub mod error;
pub mod executor;
pub mod fetch;
pub mod files;
mod inbox;
mod intake;
pub mod line;
mod opening;
mod paths;
mod patience;
pub mod process;
mod receipts;
pub mod recover;
pub mod reorder;
mod routes;

pub use connect::Server;
pub use error::Error;
pub use executor::Executor;
