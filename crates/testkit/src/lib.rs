//! The test kit: what tests of several crates share, never part of the product.
//!
//! [`plane`] runs registry, rendezvous, executor and client in one process on port 0; [`faults`] is a link that delays,
//! reorders and cuts by a seed; [`replay`] drives recorded exchanges against a listener and compares the answers; [`streams`]
//! is a rendezvous that carries relay frames.

pub mod faults;
pub mod pattern;
pub mod plane;
pub mod replay;
pub mod stage;
pub mod streams;
