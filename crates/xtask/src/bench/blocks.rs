//! 32 MiB of a file in blocks, read and written: what `fs/readBlock` and `fs/writeBlock` move, beside a stock's own read.
//!
//! The stock here is the newest: the oldest knows no blocks. It reads the same file the same way, with the same bare
//! client, in turns with ours; blocks are asked for one after the other, and each is as large as may be.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use exedra_proto::base64::Base64Text;
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
    for _ in 0..if arena.quick { 3 } else { 9 } {
        read.push(reading(&mut Rpc::connect(&ours.url).await?, &from).await.context("reading from ours")?);
        stock.push(reading(&mut Rpc::connect(&theirs.url).await?, &from).await.context("reading from stock")?);
        written.push(writing(&mut Rpc::connect(&ours.url).await?, &to, &content).await.context("writing to ours")?);
        ensure!(std::fs::read(&to)? == content, "what was written is something else");
    }
    let theirs = Some((median(stock), Some(NEWEST)));
    let goal = Goal::RatioAtLeast(2.0);
    table.add(&Row { what: "reading 32 MiB by blocks", ours: median(read), theirs, unit: rate, goal })?;
    table.add(&Row { what: "writing 32 MiB by blocks, beside a read", ours: median(written), theirs, unit: rate, goal })
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
