//! The rendezvous.
pub mod frames;
pub mod gate;
pub mod limits;
pub mod router;
pub mod tcp;
