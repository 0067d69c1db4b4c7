//! `serve --bind-key` and stock executors with Noise: another one of the same name is refused and ends, and takes nothing from who has it;
//! each makes a key of its own when it starts, so that the next one is let in only once the old key was forgotten.

use std::path::Path;

use anyhow::{Result, ensure};

use super::World;
use super::held::SIGNED;
use super::noise::{self, COMING, answers};
use crate::child::{Running, Spawn};
use crate::plane::{EXEC, Plane};
use crate::report::Report;

/// The executor's id.
const ID: &str = "bound";
/// A server that binds, whatever else it is told.
const BINDING: &str = r#"exec "$0" "$@" --bind-key"#;

/// All checks of this part.
pub(super) async fn run(world: &World, report: &Report) -> Result<()> {
    let Some(stock) = world.clients.iter().rfind(|stock| stock.minor() >= SIGNED) else { return Ok(()) };
    let (dir, version) = (world.folder("bound")?, &stock.version);
    let serve = Spawn::new(Path::new("sh")).args(["-c", BINDING]).arg(&world.exedra);
    let start = Plane::start_wrapped(serve, &world.exedra, &dir);
    let Some(plane) = report.check("bound: a server that binds names to keys", start).await? else { return Ok(()) };
    let plane = &plane;
    let start = |name: &str| noise::start(plane, world, stock, ID, (&format!("bound/{name}"), &dir));
    let first = async {
        let first = start("first")?;
        answers(plane, ID).await?;
        Ok(first)
    };
    let Some(mut first) = report.check(&format!("bound: a stock {version} binds its name"), first).await? else {
        return Ok(());
    };
    let another = async {
        refused(start("another")?).await?;
        answers(plane, ID).await?;
        ensure!(!first.has_ended()?, "the first one ended: {}", first.tail());
        Ok(())
    };
    report.check("bound: another of the same name is refused and ends, the first one stays", another).await?;
    let anew = async {
        first.kill().await?;
        refused(start("anew")?).await?;
        let forget = Spawn::new(&world.exedra).args(["forget-key", ID, "--data-dir"]).arg(dir.join("data"));
        forget.text(EXEC).await?;
        let _anew = start("forgotten")?;
        answers(plane, ID).await
    };
    report.check("bound: started again it is refused, until its old key is forgotten", anew).await?;
    world.tell_secrets(plane);
    Ok(())
}

async fn refused(mut executor: Running) -> Result<()> {
    let status = executor.wait(COMING).await?;
    let told = executor.tail();
    ensure!(
        !status.success() && told.contains("403 Forbidden") && told.contains("bound to a key"),
        "it ended with {status}: {told}"
    );
    Ok(())
}
