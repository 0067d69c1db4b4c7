//! Our server goes away for a while: our executor works after it, without a restart of its own.
//!
//! The pause is real time on purpose: it is longer than the executor's longest usual back-off and than the time after
//! which a silent peer counts as gone would need to be noticed by a connection that was not closed.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::time::sleep;

use super::World;
use crate::child::Running;
use crate::plane::{EXEC, Plane, TRACE};
use crate::report::Report;

/// The executor's id.
const ID: &str = "ours-1";
/// How long the server is away.
const AWAY: Duration = Duration::from_secs(40);

/// All checks of this part.
pub(super) async fn run(world: &World, report: &Report) -> Result<()> {
    let dir = world.folder("restart")?;
    let start = async {
        let plane = Plane::start(&world.exedra, &dir, true).await?;
        let executor = plane.executor(ID).await?;
        works(&plane, &dir, "before").await?;
        Ok((plane, executor))
    };
    let started = report.check("restart: our executor works behind our server", start).await?;
    let Some((mut plane, executor)) = started else { return Ok(()) };
    let pause = async {
        plane.stop().await?;
        sleep(AWAY).await;
        plane.start_again().await
    };
    report.check("restart: the server is stopped for 40 s and started again", pause).await?;
    report.check("restart: the executor works again", works(&plane, &dir, "after")).await?;
    report.check("restart: it is the same process", same(executor)).await?;
    world.tell_secrets(&plane);
    Ok(())
}

async fn works(plane: &Plane, dir: &Path, word: &str) -> Result<()> {
    let script = "echo \"$1 $((6*7))\"; exit 3";
    // The executor's back-off has grown to 30 s by then, and has its jitter.
    let args = ["--wait", "45s", ID, "--", "sh", "-c", script, "sh", word];
    let output = plane.exec(&args).env(TRACE.0, TRACE.1).output(EXEC).await?;
    std::fs::write(dir.join(format!("exec-{word}.err")), &output.stderr)?;
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.code() == Some(3), "exec ended with {}: {}", output.status, end(&stderr));
    ensure!(stdout == format!("{word} 42\n"), "stdout was {stdout:?}");
    Ok(())
}

/// The last lines of a log at trace level.
fn end(log: &str) -> &str {
    let from = log.rmatch_indices('\n').nth(5).map_or(0, |(at, _)| at);
    log.get(from..).unwrap_or(log).trim()
}

async fn same(mut executor: Running) -> Result<()> {
    ensure!(!executor.has_ended()?, "the executor ended");
    let status = executor.stop().await?;
    ensure!(status.success(), "it ended with {status} after SIGTERM");
    Ok(())
}
