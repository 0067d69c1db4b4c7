//! Sandboxed processes through the public interface, and what they try in order to get out.
#![expect(clippy::unwrap_used, reason = "the lints know tests by #[test], not what those call")]

mod agree;
mod escape;
mod files;
mod own;
mod partial;
mod policy;
mod rig;
mod run;
