//! `exedra ls`, `show`, `drain`, `forget`, `events`, `access-log`: a server's executors and its news, through its interface `/v1`.
//!
//! In flow the flags, out flow tables for people or the server's own JSON.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use exedra_client::Server;
use exedra_client::connect::Verb;
use exedra_proto::registry::code;
use serde_json::{Value, json};
use tracing_subscriber::filter::LevelFilter;

use super::token::span;
use crate::cli::fleet::{AccessLogArgs, DrainArgs, EventsArgs, ForgetArgs, LsArgs, ServerArgs, ShowArgs};
use crate::exit::{Exit, Failure};
use crate::settings::Access;
use crate::signals::Signals;
use crate::{log, output, runtime};

/// Executors on a page of the server; small, so that a page fits what is read of an answer.
const PAGE: usize = 100;
/// Time between two looks for events.
const LOOK: Duration = Duration::from_secs(1);

/// Lists executors.
///
/// # Errors
/// The server cannot be asked.
pub fn ls(args: LsArgs) -> Result<Exit, Failure> {
    start()?;
    let server = server(&args.server)?;
    runtime::light(async {
        let mut executors = Vec::new();
        let mut after = None::<String>;
        loop {
            let mut query = vec![("limit", PAGE.to_string())];
            query.extend(args.label.iter().map(|label| ("label", label.clone())));
            query.extend(args.state.clone().map(|state| ("state", state)));
            query.extend(after.map(|after| ("after", after)));
            let mut page = server.ask(Verb::Get, &["executors"], &query).await?;
            executors.extend(page["executors"].as_array_mut().map(std::mem::take).unwrap_or_default());
            after = page["next"].as_str().map(str::to_owned);
            if after.is_none() {
                break;
            }
        }
        if args.server.json {
            output::json(&executors)?;
            return Ok(Exit::Success);
        }
        let header = ["ID", "STATE", "SEEN", "TRANSPORT", "LABELS", "NAME"].map(str::to_owned);
        output::table(std::iter::once(header).chain(executors.iter().map(row)))?;
        Ok(Exit::Success)
    })
}

/// Shows one executor, and who is on it.
///
/// # Errors
/// The server cannot be asked, or there is no such executor.
pub fn show(args: ShowArgs) -> Result<Exit, Failure> {
    start()?;
    let server = server(&args.server)?;
    runtime::light(async {
        let executor = server.ask(Verb::Get, &["executors", &args.executor], &[]).await?;
        let connections = server.ask(Verb::Get, &["connections"], &[]).await?;
        let own = |connection: &&Value| connection["executor_id"] == executor["id"];
        let connections: Vec<_> = connections["connections"].as_array().into_iter().flatten().filter(own).collect();
        if args.server.json {
            output::json(&json!({"executor": executor, "connections": connections}))?;
            return Ok(Exit::Success);
        }
        let members = executor.as_object().into_iter().flatten();
        let members = members.filter(|(_, value)| !value.is_null());
        output::table(members.map(|(name, value)| [name.clone(), text(value)]))?;
        for connection in connections {
            let since = connection["since"].as_u64().map(ago).unwrap_or_default();
            let (side, token) = (text(&connection["side"]), text(&connection["token_id"]));
            output::line(&format!("{side} with {token} since {since}, {} bytes", connection["bytes"]))?;
        }
        Ok(Exit::Success)
    })
}

/// Lets no new client in to an executor, or again.
///
/// # Errors
/// The server cannot be asked, or does not let us.
pub fn drain(args: DrainArgs) -> Result<Exit, Failure> {
    start()?;
    let server = server(&args.server)?;
    runtime::light(async {
        let verb = if args.undo { Verb::Delete } else { Verb::Post };
        let executor = server.ask(verb, &["executors", &args.executor, "drain"], &[]).await?;
        if args.server.json {
            output::json(&executor)?;
        }
        Ok(Exit::Success)
    })
}

/// Forgets an executor, unless it is there.
///
/// # Errors
/// The server cannot be asked, does not let us, or knows no such executor; or it is there, and that was not wanted.
pub fn forget(args: ForgetArgs) -> Result<Exit, Failure> {
    start()?;
    let server = server(&args.server)?;
    runtime::light(async {
        let executor = server.ask(Verb::Get, &["executors", &args.executor], &[]).await?;
        let force = [("force", args.force.to_string())];
        match server.ask(Verb::Delete, &["executors", &args.executor], &force).await {
            Err(error) if error.problem() == Some(code::EXECUTOR_CONNECTED) => {
                let what = format!("executor `{}` is connected", text(&executor["id"]));
                let hint = "it would come back by itself: stop it or revoke its token first; --force forgets it anyway";
                return Err(Failure::from(anyhow::Error::msg(what)).with_hint(hint));
            }
            forgotten => forgotten?,
        };
        if args.server.json {
            output::json(&executor)?;
        }
        Ok(Exit::Success)
    })
}

/// Prints events, and waits for more if wanted.
///
/// # Errors
/// The server cannot be asked.
pub fn events(args: EventsArgs) -> Result<Exit, Failure> {
    start()?;
    let server = server(&args.server)?;
    runtime::light(async {
        let mut signals = Signals::listen()?;
        let (mut after, mut is_away) = (args.after, false);
        loop {
            match server.ask(Verb::Get, &["events"], &[("after", after.to_string())]).await {
                Ok(page) => {
                    is_away = false;
                    if let Some(gap) = page["gap"].as_u64() {
                        output::note(&missing(after, gap));
                    }
                    for event in page["events"].as_array().into_iter().flatten() {
                        tell(event, args.server.json)?;
                    }
                    let next = page["next"].as_u64().unwrap_or(after);
                    let is_end = next == after;
                    after = next;
                    if !is_end {
                        continue;
                    }
                    if !args.follow {
                        return Ok(Exit::Success);
                    }
                }
                Err(error) if args.follow && error.is_retryable() => {
                    if !std::mem::replace(&mut is_away, true) {
                        output::note(&format!("note: {error}; it is tried again"));
                    }
                }
                Err(error) => return Err(error.into()),
            }
            tokio::select! {
                stop = signals.next() => return Ok(Exit::Signal(stop.number())),
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    })
}

/// Lines of a page of the access log that is not the last.
const ACCESS_PAGE: usize = 1_000;

/// Prints who asked a server for what.
///
/// # Errors
/// The server cannot be asked, or does not let us.
pub fn access_log(args: AccessLogArgs) -> Result<Exit, Failure> {
    start()?;
    let server = server(&args.server)?;
    runtime::light(async {
        let mut after = args.after;
        loop {
            let page = server.ask(Verb::Get, &["access-log"], &[("after", after.to_string())]).await?;
            let lines = page["lines"].as_array().map(Vec::as_slice).unwrap_or_default();
            let Some(last) = lines.last() else { return Ok(Exit::Success) };
            after = last["id"].as_u64().unwrap_or(u64::MAX);
            for line in lines {
                if args.server.json {
                    output::json(line)?;
                    continue;
                }
                let words = ["at", "outcome", "action", "executor_id", "token_id", "address", "request_id", "count"];
                output::line(words.map(|word| text(&line[word])).join(" ").trim_end())?;
            }
            // The next would hold this very request, and the one after it that.
            if lines.len() < ACCESS_PAGE {
                return Ok(Exit::Success);
            }
        }
    })
}

pub(super) fn start() -> Result<(), Failure> {
    log::init(LevelFilter::WARN)
}

pub(super) fn server(args: &ServerArgs) -> Result<Server, Failure> {
    Access::resolve(args.server.clone(), args.token_file.as_deref())?.server(args.insecure_http)
}

/// What is said where a page does not begin with the event after `after`, but with `gap`.
fn missing(after: u64, gap: u64) -> String {
    if gap > after {
        format!("note: events after {after} and before {gap} are not kept")
    } else {
        format!("note: there is no event {after} in this journal; all that are kept follow")
    }
}

fn tell(event: &Value, json: bool) -> Result<(), Failure> {
    if json {
        return Ok(output::json(event)?);
    }
    let (id, kind, executor) = (&event["id"], text(&event["kind"]), text(&event["executor_id"]));
    let at = event["at"].as_u64().map(ago).unwrap_or_default();
    Ok(output::line(&format!("{id} {at}  {kind} {executor} {}", event["detail"]))?)
}

fn row(executor: &Value) -> [String; 6] {
    let state = match executor["draining_since"].as_u64() {
        Some(_) => format!("{}, draining", text(&executor["state"])),
        None => text(&executor["state"]),
    };
    let labels: Vec<_> = ["labels", "claimed_labels"]
        .into_iter()
        .flat_map(|which| executor[which].as_object().into_iter().flatten())
        .map(|(name, value)| format!("{name}={}", text(value)))
        .collect();
    let seen = executor["last_seen"].as_u64().map_or_else(|| "never".to_owned(), ago);
    [text(&executor["id"]), state, seen, text(&executor["transport"]), labels.join(" "), text(&executor["name"])]
}

/// A value for people. What a server says is not trusted with the terminal.
pub(super) fn text(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    };
    text.chars().filter(|char| !char.is_control()).collect()
}

pub(super) fn ago(at: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    format!("{} ago", span(now.saturating_sub(at)))
}
