//! Relay frames in the clear (dialects B and C): a stock Codex and ours at either end of the test kit's rendezvous.
//!
//! In flows the built test kit, out flow checks with those versions that speak such frames. Two clients share the one socket of
//! our executor.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{World, as_client};
use crate::child::{Running, Spawn};
use crate::model::{Model, Wish};
use crate::plane::{EXEC, TRACE};
use crate::report::Report;
use crate::stock::Stock;

/// Versions that speak relay frames in the clear.
const CLIENTS: std::ops::RangeInclusive<u32> = 131..=133;
/// The one of them that registers with a token of its own choice.
const EXECUTOR: u32 = 131;
/// Any executor's id.
const ID: &str = "relay-1";
/// For a process to say that it is ready.
const READY: Duration = Duration::from_secs(20);
/// Taken by the test kit, which does not look at it.
const TOKEN: (&str, &str) = ("CODEX_EXEC_SERVER_REMOTE_BEARER_TOKEN", "any-token");

/// All checks of this part.
pub(super) async fn run(world: &World, report: &Report) -> Result<()> {
    let Some(streams) = &world.streams else { return Ok(()) };
    let stocks: Vec<&Stock> = world.clients.iter().filter(|stock| CLIENTS.contains(&stock.minor())).collect();
    report.check("relay: stock clients share our executor's socket", clients(world, streams, &stocks)).await?;
    for stock in stocks.iter().filter(|stock| stock.minor() == EXECUTOR) {
        let name = format!("relay: our client runs a command on a stock {}", stock.version);
        report.check(&name, executor(world, streams, stock)).await?;
    }
    Ok(())
}

/// The test kit's plane, until it is dropped.
struct Streams {
    _process: Running,
    registry: String,
    harness: String,
}

impl Streams {
    async fn start(program: &Path, logs: &Path) -> Result<Self> {
        let mut process = Spawn::new(program).start("streams", logs)?;
        let line = process.first_line(READY).await?;
        let said: Value = serde_json::from_str(&line).with_context(|| format!("it said {line:?}"))?;
        let member = |name| said.get(name).and_then(Value::as_str).map(str::to_owned).context("a URL is missing");
        Ok(Self { registry: member("registry")?, harness: member("harness")?, _process: process })
    }
}

async fn clients(world: &World, streams: &Path, stocks: &[&Stock]) -> Result<()> {
    ensure!(stocks.len() > 1, "there are not two versions to try");
    let logs = world.folder("relay-clients")?;
    let plane = Streams::start(streams, &logs).await?;
    let ours = Spawn::new(&world.exedra).env(TRACE.0, TRACE.1);
    let executor = register(&ours, &plane, &logs).await?;
    let pid = executor.pid()?;
    let turns = stocks.iter().map(|stock| turn(world, stock, &plane));
    for (stock, output) in stocks.iter().zip(futures_util::future::join_all(turns).await) {
        let output = output.with_context(|| format!("with {}", stock.version))?;
        for text in [format!("exedra:{pid}\n"), "out-42".to_owned(), "exited with code 7".to_owned()] {
            ensure!(output.contains(&text), "with {}: {text:?} is not in {output:?}", stock.version);
        }
    }
    Ok(())
}

async fn turn(world: &World, stock: &Stock, plane: &Streams) -> Result<String> {
    let logs = world.folder(&format!("relay-client-{}", stock.version))?;
    let (home, work) = (logs.join("home"), logs.join("work"));
    std::fs::create_dir(&home)?;
    std::fs::create_dir(&work)?;
    let model = Model::start([("go", Wish::Run(as_client::COMMAND.to_owned()))]).await?;
    std::fs::write(home.join("config.toml"), model.config())?;
    let client = stock.spawn(&home).env("STAND_IN_KEY", "any").env("CODEX_EXEC_SERVER_URL", &plane.harness);
    let sandbox = [as_client::UNCONFINED.to_owned()];
    as_client::Client { spawn: &client, sandbox: &sandbox }.exec(&work, &logs, &model).await
}

async fn executor(world: &World, streams: &Path, stock: &Stock) -> Result<()> {
    let logs = world.folder("relay-executor")?;
    let home = logs.join("home");
    std::fs::create_dir(&home)?;
    let plane = Streams::start(streams, &logs).await?;
    let _executor = register(&stock.spawn(&home), &plane, &logs).await?;
    let script = "cat /proc/$PPID/comm; echo err >&2; exit 7";
    let exec = Spawn::new(&world.exedra).args(["exec", "--url", &plane.harness, "--", "sh", "-c", script]);
    let output = exec.output(EXEC).await?;
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.code() == Some(7), "exec ended with {}: {stdout:?}, {stderr:?}", output.status);
    ensure!(stdout == "codex\n" && stderr == "err\n", "it said {stdout:?} and {stderr:?}");
    Ok(())
}

async fn register(spawn: &Spawn, plane: &Streams, logs: &Path) -> Result<Running> {
    let spawn = spawn.clone().args(["exec-server", "--remote", &plane.registry, "--executor-id", ID]);
    let mut executor = spawn.env(TOKEN.0, TOKEN.1).start("executor", logs)?;
    executor.says("registered with executor_id", READY).await?;
    Ok(executor)
}
