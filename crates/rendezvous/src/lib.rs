//! The rendezvous.
pub mod frames;
pub mod limits;
pub mod router;
