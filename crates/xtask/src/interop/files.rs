//! Each `fs` method through the client library, against a stock executor.
//!
//! The executor is on this machine, so what the library says is compared with what the disk says.

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use exedra_client::files::Files;
use exedra_client::{Executor, Server};
use exedra_proto::ids::ExecutorId;
use exedra_proto::path::AbsolutePath;
use exedra_proto::secret::Secret;

use crate::plane::Plane;
use crate::report::Report;

/// For the executor to be free.
const BUDGET: Duration = Duration::from_secs(30);

/// One check for each method.
pub(super) async fn run(
    connect: impl Future<Output = Result<Executor>>,
    who: &str,
    dir: &Path,
    report: &Report,
) -> Result<()> {
    let connect = report.check(&format!("{who}: the client library connects"), connect).await?;
    let Some(executor) = connect else { return Ok(()) };
    let place = Place { files: executor.files(), dir: dir.join("files") };
    std::fs::create_dir(&place.dir)?;
    report.check(&format!("{who}: fs/writeFile"), place.write()).await?;
    report.check(&format!("{who}: fs/readFile"), place.read()).await?;
    report.check(&format!("{who}: fs/createDirectory"), place.create_directory()).await?;
    report.check(&format!("{who}: fs/getMetadata"), place.metadata()).await?;
    report.check(&format!("{who}: fs/readDirectory"), place.read_directory()).await?;
    report.check(&format!("{who}: fs/copy"), place.copy()).await?;
    report.check(&format!("{who}: fs/remove"), place.remove()).await?;
    executor.close().await;
    Ok(())
}

/// A session with the executor `id`, to which a server leads.
pub(super) async fn connect(plane: &Plane, id: &str) -> Result<Executor> {
    let server = Server::new(&plane.url, &Secret::new(plane.client_token.as_str()), false)?;
    let id = ExecutorId::parse(id)?;
    Ok(server.executor(&id, BUDGET, |_, _| {}).await?)
}

/// A folder that both sides see.
struct Place {
    files: Files,
    dir: PathBuf,
}

impl Place {
    fn here(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn there(&self, name: &str) -> Result<AbsolutePath> {
        AbsolutePath::native(self.here(name)).map_err(anyhow::Error::msg)
    }

    async fn write(&self) -> Result<()> {
        let content: Vec<u8> = (0..=255).cycle().take(100_000).collect();
        self.files.write(&self.there("written")?, &content).await?;
        ensure!(std::fs::read(self.here("written"))? == content, "the file holds something else");
        let Err(error) = self.files.write(&self.there("no-such/written")?, b"x").await else {
            bail!("a file without a parent was written");
        };
        ensure!(error.is_not_found(), "without a parent: {error}");
        Ok(())
    }

    async fn read(&self) -> Result<()> {
        let content: Vec<u8> = (0..=255).rev().cycle().take(3_000_000).collect();
        std::fs::write(self.here("to-read"), &content)?;
        ensure!(self.files.read(&self.there("to-read")?).await? == content, "something else was read");
        let Err(error) = self.files.read(&self.there("no-such")?).await else { bail!("what is not there was read") };
        ensure!(error.is_not_found(), "of a missing file: {error}");
        Ok(())
    }

    async fn create_directory(&self) -> Result<()> {
        self.files.create_directory(&self.there("made/deep")?, true).await?;
        ensure!(self.here("made/deep").is_dir(), "there is no directory");
        ensure!(
            self.files.create_directory(&self.there("made")?, false).await.is_err(),
            "one that exists was made again"
        );
        Ok(())
    }

    async fn metadata(&self) -> Result<()> {
        std::fs::write(self.here("target"), "seven77")?;
        symlink("target", self.here("link"))?;
        let link = self.files.metadata(&self.there("link")?).await?;
        ensure!(link.is_file && link.is_symlink && !link.is_directory, "of a link to a file: {link:?}");
        let dir = self.files.metadata(&self.there("")?).await?;
        ensure!(dir.is_directory && !dir.is_symlink && !dir.is_file, "of a directory: {dir:?}");
        ensure!(dir.modified_at_ms > 1_500_000_000_000, "of a directory that was made just now: {dir:?}");
        Ok(())
    }

    async fn read_directory(&self) -> Result<()> {
        std::fs::create_dir_all(self.here("listed/dir"))?;
        std::fs::write(self.here("listed/file"), "")?;
        let entries = self.files.read_directory(&self.there("listed")?).await?;
        let found: BTreeSet<_> = entries.into_iter().map(|e| (e.file_name, e.is_directory, e.is_file)).collect();
        let expected = BTreeSet::from([("dir".to_owned(), true, false), ("file".to_owned(), false, true)]);
        ensure!(found == expected, "the entries are {found:?}");
        Ok(())
    }

    async fn copy(&self) -> Result<()> {
        std::fs::create_dir_all(self.here("tree/sub"))?;
        std::fs::write(self.here("tree/sub/leaf"), "leaf")?;
        self.files.copy(&self.there("tree")?, &self.there("copied")?, true).await?;
        ensure!(std::fs::read(self.here("copied/sub/leaf"))? == b"leaf", "the leaf is another");
        ensure!(
            self.files.copy(&self.there("tree")?, &self.there("copied-2")?, false).await.is_err(),
            "a directory was copied as a file"
        );
        Ok(())
    }

    async fn remove(&self) -> Result<()> {
        std::fs::create_dir_all(self.here("doomed/sub"))?;
        std::fs::write(self.here("doomed/sub/leaf"), "leaf")?;
        let doomed = self.there("doomed")?;
        ensure!(self.files.remove(&doomed, false, false).await.is_err(), "a full directory went without recursive");
        self.files.remove(&doomed, true, false).await?;
        ensure!(!self.here("doomed").exists(), "it is still there");
        let Err(error) = self.files.remove(&doomed, true, false).await else { bail!("it was removed a second time") };
        ensure!(error.is_not_found(), "of what is gone: {error}");
        self.files.remove(&doomed, true, true).await?;
        Ok(())
    }
}
