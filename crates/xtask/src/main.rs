//! `cargo xtask COMMAND`.

use std::cell::RefCell;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xtask::bench::{self, Arena, Outcome};
use xtask::build::{self, Profile};
use xtask::interop::{self, World};
use xtask::soak;
use xtask::stock::Stock;

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
        /// This binary in place of a release build that is made now
        #[arg(long, value_name = "FILE")]
        exedra: Option<PathBuf>,
    },
    /// Run the seeded tests at full count, in a release build
    Soak {
        /// How many cases for each
        #[arg(long, default_value_t = 10_000)]
        cases: u64,
    },
}

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
        Command::Bench { check, quick, exedra } => bench(check, quick, exedra),
        Command::Soak { cases } => Ok(exit(soak::run(&root(), cases)?)),
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

fn bench(check: bool, quick: bool, exedra: Option<PathBuf>) -> anyhow::Result<ExitCode> {
    if cfg!(debug_assertions) {
        // The measuring client must not be what is measured.
        return Ok(exit(build::xtask_optimised(&root(), std::env::args_os().skip(1))?));
    }
    let stock = Stock::oldest()?;
    let exedra = exedra.map_or_else(|| build::exedra(&root(), Profile::Release), Ok)?;
    let dir = tempfile::Builder::new().prefix("exedra-bench-").tempdir()?;
    let arena = Arena { exedra, stock, dir: dir.path().to_owned(), quick };
    Ok(exit(match runtime()?.block_on(bench::run(&arena))? {
        Outcome::Met => true,
        Outcome::Missed => !check,
        Outcome::Unmeasured => false,
    }))
}

fn exit(good: bool) -> ExitCode {
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}
