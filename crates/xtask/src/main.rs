//! `cargo xtask COMMAND`.

use std::cell::RefCell;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use xtask::bench::{self, Arena, Outcome};
use xtask::build::{self, Profile};
use xtask::durable;
use xtask::interop::{self, World};
use xtask::load::light::Manners;
use xtask::load::{self, Load};
use xtask::rolling::{self, Rolling};
use xtask::soak;
use xtask::stock::Stock;
use xtask::units;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "What the repository needs beside the product", arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Check the house rules: crate edges, module cycles, sizes, docs, names
    Tidy {
        /// Another checkout than the one that this was built from
        #[arg(long, value_name = "DIR")]
        root: Option<PathBuf>,
    },
    /// Run Exedra and a stock Codex against each other, as real processes
    Interop {
        /// This binary in place of one that is built now
        #[arg(long, value_name = "FILE")]
        exedra: Option<PathBuf>,
        /// With every version that is pinned, not only the oldest and the newest, and with relay frames
        #[arg(long)]
        all: bool,
    },
    /// Measure Exedra beside a stock Codex and print figures and ratios
    Bench {
        /// End with 1 if a target is missed
        #[arg(long)]
        check: bool,
        /// Fewer rounds, for a look
        #[arg(long)]
        quick: bool,
        /// Only these figures
        #[arg(long, value_enum)]
        only: Option<Figures>,
        /// This binary in place of a release build that is made now
        #[arg(long, value_name = "FILE")]
        exedra: Option<PathBuf>,
    },
    /// Connect thousands of light executors with one server, and print what they cost and how they come back
    Load(LoadArgs),
    /// Run the seeded tests at full count, in a release build; or one of the long runs with real processes
    Soak {
        /// Only this part: `durable`, `rolling` or `units` with real processes, or one of the seeded tests [default: all of these]
        #[arg(value_name = "NAME")]
        part: Option<String>,
        /// With `durable` and `rolling`: a little of it, for a look
        #[arg(long, requires = "part")]
        quick: bool,
        /// With `durable`, `rolling` and `units`: this binary in place of a release build that is made now
        #[arg(long, value_name = "FILE", requires = "part")]
        exedra: Option<PathBuf>,
        /// So many cases in place of the full count
        #[arg(long, value_name = "N")]
        cases: Option<u64>,
    },
}

/// Figures that are measured together.
#[derive(Clone, Copy, ValueEnum)]
enum Figures {
    /// Size and memory
    Footprint,
    /// Of one connection
    Wire,
    /// Of files by blocks
    Blocks,
    /// Of a sandbox
    Confined,
    /// Of many connections
    Crowd,
    /// Of what stands between two ends, with nginx and haproxy beside it
    Between,
    /// Of these, what a message takes longer
    Latency,
    /// Of these, the throughput of a pair
    Transfer,
    /// Of these, the throughput of many streams
    Streams,
    /// Of these, how many clients may come
    Connects,
    /// Of a cold exec
    Cold,
}

impl Figures {
    fn part(self) -> bench::Part {
        match self {
            Self::Footprint => bench::Part::Footprint,
            Self::Wire => bench::Part::Wire,
            Self::Blocks => bench::Part::Blocks,
            Self::Confined => bench::Part::Confined,
            Self::Crowd => bench::Part::Crowd,
            Self::Between => bench::Part::Between,
            Self::Latency => bench::Part::Latency,
            Self::Transfer => bench::Part::Transfer,
            Self::Streams => bench::Part::Streams,
            Self::Connects => bench::Part::Connects,
            Self::Cold => bench::Part::Cold,
        }
    }
}

#[derive(Args)]
struct LoadArgs {
    /// How many executors
    #[arg(long, default_value_t = 5_000)]
    executors: usize,
    /// How long the server is watched while all are idle, in seconds
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    idle: u64,
    /// How often the server is killed and started again
    #[arg(long, default_value_t = 1)]
    kills: usize,
    /// By whose rules the executors come back
    #[arg(long, value_enum, default_value_t = Rules::Ours)]
    manners: Rules,
    /// The listening socket is held outside the server and outlives it
    #[arg(long)]
    held: bool,
    /// End with 1 if a target is missed
    #[arg(long)]
    check: bool,
    /// This binary in place of a release build that is made now
    #[arg(long, value_name = "FILE")]
    exedra: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Rules {
    Ours,
    Stock,
}

/// The run with real processes: kills of the server during writes, and the system calls between a write and its answer.
const DURABLE: &str = "durable";
/// The soak with restarts.
const ROLLING: &str = "rolling";
/// The run of the units under a systemd.
const UNITS: &str = "units";
/// Kills of a durability run.
const KILLS: usize = 50;

fn main() -> ExitCode {
    run(Cli::parse().command).unwrap_or_else(|error| {
        let _ = writeln!(std::io::stderr(), "error: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Tidy { root: other } => tidy(&other.unwrap_or_else(root)),
        Command::Interop { exedra, all } => interop(exedra, all),
        Command::Bench { check, quick, only, exedra } => bench(check, quick, only, exedra),
        Command::Load(args) => load(args),
        Command::Soak { part: Some(part), quick, exedra, .. } if [DURABLE, ROLLING, UNITS].contains(&part.as_str()) => {
            processes(&part, quick, exedra)
        }
        Command::Soak { part, cases, .. } => Ok(exit(soak::run(&root(), part.as_deref(), cases)?)),
    }
}

/// The checkout that this binary was built from.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).map(Path::to_owned).unwrap_or_default()
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "findings are what this command is for")]
fn tidy(root: &Path) -> anyhow::Result<ExitCode> {
    let findings = xtask::tidy::check(root)?;
    for finding in &findings {
        println!("{finding}");
    }
    if findings.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("{} finding(s)", findings.len());
    Ok(ExitCode::FAILURE)
}

fn interop(exedra: Option<PathBuf>, all: bool) -> anyhow::Result<ExitCode> {
    let stock = Stock::oldest()?;
    let clients = if all { Stock::all()? } else { vec![stock.clone(), Stock::newest()?] };
    let exedra = exedra.map_or_else(|| build::exedra(&root(), Profile::Dev), Ok)?;
    let streams = all.then(|| build::streams(&root())).transpose()?;
    let dir = tempfile::Builder::new().prefix("exedra-interop-").tempdir()?;
    let world = World { exedra, stock, clients, streams, dir: dir.path().to_owned(), secrets: RefCell::default() };
    let passed = runtime()?.block_on(interop::run(&world))?;
    if !passed {
        let logs = dir.keep();
        writeln!(std::io::stderr(), "the logs of the run are in {}", logs.display())?;
    }
    Ok(exit(passed))
}

fn bench(check: bool, quick: bool, only: Option<Figures>, exedra: Option<PathBuf>) -> anyhow::Result<ExitCode> {
    if cfg!(debug_assertions) {
        // The measuring client must not be what is measured.
        return Ok(exit(build::xtask_optimised(&root(), std::env::args_os().skip(1))?));
    }
    let stock = Stock::oldest()?;
    let exedra = exedra.map_or_else(|| build::exedra(&root(), Profile::Release), Ok)?;
    let dir = tempfile::Builder::new().prefix("exedra-bench-").tempdir()?;
    let arena = Arena { exedra, stock, dir: dir.path().to_owned(), quick, only: only.map(Figures::part) };
    Ok(exit(match runtime()?.block_on(bench::run(&arena))? {
        Outcome::Met => true,
        Outcome::Missed => !check,
        Outcome::Unmeasured => false,
    }))
}

/// A long run with real processes.
fn processes(part: &str, quick: bool, exedra: Option<PathBuf>) -> anyhow::Result<ExitCode> {
    let exedra = exedra.map_or_else(|| build::exedra(&root(), Profile::Release), Ok)?;
    let dir = tempfile::Builder::new().prefix("exedra-soak-").tempdir()?;
    let rolling = if quick { Rolling::quick } else { Rolling::full };
    let kills = if quick { KILLS / 10 } else { KILLS };
    let runtime = runtime()?;
    let passed = match part {
        ROLLING => runtime.block_on(rolling::run(&rolling(exedra), dir.path()))?,
        UNITS => runtime.block_on(units::run(&exedra, &root().join("packaging"), dir.path()))?,
        _ => runtime.block_on(durable::run(&exedra, dir.path(), kills))?,
    };
    if !passed {
        writeln!(std::io::stderr(), "the logs of the run are in {}", dir.keep().display())?;
    }
    Ok(exit(passed))
}

fn load(args: LoadArgs) -> anyhow::Result<ExitCode> {
    if cfg!(debug_assertions) {
        // Thousands of executors need their share of the processor, too.
        return Ok(exit(build::xtask_optimised(&root(), std::env::args_os().skip(1))?));
    }
    let dir = tempfile::Builder::new().prefix("exedra-load-").tempdir()?;
    let load = Load {
        exedra: args.exedra.map_or_else(|| build::exedra(&root(), Profile::Release), Ok)?,
        dir: dir.path().to_owned(),
        executors: args.executors,
        manners: match args.manners {
            Rules::Ours => Manners::Ours,
            Rules::Stock => Manners::Stock,
        },
        held: args.held,
        idle: Duration::from_secs(args.idle),
        kills: args.kills,
    };
    let met = runtime()?.block_on(load::run(&load))?;
    Ok(exit(met || !args.check))
}

fn exit(good: bool) -> ExitCode {
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}
