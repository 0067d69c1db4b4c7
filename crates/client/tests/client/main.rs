//! The client against a scripted executor on a connection inside the process.

#![cfg(test)]

mod connection;
mod fetch;
mod files;
mod peer;
mod process;
mod recovery;
mod stdin;
