//! The crate through real sockets.

mod dial;
mod goodbyes;
mod liveness;
mod messages;
mod peer;
mod raw;
