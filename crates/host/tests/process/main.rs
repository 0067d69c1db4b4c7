//! Processes through the public interface, with real children.
#![expect(clippy::unwrap_used, clippy::panic, reason = "the lints know tests by #[test], not what those call")]

mod ending;
mod limits;
mod output;
mod pty;
mod rig;
mod spool;
mod start;
mod stdin;
