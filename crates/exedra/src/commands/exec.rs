//! `exedra exec`: runs a command on an executor that a server leads to, or that listens.
//!
//! In flow the flags, out flows the exit code of the remote command. How bytes are passed is `relay`'s business.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _};
use std::time::Duration;

use anyhow::Context as _;
use exedra_client::connect::Options;
use exedra_client::process::Command;
use exedra_client::{Error, Executor, Server, connect};
use exedra_proto::ids::ExecutorId;
use exedra_proto::secret::Secret;
use tracing_subscriber::filter::LevelFilter;

use crate::cli::ExecArgs;
use crate::exit::{Exit, Failure};
use crate::relay::{self, Run};
use crate::settings::{self, Access};
use crate::signals::Signals;
use crate::terminal::RawMode;
use crate::{env, log, output, runtime};

/// Where the executor is.
enum Target {
    Behind { server: Box<Server>, executor: ExecutorId },
    Listening { url: String, token: Option<Secret> },
}

/// Runs the command.
///
/// # Errors
/// It could not be run, or not to its end as far as is known.
pub fn run(args: ExecArgs) -> Result<Exit, Failure> {
    log::init(LevelFilter::WARN)?;
    let target = target(&args)?;
    let run = plan(&args);
    runtime::light(async {
        let mut signals = Signals::listen()?;
        let executor = tokio::select! {
            biased;
            stop = signals.next() => return Ok(Exit::Signal(stop.number())),
            executor = connect(&target, args.wait, args.reconnect) => executor?,
        };
        let raw = if run.command.tty && run.stdin { RawMode::enter()? } else { None };
        let exit = relay::run(executor, run, &mut signals).await;
        // Before anything is printed about a failure.
        drop(raw);
        exit
    })
}

fn target(args: &ExecArgs) -> Result<Target, Failure> {
    if let Some(url) = &args.url {
        let token = args.token_file.as_deref().map(settings::token_file).transpose()?;
        if token.is_some() && !args.insecure_http && is_open(url) {
            return Err(Failure::usage(
                "the token would be sent in the clear to another machine",
                "use wss://, or a port that is forwarded to this machine; --insecure-http sends it anyway",
            ));
        }
        return Ok(Target::Listening { url: url.clone(), token });
    }
    let executor = args.executor.as_deref().unwrap_or_default();
    let executor = ExecutorId::parse(executor)
        .map_err(|error| Failure::usage(format!("`{executor}` is no executor id"), error.to_string()))?;
    let access = Access::resolve(args.server.clone(), args.token_file.as_deref())?;
    let server = access.server(args.insecure_http)?;
    Ok(Target::Behind { server: Box::new(server), executor })
}

/// Whether others can read what is sent to `url`: plain `ws://` to another machine.
fn is_open(url: &str) -> bool {
    let Ok(url) = url::Url::parse(url) else { return false };
    let local = match url.host() {
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => true,
    };
    url.scheme() == "ws" && !local
}

fn plan(args: &ExecArgs) -> Run {
    let mut variables: BTreeMap<String, String> = args.env.iter().cloned().collect();
    if let (true, Some(kind)) = (args.tty, env::text(env::TERM)) {
        variables.entry(env::TERM.to_owned()).or_insert(kind);
    }
    let stdin = args.interactive || (args.tty && io::stdin().is_terminal());
    let command = Command {
        cwd: args.cwd.clone(),
        env: variables,
        tty: args.tty,
        stdin,
        limits: args.limits.limits(),
        ..Command::new(args.argv.iter().cloned())
    };
    Run { command, stdin }
}

async fn connect(target: &Target, wait: Duration, reconnect: Duration) -> Result<Executor, Failure> {
    let options = Options { recovery: reconnect, ..Options::default() };
    match target {
        Target::Listening { url, token } => {
            let connected = connect::listener_with(options, url, token.clone(), wait, tell_of_waiting()).await;
            // What follows may hold a token.
            let place = url.split('?').next().unwrap_or_default();
            connected.with_context(|| format!("cannot reach the executor at {place}")).map_err(Failure::from)
        }
        Target::Behind { server, executor } => {
            let connected = server.as_ref().clone().with(options).executor(executor, wait, tell_of_waiting()).await;
            connected.with_context(|| format!("cannot reach executor `{executor}`")).map_err(Failure::from)
        }
    }
}

/// Says once why nothing happens yet.
fn tell_of_waiting() -> impl FnMut(&Error, Duration) {
    let mut told = false;
    move |error, left| {
        if !told && left > Duration::from_secs(1) {
            told = true;
            output::note(&format!("exedra: {error}; trying for {} s more", left.as_secs()));
        }
    }
}
