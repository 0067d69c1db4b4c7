//! Stock listeners of every version, to which `exedra exec --url` and the client library go straight: whichever form of
//! paths they read.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use exedra_client::Executor;
use exedra_client::connect::listener;

use super::World;
use crate::child::Spawn;
use crate::plane::EXEC;
use crate::report::Report;

/// For it to listen, and for the session.
const READY: Duration = Duration::from_secs(30);

/// All checks of this part.
pub(super) async fn run(world: &World, report: &Report) -> Result<()> {
    for stock in &world.clients {
        let who = format!("stock {} as listener", stock.version);
        let dir = world.folder(&format!("as-listener-{}", stock.version))?;
        let home = world.folder(&format!("as-listener-{}/home", stock.version))?;
        let mut process =
            stock.spawn(&home).args(["exec-server", "--listen", "ws://127.0.0.1:0"]).start("stock", &dir)?;
        let url = process.first_line(READY).await?;
        report.check(&format!("{who}: exec --url with --cwd"), directories(world, &url, &home)).await?;
        super::files::run(connect(&url), &who, &dir, report).await?;
    }
    Ok(())
}

async fn connect(url: &str) -> Result<Executor> {
    Ok(listener(url, None, READY, |_, _| {}).await?)
}

/// An absolute working directory, a relative one, and none.
async fn directories(world: &World, url: &str, home: &Path) -> Result<()> {
    let below = home.join("a b");
    std::fs::create_dir_all(&below)?;
    let absolute = below.display().to_string();
    for (cwd, seen) in [(Some(absolute.as_str()), &*below), (Some("a b"), &below), (None, home)] {
        let exec = Spawn::new(&world.exedra).clean_env().args(["exec", "--url", url]);
        let exec = exec.args(cwd.iter().flat_map(|cwd| ["--cwd", cwd])).args(["--", "sh", "-c", "pwd; exit 7"]);
        let output = exec.output(EXEC).await?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(7), "with {cwd:?} exec ended with {}: {said}", output.status);
        let (found, expected) = (String::from_utf8_lossy(&output.stdout), format!("{}\n", seen.display()));
        ensure!(found == expected, "with {cwd:?} it ran in {found:?}, not in {expected:?}");
    }
    Ok(())
}
