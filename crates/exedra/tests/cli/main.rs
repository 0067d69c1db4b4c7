//! The real binary, driven as people and scripts drive it: arguments, streams, exit codes, signals.

#![cfg(test)]

mod audit;
mod cut;
mod doctor;
mod exec;
mod exec_server;
mod fleet;
mod handover;
mod join;
mod keys;
mod memory;
mod owner;
mod plane;
mod policy;
mod program;
mod sandbox;
mod secrets;
mod serve;
mod siege;
mod signals;
mod starts;
mod systemd;
mod terminal;
mod tls;
mod token;
mod traces;
mod units;
mod unread;
mod up;
mod usage;
mod workloads;
