//! 32 MiB of a file in blocks, read and written: what `fs/readBlock` and `fs/writeBlock` move, beside a stock's own read.
//!
//! The stock here is the newest: the oldest knows no blocks. It reads the same file the same way, with the same bare
//! client, in turns with ours; blocks are asked for one after the other, and each is as large as may be. Between our own
//! ends blocks are binary messages; that is measured with our client, which does more than the bare one.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use exedra_client::connect::listener;
use exedra_client::files::Files;
use exedra_proto::base64::Base64Text;
use exedra_proto::fs::OpenMode;
use exedra_proto::path::AbsolutePath;
use serde_json::{Value, json};

use super::figures::{median, rate};
use super::{Arena, Goal, Listener, Row, Table};
use crate::child::Spawn;
use crate::rpc::Rpc;
use crate::stock::Stock;

/// Size of a block, in bytes: the largest that there is.
const BLOCK: usize = 1 << 20;
/// Blocks in the file.
const BLOCKS: usize = 32;
/// Name of the stock in the table.
const NEWEST: &str = "newest";

pub(super) async fn run(arena: &Arena, table: &mut Table) -> Result<()> {
    let home = arena.dir.join("newest-home");
    std::fs::create_dir_all(&home)?;
    let ours = Listener::start(Spawn::new(&arena.exedra), "blocks", &arena.dir).await?;
    let theirs = Listener::start(Stock::newest()?.spawn(&home), "newest", &arena.dir).await?;
    let (from, to) = (arena.dir.join("blocks-from"), arena.dir.join("blocks-to"));
    let content: Vec<u8> = (0..BLOCK * BLOCKS).map(|at| (at / 7).to_le_bytes()[0]).collect();
    std::fs::write(&from, &content)?;

    let (mut read, mut written, mut stock) = (Vec::new(), Vec::new(), Vec::new());
    let (mut own_read, mut own_written) = (Vec::new(), Vec::new());
    let own = listener(&ours.url, None, Duration::from_secs(10), |_, _| {}).await?.files();
    for _ in 0..if arena.quick { 3 } else { 9 } {
        read.push(reading(&mut Rpc::connect(&ours.url).await?, &from).await.context("reading from ours")?);
        stock.push(reading(&mut Rpc::connect(&theirs.url).await?, &from).await.context("reading from stock")?);
        written.push(writing(&mut Rpc::connect(&ours.url).await?, &to, &content).await.context("writing to ours")?);
        ensure!(std::fs::read(&to)? == content, "what was written is something else");
        own_read.push(reading_ourselves(&own, &from, &content).await.context("our client reads")?);
        std::fs::write(&to, "")?;
        own_written.push(writing_ourselves(&own, &to, &content).await.context("our client writes")?);
        ensure!(std::fs::read(&to)? == content, "what our client wrote is something else");
    }
    let theirs = Some((median(stock), Some(NEWEST)));
    let goal = Goal::RatioAtLeast(2.0);
    table.add(&Row { what: "reading 32 MiB by blocks", ours: median(read), theirs, unit: rate, goal })?;
    table.add(&Row {
        what: "writing 32 MiB by blocks, beside a read",
        ours: median(written),
        theirs,
        unit: rate,
        goal,
    })?;
    let what = "the same reading between our own ends";
    table.add(&Row { what, ours: median(own_read), theirs, unit: rate, goal })?;
    let what = "the same writing between our own ends";
    table.add(&Row { what, ours: median(own_written), theirs, unit: rate, goal })
}

/// Bytes per second, with our client, which gives out the bytes.
async fn reading_ourselves(files: &Files, path: &Path, content: &[u8]) -> Result<f64> {
    let path = AbsolutePath::native(path).map_err(anyhow::Error::msg)?;
    let begin = Instant::now();
    let file = files.open(&path, OpenMode::Read).await?;
    let mut read = Vec::with_capacity(BLOCKS);
    for block in 0..BLOCKS {
        read.push(file.read_block((block * BLOCK) as u64, BLOCK).await?.0);
    }
    file.close().await?;
    let rate = content.len() as f64 / begin.elapsed().as_secs_f64();
    ensure!(read.concat() == content, "what was read is something else");
    Ok(rate)
}

/// Bytes per second, with our client.
async fn writing_ourselves(files: &Files, path: &Path, content: &[u8]) -> Result<f64> {
    let path = AbsolutePath::native(path).map_err(anyhow::Error::msg)?;
    let begin = Instant::now();
    let file = files.open(&path, OpenMode::Replace).await?;
    for (block, bytes) in content.chunks(BLOCK).enumerate() {
        file.write_block((block * BLOCK) as u64, bytes).await?;
    }
    file.close().await?;
    Ok(content.len() as f64 / begin.elapsed().as_secs_f64())
}

/// Bytes per second. Blocks are counted and not decoded, so that this side is not what is measured.
async fn reading(rpc: &mut Rpc, file: &Path) -> Result<f64> {
    let begin = Instant::now();
    rpc.call("fs/open", json!({ "handleId": "h", "path": uri(file) })).await?;
    for block in 0..BLOCKS {
        rpc.request("fs/readBlock", json!({ "handleId": "h", "offset": block * BLOCK, "len": BLOCK })).await?;
        let text = rpc.next().await?;
        let (_, rest) = text.split_once(r#""chunk":""#).with_context(|| text.chars().take(200).collect::<String>())?;
        let length = rest.find('"').context("no end of the chunk")?;
        ensure!(length == BLOCK.div_ceil(3) * 4, "{length} characters of base64");
    }
    rpc.call("fs/close", json!({ "handleId": "h" })).await?;
    Ok((BLOCK * BLOCKS) as f64 / begin.elapsed().as_secs_f64())
}

/// Bytes per second. What is sent is encoded before.
async fn writing(rpc: &mut Rpc, file: &Path, content: &[u8]) -> Result<f64> {
    let chunks: Vec<Value> = content.chunks(BLOCK).map(|bytes| Base64Text::encode(bytes).0.into()).collect();
    let begin = Instant::now();
    rpc.call("fs/open", json!({ "handleId": "h", "path": uri(file), "mode": "replace" })).await?;
    for (block, chunk) in chunks.into_iter().enumerate() {
        let mut params = json!({ "handleId": "h", "offset": block * BLOCK });
        params["chunk"] = chunk;
        rpc.call("fs/writeBlock", params).await?;
    }
    rpc.call("fs/close", json!({ "handleId": "h" })).await?;
    Ok((BLOCK * BLOCKS) as f64 / begin.elapsed().as_secs_f64())
}

/// As the newest wants paths.
fn uri(path: &Path) -> String {
    format!("file://{}", path.display())
}
