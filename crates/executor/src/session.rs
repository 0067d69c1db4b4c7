//! Sessions: containers of processes that outlive a connection.
//!
//! In flow connections that open, resume and lose them, out flow events of their processes and, when their time is
//! over, their end. What a message says is not known here.

pub mod attach;
pub mod holder;
pub mod outbox;
pub mod reaper;
pub mod store;
pub mod table;
pub mod tally;

pub use store::{Session, Sessions};
