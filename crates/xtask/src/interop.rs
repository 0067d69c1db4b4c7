//! Exedra and a stock Codex as real processes over loopback, each at either end.
//!
//! In flow the built binary and the pinned stock program, out flows one line for each check. Nothing is shared with
//! the processes but what they print and what crosses the wire.

mod app_server;
mod as_client;
mod as_executor;
mod as_listener;
mod bound;
mod confined;
mod files;
mod held;
mod noise;
mod relay;
mod restart;
mod secrets;

use std::cell::RefCell;
use std::path::PathBuf;

use anyhow::Result;

use crate::plane::Plane;
use crate::report::Report;
use crate::stock::Stock;

/// What a run needs.
#[derive(Debug)]
pub struct World {
    /// Our binary.
    pub exedra: PathBuf,
    /// The stock program that is executor.
    pub stock: Stock,
    /// The stock programs that are clients.
    pub clients: Vec<Stock>,
    /// The program of a registry and a rendezvous for streams (`examples/streams` of the test kit), if relay frames are to be
    /// tried.
    pub streams: Option<PathBuf>,
    /// Where homes, records and logs of this run go.
    pub dir: PathBuf,
    /// What must not be found in any log.
    pub secrets: RefCell<Vec<String>>,
}

/// All checks; tells whether all passed.
///
/// # Errors
/// The run itself could not go on.
pub async fn run(world: &World) -> Result<bool> {
    let report = Report::default();
    let stock = async {
        as_client::run(world, &report).await?;
        confined::run(world, &report).await?;
        relay::run(world, &report).await?;
        as_listener::run(world, &report).await?;
        as_executor::run(world, &report).await
    };
    // The restart is waiting for the most part.
    tokio::try_join!(stock, restart::run(world, &report), held::run(world, &report), bound::run(world, &report))?;
    report.check("no secret is in any log of the run, at trace level", secrets::none_logged(world)).await?;
    report.finish()
}

impl World {
    fn tell_secrets(&self, plane: &Plane) {
        self.secrets.borrow_mut().extend([plane.client_token.clone(), plane.executor_token.clone()]);
    }

    /// A new, empty folder of the run.
    ///
    /// # Errors
    /// What the disk says.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.dir.join(name);
        std::fs::create_dir_all(&path)?;
        Ok(path)
    }
}
