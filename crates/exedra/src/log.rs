//! Sets up the log: to stderr, filtered by `EXEDRA_LOG`.
//!
//! In flows the level that a command wants by default, out flow lines on stderr. Called once, before anything is
//! logged. A command that is to start quickly pays for a filter only if one was asked for.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::env;
use crate::exit::Failure;

/// Logs from `default` on, or what `EXEDRA_LOG` says.
///
/// # Errors
/// `EXEDRA_LOG` is no filter.
pub fn init(default: LevelFilter) -> Result<(), Failure> {
    let plain = env::text(env::NO_COLOR).is_some_and(|text| !text.is_empty());
    let lines = tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(!plain && io::stderr().is_terminal());
    match env::text(env::EXEDRA_LOG).filter(|text| !text.trim().is_empty()) {
        None => lines.with_max_level(default).init(),
        Some(text) => {
            let filter = EnvFilter::builder().parse(&text).map_err(|error| {
                Failure::usage(
                    format!("{} is no log filter: {error}", env::EXEDRA_LOG),
                    "write a level (error, warn, info, debug, trace) or parts such as exedra_link=debug",
                )
            })?;
            lines.with_env_filter(filter).init();
        }
    }
    Ok(())
}
