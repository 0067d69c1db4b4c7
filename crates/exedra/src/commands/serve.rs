//! `exedra serve`: registry and rendezvous until somebody stops them.
//!
//! In flow the flags, out flows the server's URL on stdout, and then nothing but the log.

use std::time::Duration;

use exedra_registry::PublicUrl;
use serde::Serialize;
use tracing_subscriber::filter::LevelFilter;

use crate::cli::ServeArgs;
use crate::exit::{Exit, Failure};
use crate::plane::{Listen, Plane, PlaneConfig};
use crate::signals::Signals;
use crate::{log, output, runtime, settings, systemd};

/// Over how long connections are closed at the end, so that not all come back at once.
const DRAIN_WINDOW: Duration = Duration::from_secs(2);

/// What `--json` prints.
#[derive(Serialize)]
struct Serving<'a> {
    server: &'a str,
    pid: u32,
}

/// Serves until a signal.
///
/// # Errors
/// It could not start.
pub fn run(args: ServeArgs) -> Result<Exit, Failure> {
    log::init(LevelFilter::INFO)?;
    let public_url = match args.public_url.as_deref().map(PublicUrl::parse).transpose() {
        Ok(url) => url,
        Err(error) => {
            return Err(Failure::usage(error.to_string(), "write it as https://HOST or http://HOST:PORT"));
        }
    };
    let config = PlaneConfig {
        listen: systemd::listener()?.map_or(Listen::At(args.listen), Listen::Held),
        data_dir: settings::data_dir(args.data_dir)?,
        public_url,
        purpose: "exedra serve",
        drain_window: DRAIN_WINDOW,
    };
    runtime::full(serve(config, args.json))
}

async fn serve(config: PlaneConfig, json: bool) -> Result<Exit, Failure> {
    let mut signals = Signals::listen()?;
    let plane = tokio::select! {
        plane = Plane::start(config) => plane?,
        _ = signals.next() => return Ok(Exit::Success),
    };
    if json {
        output::json(&Serving { server: plane.url(), pid: std::process::id() })?;
    } else {
        output::line(plane.url())?;
    }
    systemd::ready();
    let stop = tokio::select! {
        stop = signals.next() => stop,
        never = systemd::watchdog() => match never {},
    };
    tracing::info!(?stop, "stopping");
    systemd::stopping();
    match signals.unless_again(plane.shutdown()).await {
        Ok(()) => Ok(Exit::Success),
        Err(stop) => Ok(Exit::Signal(stop.number())),
    }
}
