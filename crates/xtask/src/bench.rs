//! How fast and how small: each figure of ours beside that of a stock Codex, in one run and as a ratio.
//!
//! In flow the release binary and the pinned stock program, out flows a table. Peers take turns in short blocks, so
//! that a busy moment of the machine hits both.

mod cold;
mod confined;
mod crowd;
mod figures;
mod footprint;
mod sshd;
mod table;
mod wire;

use std::path::{Path, PathBuf};

use anyhow::Result;

use self::table::{Goal, Row, Table};
use crate::child::{Running, Spawn};
use crate::stock::Stock;
use figures::READY;

/// What a run needs.
#[derive(Debug)]
pub struct Arena {
    /// Our binary, as released.
    pub exedra: PathBuf,
    /// The stock program.
    pub stock: Stock,
    /// Where homes, records and logs of this run go.
    pub dir: PathBuf,
    /// Fewer rounds, for a look.
    pub quick: bool,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything was measured and meets its target.
    Met,
    /// Everything was measured, and something misses its target.
    Missed,
    /// Something could not be measured.
    Unmeasured,
}

/// Measures everything and prints the table.
///
/// # Errors
/// The run itself could not go on.
pub async fn run(arena: &Arena) -> Result<Outcome> {
    let mut table = Table::new(&arena.stock.version)?;
    if let Err(why) = footprint::run(arena, &mut table).await {
        table.lacks("size and memory", &why)?;
    }
    if let Err(why) = wire::run(arena, &mut table).await {
        table.lacks("figures of one connection", &why)?;
    }
    if let Err(why) = confined::run(arena, &mut table).await {
        table.lacks("figures of a sandbox", &why)?;
    }
    if let Err(why) = crowd::run(arena, &mut table).await {
        table.lacks("figures of many", &why)?;
    }
    if let Err(why) = cold::run(arena, &mut table).await {
        table.lacks("figures of a cold exec", &why)?;
    }
    Ok(table.outcome())
}

/// The two peers as listeners.
struct Peers {
    ours: Listener,
    theirs: Listener,
}

/// A listener as a process.
struct Listener {
    process: Running,
    url: String,
}

impl Peers {
    async fn start(arena: &Arena) -> Result<Self> {
        let home = arena.dir.join("stock-home");
        std::fs::create_dir_all(&home)?;
        let ours = Listener::start(Spawn::new(&arena.exedra), "ours", &arena.dir).await?;
        let theirs = Listener::start(arena.stock.spawn(&home), "theirs", &arena.dir).await?;
        Ok(Self { ours, theirs })
    }
}

impl Listener {
    async fn start(program: Spawn, name: &str, dir: &Path) -> Result<Self> {
        let mut process = program.args(["exec-server", "--listen", "ws://127.0.0.1:0"]).start(name, dir)?;
        let url = process.first_line(READY).await?;
        Ok(Self { process, url })
    }
}
