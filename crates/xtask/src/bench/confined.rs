//! A sandboxed `/bin/true` over a connection, beside `bwrap` with the same mounts started from here.
//!
//! Both make user, mount, PID, IPC and network namespaces, a read-only root with devices and processes of its own, and a
//! workspace to be written to with three directories in it that are not. The two take turns.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::figures::{median, time};
use super::wire::{start_params, start_to_closed};
use super::{Arena, Goal, Listener, Row, Table};
use crate::child::Spawn;
use crate::rpc::Rpc;

/// Name of the figure.
const WHAT: &str = "/bin/true in a sandbox, p50";
/// The program beside ours.
const BWRAP: &str = "bwrap";
/// Blocks in which the two take turns.
const BLOCKS: usize = 10;
/// Samples of each in a block.
const SAMPLES: usize = 20;
/// For one sample.
const LIMIT: Duration = Duration::from_secs(10);
/// What stays as it is below a workspace.
const KEPT: [&str; 3] = [".git", ".codex", ".agents"];

pub(super) async fn run(arena: &Arena, table: &mut Table) -> Result<()> {
    let work = arena.dir.join("workspace");
    for name in KEPT {
        std::fs::create_dir_all(work.join(name))?;
    }
    let bwrap = bwrap(&work);
    let beside = bwrap.output(LIMIT).await;
    let beside = match &beside {
        Ok(output) if output.status.success() => true,
        Ok(output) => {
            table.not_here(BWRAP, String::from_utf8_lossy(&output.stderr).trim())?;
            false
        }
        Err(_) => {
            table.not_here(BWRAP, "there is none: the package is bubblewrap")?;
            false
        }
    };
    let listener = Listener::start(Spawn::new(&arena.exedra), "confined", &arena.dir).await?;
    let samples = if arena.quick { SAMPLES / 5 } else { SAMPLES };
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let mut rpc = Rpc::connect(&listener.url).await?;
    for block in 0..BLOCKS {
        let params = |id: &str| confined(&work, &format!("{block}-{id}"));
        ours.extend(start_to_closed(&mut rpc, samples, params).await?);
        for _ in 0..if beside { samples } else { 0 } {
            theirs.push(sample(&bwrap)?);
        }
    }
    let theirs = beside.then(|| (median(theirs), Some(BWRAP)));
    let goal = if beside { Goal::RatioAtMost(1.3) } else { Goal::AtMost(0.010) };
    table.add(&Row { what: WHAT, ours: median(ours), theirs, unit: time, goal })
}

/// Blocks this thread and no runtime is in between: a start as bare as can be.
fn sample(spawn: &Spawn) -> Result<f64> {
    let mut command = spawn.command()?.into_std();
    let begin = Instant::now();
    let status = command.status().context("bwrap did not start")?;
    let seconds = begin.elapsed().as_secs_f64();
    ensure!(status.success(), "bwrap ended with {status}");
    Ok(seconds)
}

fn confined(work: &Path, id: &str) -> Value {
    let special = |kind: &str, access: &str| json!({ "path": { "type": "special", "value": { "kind": kind } }, "access": access });
    let entries = [special("root", "read"), special("project_roots", "write")];
    let mut params = start_params(id, &["/bin/true"], false);
    params["sandbox"] = json!({
        "permissions": { "type": "managed", "network": "restricted",
            "file_system": { "type": "restricted", "entries": entries } },
        "cwd": work, "workspaceRoots": [work], "windowsSandboxLevel": "disabled",
    });
    params
}

fn bwrap(work: &Path) -> Spawn {
    let mut spawn = Spawn::new(Path::new(BWRAP))
        .args(["--unshare-all", "--unshare-user", "--new-session", "--die-with-parent", "--ro-bind", "/", "/"])
        .args(["--dev", "/dev", "--proc", "/proc", "--bind"])
        .args([work, work]);
    for name in KEPT {
        let path = work.join(name);
        spawn = spawn.arg("--ro-bind").args([&path, &path]);
    }
    spawn.args(["--cap-drop", "ALL", "--", "/bin/true"])
}
