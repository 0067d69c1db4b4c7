//! The executor through its real interfaces: memory links, websockets, socket files, a scripted registry.

#![cfg(test)]

mod ack;
mod audit;
mod bench;
mod binary;
mod daemon;
mod dialect;
mod door;
mod environment;
mod files;
mod flow;
mod http;
#[cfg(test)]
mod introductions;
mod join;
mod lifecycle;
mod listen;
mod model;
mod odd;
mod order;
mod policy;
mod process;
mod relay;
mod resume;
mod script;
mod takeover;
mod upload;
