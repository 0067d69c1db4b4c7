//! Sets up the log: to stderr, filtered by `EXEDRA_LOG`, as text or as JSON by `EXEDRA_LOG_FORMAT`.
//!
//! In flows the level that a command wants by default, out flow lines on stderr. Called once, before anything is
//! logged. A command that is to start quickly pays for a filter only if one was asked for.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::{DefaultFields, Format};
use tracing_subscriber::fmt::{MakeWriter, SubscriberBuilder};

use crate::env;
use crate::exit::Failure;

type Lines<W> = SubscriberBuilder<DefaultFields, Format, LevelFilter, W>;

/// Logs from `default` on, or what `EXEDRA_LOG` says.
///
/// # Errors
/// `EXEDRA_LOG` is no filter, or `EXEDRA_LOG_FORMAT` no format.
pub fn init(default: LevelFilter) -> Result<(), Failure> {
    let filter = given(env::EXEDRA_LOG).map(|text| parse(&text)).transpose()?;
    let plain = given(env::NO_COLOR).is_some();
    let lines = tracing_subscriber::fmt().with_writer(io::stderr).with_max_level(default);
    match given(env::EXEDRA_LOG_FORMAT).as_deref() {
        None | Some("text") => {
            let lines = lines.with_ansi(!plain && io::stderr().is_terminal());
            match filter {
                None => lines.init(),
                Some(filter) => lines.with_env_filter(filter).init(),
            }
        }
        Some("json") => json(lines, filter),
        Some(other) => {
            return Err(Failure::usage(
                format!("{} is `{other}`, which is no format of the log", env::EXEDRA_LOG_FORMAT),
                "write text or json",
            ));
        }
    }
    Ok(())
}

fn json<W>(lines: Lines<W>, filter: Option<EnvFilter>)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = lines.json().flatten_event(true).with_current_span(true).with_span_list(false);
    match filter {
        None => lines.init(),
        Some(filter) => lines.with_env_filter(filter).init(),
    }
}

fn given(name: &str) -> Option<String> {
    env::text(name).filter(|text| !text.trim().is_empty())
}

fn parse(text: &str) -> Result<EnvFilter, Failure> {
    EnvFilter::builder().parse(text).map_err(|error| {
        Failure::usage(
            format!("{} is no log filter: {error}", env::EXEDRA_LOG),
            "write a level (error, warn, info, debug, trace) or parts such as exedra_link=debug",
        )
    })
}
