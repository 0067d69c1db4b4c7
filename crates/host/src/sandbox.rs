//! What a client's sandbox means on this machine, and how a process puts itself into one.
//!
//! In flows a [`SandboxContext`](exedra_proto::sandbox::SandboxContext). `survey` looks at the disk, `rules` resolves by the
//! most specific path, `plan` says what is to be mounted, granted and filtered: all of that happens in the executor, with
//! all that could not be enforced refused. A [`Job`] carries the plan to a process of its own, which makes its `view` of the
//! files, raises its `fence` (capabilities, Landlock, `filter`) and only then does what it was started for.
//! Nothing here starts a process.

mod around;
mod disk;
mod fence;
mod filter;
mod glob;
mod job;
mod loopback;
mod mounts;
mod narrow;
mod own;
mod placeholder;
mod plan;
mod rules;
mod support;
mod survey;
mod view;

pub use exedra_proto::sandbox::Access;
pub use fence::{Landlock, landlock};
pub use job::{Command, Job, Raw, Reply, Task, encode, length, receive, send};
pub use placeholder::Placeholders;
pub use plan::{Draft, Plan, trials};
pub use support::{Part, Strength, Support};
pub use survey::{MINIMAL, Refused, Wanted, draft, rules};

use std::io;

/// Puts this process, which has a single thread, into the sandbox. With `namespaces` it was born into some.
///
/// # Errors
/// The step that failed: nothing may run then.
pub fn enter(plan: &Plan, namespaces: bool) -> io::Result<()> {
    if namespaces {
        view::make(plan).map_err(|error| step("its view of the files", &error))?;
        if !plan.network {
            loopback::up().map_err(|error| step("its network", &error))?;
        }
    }
    fence::raise(plan, namespaces)
}

fn step(what: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("the sandbox could not make {what}: {error}"))
}
