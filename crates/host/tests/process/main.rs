//! Processes through the public interface, with real children.

mod ending;
mod output;
mod pty;
mod rig;
mod start;
mod stdin;
