//! A stock Codex as client of our listener: its tool call is run by our process.
//!
//! The model behind it is a stand-in, so that no account is needed. The command tells who ran it, and that is
//! compared with the process that we started.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::World;
use crate::child::{Running, Spawn};
use crate::model::Model;
use crate::plane::TRACE;
use crate::report::Report;

/// Prints the process that runs the shell, something computed, and ends with a code of its own.
const COMMAND: &str = "cat /proc/$PPID/comm; echo $PPID; echo out-$((6*7)); echo err-$((6*8)) >&2; exit 7";
/// For a whole turn of the stock client.
const TURN: Duration = Duration::from_secs(90);

/// All checks of this part.
pub(super) async fn run(world: &World, report: &Report) -> Result<()> {
    let turn = report.check("stock as client: a turn with one tool call ends well", turn(world)).await?;
    let Some(Turn { output, pid }) = turn else { return Ok(()) };
    let has = |text: String| {
        let found = output.contains(&text);
        let shown = output.clone();
        async move {
            ensure!(found, "{text:?} is not in {shown:?}");
            Ok(())
        }
    };
    report.check("stock as client: our process ran the command", has(format!("exedra\n{pid}\n"))).await?;
    report.check("stock as client: its stdout came back", has("out-42".to_owned())).await?;
    report.check("stock as client: its stderr came back", has("err-48".to_owned())).await?;
    report.check("stock as client: its exit code came back", has("exited with code 7".to_owned())).await?;
    Ok(())
}

struct Turn {
    /// What the tool gave back to the model.
    output: String,
    /// The process that serves.
    pid: u32,
}

async fn turn(world: &World) -> Result<Turn> {
    let (mut server, url) = listener(world).await?;
    let model = Model::start(COMMAND).await?;
    let (home, work) = (world.folder("client-home")?, world.folder("client-work")?);
    std::fs::write(home.join("config.toml"), model.config())?;
    let client = world.stock.spawn(&home).env("STAND_IN_KEY", "any").env("CODEX_EXEC_SERVER_URL", &url);
    let client = client
        .args(["exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", "-C"])
        .arg(&work)
        .arg("go");
    let mut client = client.start("stock-client", &world.dir)?;
    let status = client.wait(TURN).await?;
    ensure!(status.success(), "the client ended with {status}; {}", client.tail());
    let output = model.outputs().pop().with_context(|| format!("no tool call was made; {}", client.tail()))?;
    let pid = server.pid()?;
    ensure!(!server.has_ended()?, "our listener did not stay; {}", server.tail());
    Ok(Turn { output, pid })
}

async fn listener(world: &World) -> Result<(Running, String)> {
    let spawn = Spawn::new(&world.exedra).args(["exec-server", "--listen", "ws://127.0.0.1:0"]).env(TRACE.0, TRACE.1);
    let mut server = spawn.start("listener", &world.dir)?;
    let url = server.first_line(Duration::from_secs(10)).await?;
    Ok((server, url))
}
