//! What many feel together: a rate of short commands over many connections, and the memory that idle sessions take.
//!
//! And what the executor adds to a bare start: `/bin/true` through it and without it, in turns in one process.

use std::ffi::OsStr;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::figures::{median, per_second, size, time};
use super::wire::{start_to_closed, unconfined};
use super::{Arena, Goal, Listener, Peers, Row, Table};
use crate::child::Spawn;
use crate::rpc::Rpc;

/// Connections that run commands at the same time.
const CROWD: usize = 32;
/// Blocks in which the peers take turns.
const BLOCKS: usize = 3;
/// Idle connections, each with a session.
const IDLE: usize = 1000;

pub(super) async fn run(arena: &Arena, table: &mut Table) -> Result<()> {
    let peers = Peers::start(arena).await?;
    let rounds = if arena.quick { 5 } else { 20 };
    let what = "32 connections, commands per second";
    match rates([&peers.ours.url, &peers.theirs.url], BLOCKS, rounds).await {
        Ok((ours, theirs)) => {
            let goal = Goal::RatioAtLeast(1.5);
            table.add(&Row { what, ours, theirs: Some((theirs, None)), unit: per_second, goal })?;
        }
        Err(why) => table.lacks(what, &why)?,
    }
    let what = "32 connections with --audit, commands per second";
    match audited(arena, &peers.ours.url, rounds).await {
        Ok((with, without)) => {
            let goal = Goal::RatioAtLeast(0.9);
            table.add(&Row { what, ours: with, theirs: Some((without, Some("without"))), unit: per_second, goal })?;
        }
        Err(why) => table.lacks(what, &why)?,
    }
    let what = "/bin/true beside a bare start and wait, p50";
    match beside_bare(&peers.ours, rounds * 10).await {
        Ok((ours, bare)) => {
            let goal = Goal::RatioAtMost(2.0);
            table.add(&Row { what, ours, theirs: Some((bare, Some("bare"))), unit: time, goal })?;
        }
        Err(why) => table.lacks(what, &why)?,
    }
    let what = "an idle connection with its session";
    match idle(arena).await {
        Ok(ours) => table.add(&Row { what, ours, theirs: None, unit: size, goal: Goal::AtMost(24.0 * 1024.0) }),
        Err(why) => table.lacks(what, &why),
    }
}

/// Of two listeners, which take turns.
async fn rates(urls: [&str; 2], blocks: usize, rounds: usize) -> Result<(f64, f64)> {
    let mut samples = [Vec::new(), Vec::new()];
    for _ in 0..blocks {
        for (url, samples) in urls.iter().zip(&mut samples) {
            let mut crowd = try_join_all((0..CROWD).map(|_| Rpc::connect(url))).await?;
            let begin = Instant::now();
            let all = try_join_all(crowd.iter_mut().map(|rpc| start_to_closed(rpc, rounds, unconfined)));
            let commands: usize = all.await.with_context(|| format!("with {url}"))?.iter().map(Vec::len).sum();
            ensure!(commands == CROWD * rounds, "{commands} commands ended");
            samples.push(commands as f64 / begin.elapsed().as_secs_f64());
        }
    }
    let [first, second] = samples;
    Ok((median(first), median(second)))
}

/// The rate of the same binary with an audit, and of one without. The difference is small: it takes more blocks.
async fn audited(arena: &Arena, without: &str, rounds: usize) -> Result<(f64, f64)> {
    let (dir, identity) = (arena.dir.join("audit"), arena.dir.join("identity"));
    let flags = [OsStr::new("--audit"), dir.as_os_str(), OsStr::new("--identity"), identity.as_os_str()];
    let with = Listener::start_with(Spawn::new(&arena.exedra), &flags, "audited", &arena.dir).await?;
    rates([&with.url, without], 3 * BLOCKS, rounds).await
}

async fn beside_bare(ours: &Listener, rounds: usize) -> Result<(f64, f64)> {
    let mut rpc = Rpc::connect(&ours.url).await?;
    let (mut through, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..10 {
        // A session of its own: ids are used once.
        through.extend(start_to_closed(&mut rpc, rounds / 10, unconfined).await?);
        rpc = Rpc::connect(&ours.url).await?;
        for _ in 0..rounds / 10 {
            let begin = Instant::now();
            let mut command = Command::new("/bin/true");
            let status = command.env_clear().stdin(Stdio::null()).status()?;
            ensure!(status.success(), "{status}");
            bare.push(begin.elapsed().as_secs_f64());
        }
    }
    Ok((median(through), median(bare)))
}

/// Bytes of memory for each of many connections that do nothing.
async fn idle(arena: &Arena) -> Result<f64> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).context("this needs many descriptors")?;
    let listener = Listener::start(Spawn::new(&arena.exedra), "idle", &arena.dir).await?;
    let first = Rpc::connect(&listener.url).await?;
    let before = listener.process.resident()?;
    let mut idle = Vec::new();
    for _ in 0..IDLE {
        idle.push(Rpc::connect(&listener.url).await?);
    }
    let after = listener.process.resident()?;
    drop((first, idle));
    Ok((after - before) / IDLE as f64)
}
