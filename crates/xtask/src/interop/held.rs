//! Stock executors of every dialect outlive a restart of our server whose listening socket is held outside, as a service
//! manager holds it: a refused connect or a 5xx at registration would end them.
//!
//! Those that speak in the clear are driven by `exedra exec`, those with Noise as far as its handshake.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::World;
use super::noise::{self, COMING, answers, call};
use crate::child::Running;
use crate::plane::{EXEC, Plane};
use crate::report::Report;
use crate::stock::Stock;

/// The last minor version that registers in the clear with a token of ours.
const RELAY: u32 = 131;
/// The first with Noise.
const NOISE: u32 = 142;
/// The first that may sign its registration.
pub(super) const SIGNED: u32 = 155;
/// How long the server is away.
const AWAY: Duration = Duration::from_secs(3);

/// A stock executor that runs, and how it is reached.
struct Standing {
    id: String,
    process: Running,
    is_noise: bool,
}

/// All checks of this part.
pub(super) async fn run(world: &World, report: &Report) -> Result<()> {
    let dir = world.folder("held")?;
    let Some(mut plane) = report.check("held: a server on a socket held outside", start(world, &dir)).await? else {
        return Ok(());
    };
    let mut standing = Vec::new();
    for stock in stocks(world) {
        let version = &stock.version;
        if stock.minor() < NOISE {
            let start = in_the_clear(&plane, world, stock);
            standing.extend(report.check(&format!("held: a stock {version} registers"), start).await?);
            continue;
        }
        let start = with_noise(&plane, world, stock, &dir);
        let name = format!("held: a stock {version} registers, and the replies have the recorded form");
        standing.extend(report.check(&name, start).await?);
        if stock.minor() >= SIGNED {
            let start = signed(&plane, world, stock, &dir);
            standing.extend(report.check(&format!("held: a stock {version} registers, signed"), start).await?);
        }
    }
    report.check("held: each is usable", all_work(&plane, &mut standing)).await?;
    let restart = async {
        plane.stop().await?;
        sleep(AWAY).await;
        plane.start_again().await
    };
    report.check("held: the server is stopped and started again", restart).await?;
    let name = format!("held: all {} are alive and usable after it", standing.len());
    report.check(&name, all_work(&plane, &mut standing)).await?;
    world.tell_secrets(&plane);
    Ok(())
}

async fn start(world: &World, dir: &Path) -> Result<Plane> {
    Plane::start_held(&world.exedra, dir, true).await
}

/// Those that register with a token of ours: the oldest, the first with relay frames, and the newest.
fn stocks(world: &World) -> Vec<&Stock> {
    let clients = world.clients.iter().filter(|stock| stock.version != world.stock.version);
    let all = std::iter::once(&world.stock).chain(clients);
    all.filter(|stock| stock.minor() <= RELAY || stock.minor() >= SIGNED).collect()
}

async fn in_the_clear(plane: &Plane, world: &World, stock: &Stock) -> Result<Standing> {
    let id = format!("stock-{}", stock.minor());
    let process = plane.stock_executor(stock, &world.folder(&format!("held/home-{id}"))?, &id).await?;
    Ok(Standing { id, process, is_noise: false })
}

async fn with_noise(plane: &Plane, world: &World, stock: &Stock, dir: &Path) -> Result<Standing> {
    let id = format!("noise-{}", stock.minor());
    let process = noise::start(plane, world, stock, &id, (&format!("held/home-{id}"), dir))?;
    let mut standing = Standing { id, process, is_noise: true };
    works(plane, &mut standing).await?;
    Ok(standing)
}

async fn signed(plane: &Plane, world: &World, stock: &Stock, dir: &Path) -> Result<Standing> {
    let id = format!("signed-{}", stock.minor());
    let home = world.folder(&format!("held/home-{id}"))?;
    let list: Value = serde_json::from_str(&plane.token_command(&["list", "--json"]).text(EXEC).await?)?;
    let tokens = list.as_array().context("no list of tokens")?;
    let token = tokens.iter().find(|token| token["role"] == "executor").context("no executor's token")?;
    let token = token["id"].as_str().context("no id")?;
    let pair: Value = serde_json::from_str(&plane.token_command(&["aws", token, "--json"]).text(EXEC).await?)?;
    let member = |name: &str| pair[name].as_str().map(str::to_owned).context("no pair");
    let secret = member("secret_access_key")?;
    world.secrets.borrow_mut().push(secret.clone());
    let process = stock
        .spawn(&home)
        .args(["exec-server", "--remote", &plane.url, "--environment-id", &id])
        .args(["--remote-transport", "direct", "--aws-sigv4", "--aws-region", "us-east-1"])
        .env("AWS_ACCESS_KEY_ID", member("access_key_id")?)
        .env("AWS_SECRET_ACCESS_KEY", secret)
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .start(&id, dir)?;
    let known = async {
        // It says nothing of its success. What it does not offer is asked for, so that it is not held by that.
        let asking = json!({"transports": ["relay"]});
        let path = format!("/v1/executors/{id}/connect");
        while call(plane, &path, &plane.client_token, &asking).await?.0 == 404 {
            sleep(Duration::from_millis(100)).await;
        }
        anyhow::Ok(())
    };
    timeout(COMING, known).await.with_context(|| format!("it did not register; {}", process.tail()))??;
    let mut standing = Standing { id, process, is_noise: false };
    works(plane, &mut standing).await?;
    Ok(standing)
}

async fn all_work(plane: &Plane, standing: &mut [Standing]) -> Result<()> {
    for one in standing {
        works(plane, one).await.with_context(|| format!("{}: {}", one.id, one.process.tail()))?;
    }
    Ok(())
}

async fn works(plane: &Plane, standing: &mut Standing) -> Result<()> {
    if standing.is_noise {
        answers(plane, &standing.id).await?;
    } else {
        let args = ["--wait", "45s", "--cwd", "/", &standing.id, "--", "sh", "-c", "echo $((6*7)); exit 3"];
        let output = plane.exec(&args).output(EXEC).await?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(3), "exec ended with {}: {said}", output.status);
        ensure!(output.stdout == b"42\n", "stdout was {:?}", String::from_utf8_lossy(&output.stdout));
    }
    ensure!(!standing.process.has_ended()?, "it ended");
    Ok(())
}
