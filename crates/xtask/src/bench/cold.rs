//! `exedra exec` from a cold start the whole way round, beside a fresh `ssh localhost true`.
//!
//! Each sample is a process that is started, connects, runs `true` and ends. The two take turns.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::figures::{median, time};
use super::sshd::Sshd;
use super::{Arena, Goal, Row, Table};
use crate::child::Spawn;
use crate::plane::Plane;

/// For one sample.
const LIMIT: Duration = Duration::from_secs(30);
/// Name of the figure.
const WHAT: &str = "exedra exec -- true, cold, p50";

pub(super) async fn run(arena: &Arena, table: &mut Table) -> Result<()> {
    let dir = arena.dir.join("cold");
    std::fs::create_dir_all(&dir)?;
    let plane = Plane::start(&arena.exedra, &dir, false).await?;
    let _executor = plane.executor("cold").await?;
    let exec = plane.exec(&["cold", "--", "true"]);
    let ssh = match Sshd::start(&dir).await {
        Ok(Some(sshd)) => Some(sshd),
        Ok(None) => {
            table.not_here("ssh localhost true", "there is no sshd: the package is openssh-server")?;
            None
        }
        Err(why) => {
            table.not_here("ssh localhost true", &format!("{why:#}"))?;
            None
        }
    };
    match samples(arena, &exec, ssh.as_ref()).await {
        Ok((ours, theirs)) => {
            let theirs = ssh.is_some().then(|| (median(theirs), Some("ssh")));
            table.add(&Row { what: WHAT, ours: median(ours), theirs, unit: time, goal: Goal::AtMost(0.040) })
        }
        Err(why) => table.lacks(WHAT, &why),
    }
}

async fn samples(arena: &Arena, exec: &Spawn, ssh: Option<&Sshd>) -> Result<(Vec<f64>, Vec<f64>)> {
    // The first one may have to wait for the executor.
    sample(exec).await?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..if arena.quick { 10 } else { 50 } {
        ours.push(sample(exec).await?);
        if let Some(sshd) = ssh {
            theirs.push(sample(&sshd.client).await?);
        }
    }
    Ok((ours, theirs))
}

async fn sample(spawn: &Spawn) -> Result<f64> {
    let begin = Instant::now();
    let output = spawn.output(LIMIT).await?;
    let seconds = begin.elapsed().as_secs_f64();
    ensure!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    Ok(seconds)
}
