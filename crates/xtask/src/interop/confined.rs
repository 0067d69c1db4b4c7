//! A stock Codex as client with its sandbox on: what it asks for is enforced by our executor.
//!
//! What is tried really happens on the disk or does not; only that is looked at, and what the tool gave back. Nothing is
//! below `/tmp`, where stock sandboxes may write.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use tokio::net::TcpStream;

use super::World;
use super::as_client::{Place, Seat};
use crate::model::Wish;
use crate::report::Report;

/// What must stay as it is, and its content.
const KEPT: (&str, &str) = ("kept", "kept\n");
/// A mode in which the workspace may be written to, and one in which nothing may.
const WRITE: &str = "workspace-write";
const READ: &str = "read-only";

/// All checks of this part, with each version.
pub(super) async fn run(world: &World, report: &Report) -> Result<()> {
    for stock in &world.clients {
        let dir = world.folder(&format!("confined-{}", stock.version))?;
        let seat = Seat { world, stock, dir };
        for mode in [WRITE, READ] {
            let what = format!(
                "{mode}: a command writes {}, has no network",
                if mode == WRITE { "inside alone" } else { "nothing" }
            );
            report.check(&seat.name(&what), command(&seat, mode)).await?;
        }
        let what = format!("{WRITE}: apply_patch changes what is inside");
        report.check(&seat.name(&what), patch(&seat, "f", true)).await?;
        let what = format!("{WRITE}: apply_patch through a link changes nothing outside");
        report.check(&seat.name(&what), patch(&seat, "link/kept", false)).await?;
    }
    Ok(())
}

/// A workspace, with a link to what is beside it.
struct Yard {
    _dir: tempfile::TempDir,
    work: PathBuf,
    out: PathBuf,
}

impl Yard {
    fn new() -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("exedra-interop-").tempdir_in("/var/tmp")?;
        let at = dir.path().canonicalize()?;
        let (work, out) = (at.join("work"), at.join("out"));
        for path in [&work, &out] {
            std::fs::create_dir(path)?;
        }
        std::fs::write(out.join(KEPT.0), KEPT.1)?;
        std::fs::write(work.join("f"), KEPT.1)?;
        std::os::unix::fs::symlink(&out, work.join("link"))?;
        Ok(Self { _dir: dir, work, out })
    }

    /// Whether everything outside is as it was.
    fn check(&self, output: &str) -> Result<()> {
        let kept = std::fs::read_to_string(self.out.join(KEPT.0))?;
        ensure!(kept == KEPT.1, "what is outside became {kept:?}; the tool gave back {output:?}");
        ensure!(std::fs::read_dir(&self.out)?.count() == 1, "something was made outside: {output:?}");
        Ok(())
    }
}

async fn place(seat: &Seat<'_>, yard: &Yard, mode: &str, name: &str, command: String) -> Result<Place> {
    let place = seat.place(&format!("{mode}-{name}"), [("go", Wish::Run(command))]).await?;
    Ok(place.confined(mode, yard.work.clone()))
}

async fn command(seat: &Seat<'_>, mode: &str) -> Result<()> {
    let yard = Yard::new()?;
    // The stand-in's own address serves to see whether there is a network: it is there for us.
    let reach =
        "bash -c '(exec 3<>/dev/tcp/127.0.0.1/$(cat port)) 2>/dev/null && echo network-$((6*7)) || echo none-$((6*7))'";
    let tries =
        "echo in > in; echo x > link/kept; echo x > link/new; echo x > ../out/new; rm link/kept; mkdir -p .git/hooks";
    let mut place = place(seat, &yard, mode, "command", format!("{tries}; {reach}; exit 7")).await?;
    let address = place.model.address;
    std::fs::write(yard.work.join("port"), address.port().to_string())?;
    drop(TcpStream::connect(address).await.context("the stand-in is not there")?);
    let output = place.exec().await?;
    place.listener.confined()?;
    yard.check(&output)?;
    ensure!(output.contains("exited with code 7"), "the tool gave back {output:?}");
    ensure!(output.contains("none-42") && !output.contains("network-42"), "there is a network: {output:?}");
    let made = yard.work.join("in").exists();
    ensure!(made == (mode == WRITE), "inside was {}written to: {output:?}", if made { "" } else { "not " });
    ensure!(!yard.work.join(".git").exists(), "there is a .git: {output:?}");
    Ok(())
}

async fn patch(seat: &Seat<'_>, path: &str, works: bool) -> Result<()> {
    let yard = Yard::new()?;
    let text =
        format!("apply_patch <<'EOF'\n*** Begin Patch\n*** Update File: {path}\n@@\n-kept\n+new\n*** End Patch\nEOF");
    let name = if works { "patch" } else { "patch-outside" };
    let output = place(seat, &yard, WRITE, name, text).await?.exec().await?;
    yard.check(&output)?;
    let found = std::fs::read_to_string(yard.work.join(Path::new(path)))?;
    ensure!(found == if works { "new\n" } else { KEPT.1 }, "{path} is {found:?}; the tool gave back {output:?}");
    ensure!(output.contains("Success") == works, "the tool gave back {output:?}");
    Ok(())
}
