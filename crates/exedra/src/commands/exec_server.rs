//! `exedra exec-server`: this machine as an executor, on a listener or behind a server.
//!
//! In flow the flags, out flow the URL (listener) or a line per registration (server), and the exit status in the end.
//! The texts of failures are those of upstream's executor, which scripts know.

mod access;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use exedra_executor::daemon::verdict::Reason;
use exedra_executor::daemon::{self, Daemon, DaemonConfig};
use exedra_executor::listen::auth::{SignedOptions, WsAuth};
use exedra_executor::listen::tls::Tls;
use exedra_executor::listen::{ListenOptions, ListenUrl, Listener};
use exedra_executor::{Executor, ExecutorConfig, ExecutorError};
use exedra_host::HostConfig;
use exedra_host::process::WhenFull;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::filter::LevelFilter;

use super::{audit, policy};
use crate::cli::ExecServerArgs;
use crate::cli::listen::{LimitArgs, ListenArgs, WsAuthMode};
use crate::cli::sessions::{SessionArgs, WhenFullArg};
use crate::exit::{Exit, Failure};
use crate::signals::Signals;
use crate::{env, log, output, runtime, settings};

/// Runs the executor until it is told to stop, or cannot go on.
///
/// # Errors
/// It could not start, or not register.
pub fn run(args: ExecServerArgs) -> Result<Exit, Failure> {
    log::init(LevelFilter::INFO)?;
    runtime::full(async move {
        let mut signals = Signals::listen()?;
        let hangup = args.policy.is_some().then(|| signals.take_hangup()).transpose()?;
        let audit = audit::open(&args.audit)?;
        let mut config = limited(
            ExecutorConfig { audit: audit.clone(), ..config(&args.sessions, settings::spools()) },
            &args.limits,
        );
        config.host.own.extend(own(&args));
        let follow = match (&args.policy, hangup) {
            (Some(file), Some(hangup)) => {
                config.host.policy = policy::open(file, audit.as_ref())?;
                Some(policy::follow(file.clone(), config.host.policy.clone(), hangup, audit.clone()))
            }
            _ => None,
        };
        let serve = async {
            match &args.remote {
                Some(url) => remote(url, &args, config, signals).await,
                None => listen(&args, config, signals).await,
            }
        };
        let ended = match follow {
            None => serve.await,
            Some(follow) => tokio::select! {
                ended = serve => ended,
                never = follow => match never {},
            },
        };
        if let Some(audit) = audit {
            audit.stop();
        }
        ended
    })
}

async fn listen(args: &ExecServerArgs, config: ExecutorConfig, mut signals: Signals) -> Result<Exit, Failure> {
    let url: ListenUrl =
        args.listen.parse().map_err(|error: ExecutorError| Failure::from(error).with_exit(Exit::Usage))?;
    let executor = Arc::new(Executor::new(config)?);
    let listener = Listener::bind(&url, options(&args.listener)?).await?;
    if !matches!(listener.url(), ListenUrl::Stdio) {
        output::line(&listener.address())?;
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
    daemon.labels = args.label.iter().cloned().collect();
    if !args.transport.is_empty() {
        daemon.transports = args.transport.iter().map(|transport| (*transport).into()).collect();
    }
    let access = access::resolve(url, args)?;
    let kept = access.kept();
    daemon.token = access.token;
    daemon.join = access.join;
    daemon.http.insecure_http = args.insecure_http;
    let executor = Arc::new(Executor::new(config)?);
    let daemon =
        Daemon::new(daemon, Arc::clone(&executor)).map_err(|error| Failure::from(error).with_exit(Exit::Refused))?;
    let cancel = CancellationToken::new();
    let run = async { Ok(daemon.run(cancel.clone(), tell).await) };
    match signals.cancelling(&cancel, || executor.hurry(), run).await? {
        daemon::Exit::Cancelled => Ok(Exit::Success),
        daemon::Exit::GaveUp { text, hint, reason } => {
            let failure = Failure::from(anyhow::Error::msg(text)).with_exit(Exit::Refused);
            Err(match (kept, hint) {
                (Some(file), _) if reason == Reason::Auth => failure.with_hint(access::rejoin(&file)),
                (_, Some(hint)) => failure.with_hint(hint),
                (_, None) => failure,
            })
        }
    }
}

/// Upstream's line for each registration; the rest is in the log.
fn tell(event: daemon::Event) {
    if let daemon::Event::Registered { id, executor_id } = event {
        // As upstream has it with registries that give a registration no id.
        let id = if id.is_empty() { id } else { format!("{id} ") };
        output::note(&format!("codex exec-server remote executor {id}registered with executor_id {executor_id}"));
    }
}

/// What clients are kept from: what the flags name, beside what every executor has.
fn own(args: &ExecServerArgs) -> Vec<PathBuf> {
    let listener = &args.listener;
    let files = [&args.token_file, &listener.ws_token_file, &listener.ws_shared_secret_file, &listener.tls_key];
    let others = [&args.audit.dir, &args.audit.identity, &args.join.join_file];
    let named = env::text(env::EXEDRA_TOKEN_FILE).map(PathBuf::from);
    files.into_iter().chain(others).flatten().cloned().chain(named).collect()
}

fn limited(mut config: ExecutorConfig, limits: &LimitArgs) -> ExecutorConfig {
    config.max_sessions = limits.max_sessions.unwrap_or(config.max_sessions);
    config.host.max_processes = limits.max_processes.unwrap_or(config.host.max_processes);
    config
}

fn options(args: &ListenArgs) -> Result<ListenOptions, Failure> {
    let mut options = ListenOptions { insecure: args.insecure, ..ListenOptions::default() };
    options.max_connections = args.max_connections.unwrap_or(options.max_connections);
    options.auth = ws_auth(args)?.map(|auth| if args.ws_auth_query { auth.with_query() } else { auth });
    if let (Some(certificate), Some(key)) = (&args.tls_cert, &args.tls_key) {
        options.tls = Some(Arc::new(Tls::load(certificate.clone(), key.clone())?));
    }
    Ok(options)
}

fn ws_auth(args: &ListenArgs) -> Result<Option<WsAuth>, Failure> {
    let missing = |what: &str, flags: &str| Failure::usage(format!("--ws-auth {what} needs {flags}"), "see --help");
    let (file, hash, secret) = (&args.ws_token_file, &args.ws_token_sha256, &args.ws_shared_secret_file);
    match (args.ws_auth, file, hash, secret) {
        (None, ..) => Ok(None),
        (Some(WsAuthMode::CapabilityToken), Some(file), None, None) => Ok(Some(WsAuth::token_file(file.clone())?)),
        (Some(WsAuthMode::CapabilityToken), None, Some(hash), None) => Ok(Some(WsAuth::token_sha256(hash)?)),
        (Some(WsAuthMode::CapabilityToken), ..) => {
            Err(missing("capability-token", "one of --ws-token-file and --ws-token-sha256, and no other"))
        }
        (Some(WsAuthMode::SignedBearerToken), None, None, Some(file)) => {
            let (issuer, audience) = (args.ws_issuer.clone(), args.ws_audience.clone());
            let options = SignedOptions { issuer, audience, max_clock_skew: args.ws_max_clock_skew_seconds };
            Ok(Some(WsAuth::signed(file, options)?))
        }
        (Some(WsAuthMode::SignedBearerToken), ..) => {
            Err(missing("signed-bearer-token", "--ws-shared-secret-file, and no token"))
        }
    }
}

/// What every executor of this binary is made of: commands never inherit our secrets. Unless the flag says where, output
/// waits in the first of `spools` that can be used, and in memory alone without any.
pub(super) fn config(sessions: &SessionArgs, spools: Vec<PathBuf>) -> ExecutorConfig {
    let mut host = HostConfig::default();
    host.environment = env::for_commands();
    host.launcher = Some("/proc/self/exe".into());
    host.own_directories = settings::own();
    host.spool = sessions.spool.clone().or_else(|| spools.into_iter().find(|spool| is_usable(spool)));
    host.when_full = match sessions.when_full {
        WhenFullArg::Wait => WhenFull::Wait,
        WhenFullArg::DropOldest => WhenFull::DropOldest,
    };
    ExecutorConfig { host, session_ttl: sessions.session_ttl, ..ExecutorConfig::default() }
}

fn is_usable(spool: &Path) -> bool {
    let checked = HostConfig::check_spool(spool);
    checked.inspect_err(|error| tracing::warn!(dir = %spool.display(), %error, "cannot keep output there")).is_ok()
}
