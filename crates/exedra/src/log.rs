//! Sets up the log: to stderr, filtered by `EXEDRA_LOG`, as text or as JSON by `EXEDRA_LOG_FORMAT`.
//!
//! In flows the level that a command wants by default, out flow lines on stderr, one for each event, whatever a name that
//! somebody else chose holds. Called once, before anything is logged. A command that is to start quickly pays for a filter
//! only if one was asked for.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::{DefaultFields, Format};
use tracing_subscriber::fmt::{MakeWriter, SubscriberBuilder};

use crate::env;
use crate::exit::Failure;

/// Writes to stderr what the log makes of one event, as one line.
#[derive(Clone, Copy, Debug)]
struct OneLine {
    /// Whether colours are let through.
    ansi: bool,
}

type Lines<W> = SubscriberBuilder<DefaultFields, Format, LevelFilter, W>;

/// Logs from `default` on, or what `EXEDRA_LOG` says.
///
/// # Errors
/// `EXEDRA_LOG` is no filter, or `EXEDRA_LOG_FORMAT` no format.
pub fn init(default: LevelFilter) -> Result<(), Failure> {
    let filter = given(env::EXEDRA_LOG).map(|text| parse(&text)).transpose()?;
    let plain = given(env::NO_COLOR).is_some();
    let ansi = !plain && io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt().with_writer(move || OneLine { ansi }).with_max_level(default);
    match given(env::EXEDRA_LOG_FORMAT).as_deref() {
        None | Some("text") => {
            let lines = lines.with_ansi(ansi);
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

impl Write for OneLine {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        io::stderr().write_all(one_line(&text, self.ansi).as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// `event` with every control character but its last line feed as an escape; with `ansi`, colours stay.
fn one_line(event: &str, ansi: bool) -> Cow<'_, str> {
    let (text, end) = event.strip_suffix('\n').map_or((event, ""), |text| (text, "\n"));
    if !text.contains(char::is_control) {
        return Cow::Borrowed(event);
    }
    let mut line = String::with_capacity(event.len() + 16);
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let colour = if ansi { colour_len(rest) } else { 0 };
        let (part, after) = rest.split_at(colour.max(next.len_utf8()));
        match next.is_control() && colour == 0 {
            true => _ = write!(line, "{}", next.escape_default()),
            false => line.push_str(part),
        }
        rest = after;
    }
    Cow::Owned(line + end)
}

/// How long the colour is that `text` begins with, if it does.
fn colour_len(text: &str) -> usize {
    let Some(rest) = text.strip_prefix("\x1b[") else { return 0 };
    let digits = rest.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b';').count();
    if rest.as_bytes().get(digits) == Some(&b'm') { digits + 3 } else { 0 }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line() {
        assert_eq!(one_line("plain \u{e9}\n", false), "plain \u{e9}\n");
        assert_eq!(one_line("a\nb\r\u{9b}c\x1b[31md\n", false), "a\\nb\\r\\u{9b}c\\u{1b}[31md\n");
        assert_eq!(one_line("\x1b[2m\x1b[1;31mred\x1b[0m\x1b[2J\n", true), "\x1b[2m\x1b[1;31mred\x1b[0m\\u{1b}[2J\n");
        assert_eq!(one_line("no end\n\n", false), "no end\\n\n");
    }
}
