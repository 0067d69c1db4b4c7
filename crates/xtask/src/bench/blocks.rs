//! 32 MiB of a file in blocks, read and written: what `fs/readBlock` and `fs/writeBlock` move, beside a stock's own read.
//!
//! The stock here is the newest: the oldest knows no blocks. It reads the same file the same way, with the same bare
//! client (`line`), in turns with ours; blocks are asked for one after the other, and each is as large as may be. The
//! bare client makes its messages beforehand and decodes none, for either, so that it is not what is measured. Between our
//! own ends blocks are binary messages; that is measured with our client, which does all of what a client has to, and has a
//! few blocks under way at a time, as in its downloads and uploads.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use exedra_client::connect::listener;
use exedra_client::files::Files;
use exedra_proto::base64::Base64Text;
use exedra_proto::fs::OpenMode;
use exedra_proto::path::AbsolutePath;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::json;

use super::figures::{median, rate};
use super::line::Line;
use super::{Arena, Goal, Listener, Row, Table};
use crate::child::Spawn;
use crate::stock::Stock;

/// Size of a block, in bytes: the largest that there is.
const BLOCK: usize = 1 << 20;
/// Blocks in the file.
const BLOCKS: usize = 32;
/// Blocks that our client sends ahead of their answers.
const AHEAD: usize = 4;
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

    check(&ours.url, &from, &content).await.context("reading from ours")?;
    check(&theirs.url, &from, &content).await.context("reading from stock")?;
    let own = listener(&ours.url, None, Duration::from_secs(10), |_, _| {}).await?.files();
    let mut whole = Vec::new();
    own.download(&AbsolutePath::native(&from).map_err(anyhow::Error::msg)?, &mut whole, |_| {}).await?;
    ensure!(whole == content, "what our client read is something else");

    let (mut read, mut written, mut stock) = (Vec::new(), Vec::new(), Vec::new());
    let (mut own_read, mut own_written) = (Vec::new(), Vec::new());
    for _ in 0..if arena.quick { 3 } else { 9 } {
        read.push(reading(&ours.url, &from).await.context("reading from ours")?);
        stock.push(reading(&theirs.url, &from).await.context("reading from stock")?);
        // To cut off what was there takes as long as to write it, and is not what is measured.
        std::fs::write(&to, "")?;
        written.push(writing(&ours.url, &to, &content).await.context("writing to ours")?);
        ensure!(std::fs::read(&to)? == content, "what was written is something else");
        own_read.push(reading_ourselves(&own, &from).await.context("our client reads")?);
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

/// Bytes per second, with our client, which hands over the bytes.
async fn reading_ourselves(files: &Files, path: &Path) -> Result<f64> {
    let path = AbsolutePath::native(path).map_err(anyhow::Error::msg)?;
    let begin = Instant::now();
    let bytes = files.download(&path, &mut tokio::io::sink(), |_| {}).await?;
    let rate = bytes as f64 / begin.elapsed().as_secs_f64();
    ensure!(bytes as usize == BLOCK * BLOCKS, "{bytes} bytes came");
    Ok(rate)
}

/// Bytes per second, with our client, as far ahead of its answers as an upload is.
async fn writing_ourselves(files: &Files, path: &Path, content: &[u8]) -> Result<f64> {
    let path = AbsolutePath::native(path).map_err(anyhow::Error::msg)?;
    let begin = Instant::now();
    let file = files.open(&path, OpenMode::Replace).await?;
    let writes =
        content.chunks(BLOCK).enumerate().map(|(block, bytes)| file.write_block((block * BLOCK) as u64, bytes));
    stream::iter(writes).buffered(AHEAD).try_collect::<Vec<()>>().await?;
    file.close().await?;
    Ok(content.len() as f64 / begin.elapsed().as_secs_f64())
}

/// Bytes per second. Blocks are counted and not decoded.
async fn reading(url: &str, file: &Path) -> Result<f64> {
    let mut line = Line::connect(url).await?;
    let open = line.request("fs/open", &json!({ "handleId": "h", "path": uri(file) }));
    let read = |block| json!({ "handleId": "h", "offset": block * BLOCK, "len": BLOCK });
    let reads: Vec<_> = (0..BLOCKS).map(|block| line.request("fs/readBlock", &read(block))).collect();
    let close = line.request("fs/close", &json!({ "handleId": "h" }));
    let begin = Instant::now();
    line.call(&open).await?;
    for request in &reads {
        let length = line.call(request).await?.chunk().context("no chunk")?.len();
        ensure!(length == BLOCK.div_ceil(3) * 4, "{length} characters of base64");
    }
    line.call(&close).await?;
    Ok((BLOCK * BLOCKS) as f64 / begin.elapsed().as_secs_f64())
}

/// Bytes per second.
async fn writing(url: &str, file: &Path, content: &[u8]) -> Result<f64> {
    let mut line = Line::connect(url).await?;
    let open = line.request("fs/open", &json!({ "handleId": "h", "path": uri(file), "mode": "replace" }));
    let write =
        |(block, bytes)| json!({ "handleId": "h", "offset": block * BLOCK, "chunk": Base64Text::encode(bytes) });
    let writes: Vec<_> =
        content.chunks(BLOCK).enumerate().map(|block| line.request("fs/writeBlock", &write(block))).collect();
    let close = line.request("fs/close", &json!({ "handleId": "h" }));
    let begin = Instant::now();
    for request in [&open].into_iter().chain(&writes).chain([&close]) {
        line.call(request).await?;
    }
    Ok((BLOCK * BLOCKS) as f64 / begin.elapsed().as_secs_f64())
}

/// Reads the file once, and looks at every byte.
async fn check(url: &str, file: &Path, content: &[u8]) -> Result<()> {
    let mut line = Line::connect(url).await?;
    let open = line.request("fs/open", &json!({ "handleId": "h", "path": uri(file) }));
    line.call(&open).await?;
    for (block, bytes) in content.chunks(BLOCK).enumerate() {
        let read = line.request("fs/readBlock", &json!({ "handleId": "h", "offset": block * BLOCK, "len": BLOCK }));
        let chunk = line.call(&read).await?.chunk().context("no chunk")?.to_vec();
        ensure!(chunk == Base64Text::encode(bytes).0.as_bytes(), "block {block} is something else");
    }
    Ok(())
}

/// As the newest wants paths.
fn uri(path: &Path) -> String {
    format!("file://{}", path.display())
}
