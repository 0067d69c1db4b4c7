//! How fast and how small: each figure of ours beside that of a stock Codex, in one run and as a ratio.
//!
//! In flow the release binary and the pinned stock program, out flows a table. Peers take turns in short blocks, so
//! that a busy moment of the machine hits both.

mod between;
mod blocks;
mod cold;
mod confined;
mod crowd;
mod ends;
mod figures;
mod footprint;
mod line;
mod sshd;
mod table;
mod wire;

use std::ffi::OsStr;
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
    /// Only these figures.
    pub only: Option<Part>,
}

/// Figures that are measured together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Size and memory.
    Footprint,
    /// Of one connection.
    Wire,
    /// Of files by blocks.
    Blocks,
    /// Of a sandbox.
    Confined,
    /// Of many connections.
    Crowd,
    /// Of what stands between two ends: the next four.
    Between,
    /// What it adds to the time of a message.
    Latency,
    /// What one pair passes on.
    Transfer,
    /// What the streams of one executor pass on.
    Streams,
    /// How many may come.
    Connects,
    /// Of a cold exec.
    Cold,
}

impl Arena {
    /// Whether these figures are wanted.
    fn wants(&self, part: Part) -> bool {
        self.only.is_none_or(|only| only == part || only.whole() == Some(part) || part.whole() == Some(only))
    }
}

impl Part {
    /// What it is a part of.
    fn whole(self) -> Option<Self> {
        match self {
            Self::Latency | Self::Transfer | Self::Streams | Self::Connects => Some(Self::Between),
            _ => None,
        }
    }
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
    let all = [Part::Footprint, Part::Wire, Part::Blocks, Part::Confined, Part::Crowd, Part::Between, Part::Cold];
    for part in all.into_iter().filter(|part| arena.wants(*part)) {
        let (what, done) = match part {
            Part::Footprint => ("size and memory", footprint::run(arena, &mut table).await),
            Part::Wire => ("figures of one connection", wire::run(arena, &mut table).await),
            Part::Blocks => ("figures of blocks", blocks::run(arena, &mut table).await),
            Part::Confined => ("figures of a sandbox", confined::run(arena, &mut table).await),
            Part::Crowd => ("figures of many", crowd::run(arena, &mut table).await),
            Part::Between | Part::Latency | Part::Transfer | Part::Streams | Part::Connects => {
                ("figures of what stands between", between::run(arena, &mut table).await)
            }
            Part::Cold => ("figures of a cold exec", cold::run(arena, &mut table).await),
        };
        if let Err(why) = done {
            table.lacks(what, &why)?;
        }
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
        Self::start_with(program, &[], name, dir).await
    }

    /// With more flags.
    async fn start_with(program: Spawn, flags: &[&OsStr], name: &str, dir: &Path) -> Result<Self> {
        let program = program.args(["exec-server", "--listen", "ws://127.0.0.1:0"]).args(flags);
        let mut process = program.start(name, dir)?;
        let url = process.first_line(READY).await?;
        Ok(Self { process, url })
    }
}
