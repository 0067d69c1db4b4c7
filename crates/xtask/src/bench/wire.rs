//! What a client feels on one connection with a listener: starting, echoing, reading a file, streaming output.
//!
//! The same bare client measures both peers, in alternating blocks; for output one that is barer still (`line`).

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use exedra_proto::base64::Base64Text;
use serde_json::{Value, json};

use super::figures::{median, rate, time};
use super::line::{self, Line};
use super::{Arena, Goal, Peers, Row, Table};
use crate::rpc::Rpc;

/// Blocks in which the peers take turns.
const BLOCKS: usize = 5;
/// Size of the file that is read, in bytes.
const FILE_BYTES: usize = 4096;
/// Size of the output that is streamed, in bytes.
const OUTPUT_BYTES: u64 = 128 << 20;

pub(super) async fn run(arena: &Arena, table: &mut Table) -> Result<()> {
    let peers = Peers::start(arena).await?;
    let file = arena.dir.join("four-kilobytes");
    std::fs::write(&file, vec![b'x'; FILE_BYTES])?;
    let rounds = |count: usize| if arena.quick { count / 5 } else { count };

    let starts = alternate(&peers, async |rpc| start_to_closed(rpc, rounds(50), unconfined).await).await;
    add(table, "/bin/true, start to closed, p50", starts, time, Goal::RatioAtMost(1.0 / 30.0))?;
    let echoes = alternate(&peers, async |rpc| echo(rpc, rounds(50)).await).await;
    add(table, "a line echoed through cat, p50", echoes, time, Goal::RatioAtMost(1.0 / 50.0))?;
    let reads = alternate(&peers, async |rpc| read_file(rpc, &file, rounds(500)).await).await;
    add(table, "fs/readFile of 4 KiB, p50", reads, time, Goal::RatioAtMost(1.0))?;
    let output = streams(&peers).await;
    add(table, "process output, median of 5", output, rate, Goal::RatioAtLeast(1.0))?;
    binary_output(&peers, table).await
}

/// Output in binary messages, which stock has not: beside our own as base64.
async fn binary_output(peers: &Peers, table: &mut Table) -> Result<()> {
    let what = "process output in binary messages, median of 5";
    let (mut raw, mut base64) = (Vec::new(), Vec::new());
    for _ in 0..BLOCKS {
        let url = &peers.ours.url;
        base64.push(stream(Line::connect(url).await?).await?);
        match stream(Line::connect_binary(url).await?).await {
            Ok(sample) => raw.push(sample),
            Err(why) => return table.lacks(what, &why),
        }
    }
    let theirs = Some((median(base64), Some("as base64")));
    table.add(&Row { what, ours: median(raw), theirs, unit: rate, goal: Goal::RatioAtLeast(1.0) })
}

fn add(
    table: &mut Table,
    what: &'static str,
    medians: Result<(f64, f64)>,
    unit: fn(f64) -> String,
    goal: Goal,
) -> Result<()> {
    match medians {
        Ok((ours, theirs)) => table.add(&Row { what, ours, theirs: Some((theirs, None)), unit, goal }),
        Err(why) => table.lacks(what, &why),
    }
}

/// Ours and theirs: the median over all samples of all blocks. Each block has a connection of its own.
async fn alternate(peers: &Peers, block: impl AsyncFn(&mut Rpc) -> Result<Vec<f64>>) -> Result<(f64, f64)> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..BLOCKS {
        for (url, samples) in [(&peers.ours.url, &mut ours), (&peers.theirs.url, &mut theirs)] {
            let mut rpc = Rpc::connect(url).await?;
            samples.extend(block(&mut rpc).await.with_context(|| format!("with {url}"))?);
        }
    }
    Ok((median(ours), median(theirs)))
}

/// `/bin/true` as it is.
pub(super) fn unconfined(id: &str) -> Value {
    start_params(id, &["/bin/true"], false)
}

/// A start of `argv` without an environment.
pub(super) fn start_params(id: &str, argv: &[&str], stdin: bool) -> Value {
    json!({ "processId": id, "argv": argv, "cwd": "/", "env": {}, "tty": false, "pipeStdin": stdin })
}

/// Whether `message` is the notification `method` about process `id`.
fn is_event(message: &Value, method: &str, id: &str) -> bool {
    message.get("method").and_then(Value::as_str) == Some(method)
        && message.pointer("/params/processId").and_then(Value::as_str) == Some(id)
}

/// Runs what `params` says so many times, one after the other; how long each took, up to its last event.
pub(super) async fn start_to_closed(rpc: &mut Rpc, rounds: usize, params: impl Fn(&str) -> Value) -> Result<Vec<f64>> {
    let mut samples = Vec::new();
    for round in 0..rounds {
        let id = format!("true-{round}");
        let params = params(&id);
        let id = params.get("processId").and_then(Value::as_str).context("no id")?.to_owned();
        let begin = Instant::now();
        let request = rpc.request("process/start", params).await?;
        let (mut answered, mut closed) = (false, None);
        while !answered || closed.is_none() {
            let message: Value = serde_json::from_str(&rpc.next().await?)?;
            ensure!(message.get("error").is_none(), "process/start: {message}");
            answered |= message.get("id").and_then(Value::as_i64) == Some(request);
            if is_event(&message, "process/closed", &id) {
                closed = Some(begin.elapsed());
            }
        }
        samples.extend(closed.map(|time| time.as_secs_f64()));
    }
    Ok(samples)
}

async fn echo(rpc: &mut Rpc, rounds: usize) -> Result<Vec<f64>> {
    let id = "cat";
    rpc.call("process/start", start_params(id, &["/bin/cat"], true)).await?;
    let mut samples = Vec::new();
    for round in 0..rounds {
        let line = Base64Text::encode(format!("line {round}\n").as_bytes()).0;
        let begin = Instant::now();
        rpc.request("process/write", json!({ "processId": id, "chunk": line, "writeId": format!("w{round}") })).await?;
        loop {
            let message: Value = serde_json::from_str(&rpc.next().await?)?;
            ensure!(message.get("error").is_none(), "process/write: {message}");
            if is_event(&message, "process/output", id) {
                let chunk = message.pointer("/params/chunk").and_then(Value::as_str);
                ensure!(chunk == Some(line.as_str()), "the echo is {message}");
                break;
            }
        }
        samples.push(begin.elapsed().as_secs_f64());
    }
    rpc.call("process/terminate", json!({ "processId": id })).await?;
    Ok(samples)
}

async fn read_file(rpc: &mut Rpc, file: &Path, rounds: usize) -> Result<Vec<f64>> {
    let params = json!({ "path": file });
    let mut samples = Vec::new();
    for _ in 0..rounds {
        let begin = Instant::now();
        let result = rpc.call("fs/readFile", params.clone()).await?;
        samples.push(begin.elapsed().as_secs_f64());
        let length = result.get("dataBase64").and_then(Value::as_str).map_or(0, str::len);
        ensure!(length == FILE_BYTES.div_ceil(3) * 4, "{length} characters of base64");
    }
    Ok(samples)
}

/// Ours and theirs, in turns.
async fn streams(peers: &Peers) -> Result<(f64, f64)> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..BLOCKS {
        for (url, samples) in [(&peers.ours.url, &mut ours), (&peers.theirs.url, &mut theirs)] {
            samples.push(stream(Line::connect(url).await?).await.with_context(|| format!("with {url}"))?);
        }
    }
    Ok((median(ours), median(theirs)))
}

/// One sample, in bytes per second. Chunks are counted and not decoded, so that this side is not what is measured.
async fn stream(mut line: Line) -> Result<f64> {
    let count = OUTPUT_BYTES.to_string();
    let start = line.request("process/start", &start_params("zeros", &["head", "-c", &count, "/dev/zero"], false));
    let begin = Instant::now();
    line.send(&start).await?;
    let mut bytes = 0;
    loop {
        let message = line.message().await?;
        if let Some(more) = line::output(message) {
            bytes += more;
            continue;
        }
        let text = String::from_utf8_lossy(message);
        if text.contains(r#""process/closed""#) {
            break;
        }
        ensure!(!text.contains(r#""error""#), "{text}");
    }
    let seconds = begin.elapsed().as_secs_f64();
    ensure!(bytes == OUTPUT_BYTES, "{bytes} bytes of {OUTPUT_BYTES} came");
    Ok(OUTPUT_BYTES as f64 / seconds)
}
