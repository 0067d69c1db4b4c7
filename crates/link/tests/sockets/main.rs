//! The crate through real sockets.

#![cfg(test)]

mod connect;
mod dial;
mod goodbyes;
mod liveness;
mod marks;
mod messages;
mod peer;
mod raw;
mod register;
mod scripted;
mod tls;
