//! A stock Codex as executor behind our server, driven by `exedra exec` and by the client library.
//!
//! Each check runs a command whose whole outcome is known, and compares every byte of it.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use tokio::time::timeout;

use super::World;
use crate::plane::{EXEC, Plane};
use crate::report::Report;
use crate::stock::{Stock, hex};

/// The minor version of the first stock executor that serves many clients at once.
const SERVES_MANY: u32 = 131;
/// The executor's id.
const ID: &str = "stock-1";
/// Output whose every byte depends on its place, and how much of it.
const MUCH: &str = "seq 1 99999999 | head -c 100000000";
/// How much that is.
const MUCH_BYTES: usize = 100_000_000;
/// For all of it to come through.
const MUCH_TIME: Duration = Duration::from_secs(180);
/// What is sent to stdin, in bytes.
const INPUT_BYTES: usize = 300_000;

/// All checks of this part, with the oldest version and with the first one that serves many clients at once.
pub(super) async fn run(world: &World, report: &Report) -> Result<()> {
    let many = world.clients.iter().find(|stock| stock.minor() == SERVES_MANY);
    for stock in std::iter::once(&world.stock).chain(many) {
        one(world, stock, report).await?;
    }
    Ok(())
}

async fn one(world: &World, stock: &Stock, report: &Report) -> Result<()> {
    let who = format!("stock {} as executor", stock.version);
    let folder = format!("as-executor-{}", stock.version);
    let dir = world.folder(&folder)?;
    let home = world.folder(&format!("{folder}/home"))?;
    let start = async {
        let plane = Plane::start(&world.exedra, &dir, true).await?;
        let executor = plane.stock_executor(stock, &home, ID).await?;
        Ok((plane, executor))
    };
    let started = report.check(&format!("{who}: it registers with our server"), start).await?;
    let Some((plane, _executor)) = started else { return Ok(()) };
    streams(&plane, &who, report).await?;
    report.check(&format!("{who}: 100 MB of output arrive whole"), much(&plane)).await?;
    report.check(&format!("{who}: stdin with -i"), stdin(&plane)).await?;
    report.check(&format!("{who}: a terminal with -t"), terminal(&plane)).await?;
    if stock.minor() == SERVES_MANY {
        report.check(&format!("{who}: three clients at once"), at_once(&plane)).await?;
    }
    super::files::run(super::files::connect(&plane, ID), &who, &dir, report).await?;
    world.tell_secrets(&plane);
    Ok(())
}

/// Three that need each other: each makes a file, and ends when it sees all of them.
async fn at_once(plane: &Plane) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let script = |number| {
        let wait = "while ! [ -e 0 -a -e 1 -a -e 2 ]; do sleep 0.05; done";
        format!("cd {} && touch {number} && {wait}", dir.path().display())
    };
    let execs = (0..3).map(async |number: u32| {
        let output = plane.exec(&[ID, "--", "sh", "-c", &script(number)]).output(EXEC).await?;
        ensure!(output.status.success(), "client {number}: {}", String::from_utf8_lossy(&output.stderr));
        anyhow::Ok(())
    });
    futures_util::future::try_join_all(execs).await.map(drop)
}

async fn streams(plane: &Plane, who: &str, report: &Report) -> Result<()> {
    let script = "echo out; printf '\\377\\000'; echo err >&2; exit 7";
    let exec = plane.exec(&[ID, "--", "sh", "-c", script]);
    let run = report.check(&format!("{who}: exec runs a command"), exec.output(EXEC)).await?;
    let Some(output) = run else { return Ok(()) };
    let stdout = async {
        ensure!(output.stdout == b"out\n\xff\0", "stdout was {:?}", String::from_utf8_lossy(&output.stdout));
        Ok(())
    };
    report.check(&format!("{who}: stdout, byte for byte"), stdout).await?;
    let stderr = async {
        ensure!(output.stderr == b"err\n", "stderr was {:?}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    };
    report.check(&format!("{who}: stderr apart from stdout"), stderr).await?;
    let code = async {
        ensure!(output.status.code() == Some(7), "it ended with {}", output.status);
        Ok(())
    };
    report.check(&format!("{who}: the exit code"), code).await?;
    Ok(())
}

async fn much(plane: &Plane) -> Result<()> {
    let expected = {
        let mut here = Command::new("sh");
        here.args(["-c", MUCH]);
        hash_of_output(here).await?
    };
    let found = hash_of_output(plane.exec(&[ID, "--", "sh", "-c", MUCH]).command()?).await?;
    ensure!(expected.bytes == MUCH_BYTES, "this machine made {} bytes", expected.bytes);
    ensure!(found.status.success(), "exec ended with {}", found.status);
    ensure!(found.bytes == expected.bytes, "{} bytes came, not {}", found.bytes, expected.bytes);
    ensure!(found.hash == expected.hash, "SHA-256 is {}, not {}", found.hash, expected.hash);
    Ok(())
}

struct Hashed {
    bytes: usize,
    hash: String,
    status: ExitStatus,
}

async fn hash_of_output(mut command: Command) -> Result<Hashed> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
    let mut stdout = child.stdout.take().context("no stdout")?;
    let read = async {
        let (mut bytes, mut hash) = (0, Sha256::new());
        let mut buffer = vec![0; 1 << 16];
        loop {
            let count = stdout.read(&mut buffer).await?;
            if count == 0 {
                break;
            }
            bytes += count;
            hash.update(buffer.get(..count).unwrap_or_default());
        }
        Ok(Hashed { bytes, hash: hex(&hash.finalize()), status: child.wait().await? })
    };
    timeout(MUCH_TIME, read).await.context("not all came in time")?
}

async fn stdin(plane: &Plane) -> Result<()> {
    // A stock executor cannot be told of the end of stdin: the command has to know how much it wants.
    let input: Vec<u8> = (0..INPUT_BYTES).map(|at| u8::try_from(at % 251).unwrap_or_default()).collect();
    let count = INPUT_BYTES.to_string();
    let output = plane.exec_with_input(&["-i", ID, "--", "head", "-c", &count], input.clone()).await?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "exec ended with {}: {said}", output.status);
    ensure!(output.stdout == input, "{} bytes came back, and not the same: {said}", output.stdout.len());
    Ok(())
}

async fn terminal(plane: &Plane) -> Result<()> {
    let script = "test -t 0 && test -t 1 && test -t 2 && tty && stty size && exit 5";
    let output = plane.exec(&["-t", ID, "--", "sh", "-c", script]).output(EXEC).await?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(5), "exec ended with {}: {text:?}, {said:?}", output.status);
    let [device, size, ""] = text.split("\r\n").collect::<Vec<_>>()[..] else {
        anyhow::bail!("two lines as a terminal ends them, not {text:?}");
    };
    ensure!(Path::new(device).starts_with("/dev/pts"), "{device:?} is no pseudo terminal");
    ensure!(size == "24 80", "the size is {size:?}");
    Ok(())
}
