//! How much room it takes: the binary on disk, and an idle listener in memory.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use tokio::time::sleep;

use super::figures::size;
use super::{Arena, Goal, Listener, Peers, Row, Table};
use crate::rpc::Rpc;

/// How long a listener is left alone before its memory is read. Not a proof of anything, only a calm moment.
const CALM: Duration = Duration::from_secs(1);

pub(super) async fn run(arena: &Arena, table: &mut Table) -> Result<()> {
    let what = "size of the binary";
    let bytes = |path| Ok::<f64, anyhow::Error>(std::fs::metadata(path)?.len() as f64);
    let (ours, theirs) = (bytes(&arena.exedra)?, bytes(&arena.stock.program)?);
    table.add(&Row { what, ours, theirs: Some((theirs, None)), unit: size, goal: Goal::AtMost(25e6) })?;

    let peers = Peers::start(arena).await?;
    let what = "resident memory, idle after the start";
    memory(&peers, what, table).await?;
    for listener in [&peers.ours, &peers.theirs] {
        use_once(listener).await?;
    }
    memory(&peers, "resident memory, idle after a client", table).await
}

async fn memory(peers: &Peers, what: &'static str, table: &mut Table) -> Result<()> {
    sleep(CALM).await;
    match (peers.ours.process.resident(), peers.theirs.process.resident()) {
        (Ok(ours), Ok(theirs)) => {
            table.add(&Row { what, ours, theirs: Some((theirs, None)), unit: size, goal: Goal::AtMost(10e6) })
        }
        (Err(why), _) | (_, Err(why)) => table.lacks(what, &why),
    }
}

/// A client that runs a command and goes.
async fn use_once(listener: &Listener) -> Result<()> {
    let mut rpc = Rpc::connect(&listener.url).await?;
    let start = json!({ "processId": "p", "argv": ["/bin/true"], "cwd": "/", "env": {}, "tty": false });
    rpc.call("process/start", start).await?;
    rpc.call("process/read", json!({ "processId": "p", "waitMs": 5000 })).await?;
    Ok(())
}
