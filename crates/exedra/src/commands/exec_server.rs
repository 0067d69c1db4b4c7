//! `exedra exec-server`: this machine as an executor, on a listener or behind a server.
//!
//! In flow the flags, out flow the URL (listener) or a line per registration (server), and the exit status in the end.
//! The texts of failures are those of upstream's executor, which scripts know.

use std::sync::Arc;

use exedra_executor::daemon::{self, Daemon, DaemonConfig, TokenSource};
use exedra_executor::listen::{ListenOptions, ListenUrl, Listener};
use exedra_executor::{Executor, ExecutorConfig, ExecutorError};
use exedra_host::HostConfig;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::filter::LevelFilter;

use super::audit;
use crate::cli::ExecServerArgs;
use crate::exit::{Exit, Failure};
use crate::signals::Signals;
use crate::{env, log, output, runtime};

/// Runs the executor until it is told to stop, or cannot go on.
///
/// # Errors
/// It could not start, or not register.
pub fn run(args: ExecServerArgs) -> Result<Exit, Failure> {
    log::init(LevelFilter::INFO)?;
    runtime::full(async move {
        let signals = Signals::listen()?;
        let audit = audit::open(&args.audit)?;
        let config = ExecutorConfig { audit: audit.clone(), ..config() };
        let ended = match &args.remote {
            Some(url) => remote(url, &args, config, signals).await,
            None => listen(&args.listen, config, signals).await,
        };
        if let Some(audit) = audit {
            audit.stop();
        }
        ended
    })
}

async fn listen(url: &str, config: ExecutorConfig, mut signals: Signals) -> Result<Exit, Failure> {
    let url: ListenUrl = url.parse().map_err(|error: ExecutorError| Failure::from(error).with_exit(Exit::Usage))?;
    let executor = Arc::new(Executor::new(config)?);
    let listener = Listener::bind(&url, ListenOptions::default()).await?;
    if !matches!(listener.url(), ListenUrl::Stdio) {
        output::line(&listener.url().to_string())?;
    }
    let cancel = CancellationToken::new();
    let run = async {
        let end = listener.run(Arc::clone(&executor), cancel.clone()).await;
        tracing::debug!(?end, "the listener has ended");
        executor.shutdown().await;
        Ok(Exit::Success)
    };
    signals.cancelling(&cancel, || executor.hurry(), run).await
}

async fn remote(
    url: &str,
    args: &ExecServerArgs,
    config: ExecutorConfig,
    mut signals: Signals,
) -> Result<Exit, Failure> {
    let mut daemon = DaemonConfig::new(url, args.executor_id.clone().unwrap_or_default());
    daemon.name.clone_from(&args.name);
    daemon.token = token_source(args);
    daemon.http.insecure_http = args.insecure_http;
    let executor = Arc::new(Executor::new(config)?);
    let daemon =
        Daemon::new(daemon, Arc::clone(&executor)).map_err(|error| Failure::from(error).with_exit(Exit::Refused))?;
    let cancel = CancellationToken::new();
    let run = async { Ok(daemon.run(cancel.clone(), tell).await) };
    match signals.cancelling(&cancel, || executor.hurry(), run).await? {
        daemon::Exit::Cancelled => Ok(Exit::Success),
        daemon::Exit::GaveUp { text, hint, .. } => {
            let failure = Failure::from(anyhow::Error::msg(text)).with_exit(Exit::Refused);
            Err(match hint {
                Some(hint) => failure.with_hint(hint),
                None => failure,
            })
        }
    }
}

/// Upstream's line for each registration; the rest is in the log.
fn tell(event: daemon::Event) {
    if let daemon::Event::Registered { id, executor_id } = event {
        output::note(&format!("codex exec-server remote executor {id} registered with executor_id {executor_id}"));
    }
}

fn token_source(args: &ExecServerArgs) -> TokenSource {
    match &args.token_file {
        Some(file) => TokenSource::File(file.clone()),
        None if env::text(env::EXEDRA_TOKEN).is_some() => TokenSource::Env(env::EXEDRA_TOKEN.to_owned()),
        None => TokenSource::Env(env::CODEX_EXEC_SERVER_REMOTE_BEARER_TOKEN.to_owned()),
    }
}

/// What every executor of this binary is made of: commands never inherit our secrets.
pub(super) fn config() -> ExecutorConfig {
    let mut host = HostConfig::default();
    host.environment = env::for_commands();
    ExecutorConfig { host, ..ExecutorConfig::default() }
}
