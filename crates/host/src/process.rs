//! The processes of one owner: started, read, written to, ended; their output kept until it is delivered.
//!
//! In flow the params of `process/*`, out flow results and [`Event`]s. Knows no session and no connection: who owns a
//! [`Table`] says when somebody is attached, and what has been delivered.
//!
//! From the bottom: `launch` starts a child, on a thread of `spawner`, with a `mark` by which `census` and `signal` find its
//! descendants; `spawn` makes its streams, `confine` starts it within a sandbox, and `denial` (pure) guesses whether that
//! made it fail; `strays` finds what lost its mark; `reap`, `wait` and `undertaker` take its end. `output`, `roster` and `ledger` (pure) keep what it wrote,
//! `hub` puts them behind a lock with wake-ups, `source`, `stdin` and `driver` move the bytes, and `table` has the calls.

mod census;
mod cgroup;
mod confine;
mod denial;
mod driver;
mod environment;
mod event;
mod explain;
mod host;
mod hub;
mod launch;
mod ledger;
mod mark;
mod observer;
mod output;
mod program;
mod pty;
mod quota;
mod reach;
mod reap;
mod roster;
mod signal;
mod source;
mod spawn;
mod spawner;
mod spool;
mod stdin;
mod strays;
mod support;
mod table;
mod undertaker;
mod wait;

pub use crate::error::{StartError, UnknownProcess, WriteFailed};
pub use crate::policy::WhenFull;
pub(crate) use confine::LAUNCHER;
pub use event::{Delivery, Event, EventKind, EventRun};
pub use explain::{Explanation, explain, warnings};
pub use host::{Host, HostConfig};
pub use launch::rest;
pub(crate) use launch::{Watched, inherited};
pub use observer::Observer;
pub use table::{Limits, Retained, Table};
