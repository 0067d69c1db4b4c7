//! The crate through real sockets.

mod connect;
mod dial;
mod goodbyes;
mod liveness;
mod messages;
mod peer;
mod raw;
mod register;
mod scripted;
