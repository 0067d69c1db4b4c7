//! Finds out where to connect, and when to try again.
//!
//! [`registry`] asks over HTTP, [`rendezvous`] follows the ticket it got, [`backoff`] says how long to wait between two
//! attempts. The loop that ties them together belongs to the executor's daemon and to the client.

pub mod backoff;
pub mod registry;
pub mod rendezvous;
