//! `exedra up`: registry, rendezvous and one executor in this process, each on its real socket with its real database.
//!
//! In flow the flags. With a command, its output and exit code flow out, and nothing stays behind; without, the lines to
//! paste next do, and the process stays until a signal. Nothing takes a short cut: the command goes through the registry,
//! a ticket and the rendezvous, as from any other machine.

mod credentials;
mod next;

use std::fs::Permissions;
use std::io::{self, IsTerminal as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use exedra_client::Server;
use exedra_client::process::Command;
use exedra_executor::Executor;
use exedra_executor::daemon::{self, Daemon, DaemonConfig, TokenSource};
use exedra_executor::listen::{ListenOptions, ListenUrl, Listener};
use exedra_proto::ids::ExecutorId;
use exedra_registry::{ACCESS_KEEP, RateLimits};
use tempfile::TempDir;
use tokio::signal::unix::Signal;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::filter::LevelFilter;

use self::credentials::Credentials;
use self::next::Next;
use super::{exec_server, policy};
use crate::cli::UpArgs;
use crate::cli::sessions::SessionArgs;
use crate::exit::{Exit, Failure};
use crate::plane::{Front, Listen, Plane, PlaneConfig};
use crate::relay::{self, Run};
use crate::signals::Signals;
use crate::{log, runtime, settings};

/// Under which id clients find the executor.
const EXECUTOR: &str = "local";
/// Where the server listens if it stays.
const PORT: u16 = 8900;
/// How long a command waits for the executor to be there: as long as the rest of a start waits for a disk that is slow.
const PATIENCE: Duration = Duration::from_secs(30);
/// Who holds the data directory.
const PURPOSE: &str = "exedra up";

/// Everything, running.
struct Up {
    plane: Plane,
    credentials: Credentials,
    executor: Arc<Executor>,
    cancel: CancellationToken,
    /// The executor's daemon and its listener.
    tasks: JoinSet<Result<(), Failure>>,
}

/// Runs the command and stops, or stays.
///
/// # Errors
/// Something could not start, or the command could not be run.
pub fn run(args: UpArgs) -> Result<Exit, Failure> {
    if args.argv.is_empty() { stay(args) } else { once(args) }
}

fn once(args: UpArgs) -> Result<Exit, Failure> {
    log::init(LevelFilter::WARN)?;
    let stdin = !io::stdin().is_terminal();
    let run = Run { command: Command { stdin, ..Command::new(args.argv) }, stdin };
    let listen = args.listen.unwrap_or((Ipv4Addr::LOCALHOST, 0).into());
    let (data_dir, temporary) = match args.data_dir {
        Some(dir) => (dir, None),
        None => {
            let private = Permissions::from_mode(0o700);
            let dir = tempfile::Builder::new().prefix("exedra-up-").permissions(private).tempdir();
            let dir = dir.context("cannot make a temporary directory")?;
            (dir.path().to_owned(), Some(dir))
        }
    };
    let done = runtime::full(async {
        let mut signals = Signals::listen()?;
        let hangup = args.policy.is_some().then(|| signals.take_hangup()).transpose()?;
        let up = Up::start(listen, &data_dir, &args.sessions, args.policy.zip(hangup)).await?;
        let done = up.run(run, &mut signals).await;
        // Whatever the command came to, a second signal does not wait.
        let executor = Arc::clone(&up.executor);
        let _ = signals.hurrying(|| executor.hurry(), up.stop()).await;
        done
    });
    remove(temporary);
    done
}

fn stay(args: UpArgs) -> Result<Exit, Failure> {
    log::init(LevelFilter::INFO)?;
    let listen = args.listen.unwrap_or((Ipv4Addr::LOCALHOST, PORT).into());
    let data_dir = std::path::absolute(settings::data_dir(args.data_dir)?)?;
    runtime::full(async {
        let mut signals = Signals::listen()?;
        let hangup = args.policy.is_some().then(|| signals.take_hangup()).transpose()?;
        let mut up = Up::start(listen, &data_dir, &args.sessions, args.policy.zip(hangup)).await?;
        let told = up.tell(&data_dir, args.json).await;
        let ended = match told {
            Ok(()) => tokio::select! {
                stop = signals.next() => {
                    tracing::info!(?stop, "stopping");
                    Ok(Exit::Success)
                }
                Some(ended) = up.tasks.join_next() => ended.map_err(Failure::from).flatten().map(|()| Exit::Failed),
            },
            Err(failure) => Err(failure),
        };
        let executor = Arc::clone(&up.executor);
        match signals.hurrying(|| executor.hurry(), up.stop()).await {
            Ok(()) => ended,
            Err(stop) => Ok(Exit::Signal(stop.number())),
        }
    })
}

impl Up {
    async fn start(
        listen: SocketAddr,
        data_dir: &Path,
        sessions: &SessionArgs,
        owner: Option<(PathBuf, Signal)>,
    ) -> Result<Self, Failure> {
        let mut executor = exec_server::config(sessions, vec![data_dir.join("spool")]);
        executor.host.own.push(data_dir.to_owned());
        if let Some((file, _)) = &owner {
            executor.host.policy = policy::open(file, None)?;
        }
        let current = executor.host.policy.clone();
        let plane = Plane::start(PlaneConfig {
            listen: Listen::At(listen),
            data_dir: data_dir.to_owned(),
            public_url: None,
            purpose: PURPOSE,
            bind_keys: false,
            rates: RateLimits::default(),
            aws_region: None,
            access_keep: ACCESS_KEEP,
            drain_window: Duration::ZERO,
            front: Front::default(),
            metrics: None,
            workloads: None,
            otlp: None,
        });
        let plane = plane.await?;
        let credentials = Credentials::make(plane.tokens(), data_dir).await?;
        let executor = Arc::new(Executor::new(executor)?);
        let mut config = DaemonConfig::new(plane.url(), EXECUTOR);
        config.token = TokenSource::Fixed(credentials.executor.clone());
        let daemon = Daemon::new(config, Arc::clone(&executor))?;
        let cancel = CancellationToken::new();
        let mut tasks = JoinSet::new();
        if let Some((file, hangup)) = owner {
            let stop = cancel.clone();
            tasks.spawn(async move {
                stop.run_until_cancelled(policy::follow(file, current, hangup, None)).await;
                Ok(())
            });
        }
        let (connected, mut is_connected) = watch::channel(false);
        tasks.spawn(serve(daemon, cancel.clone(), connected));
        // Without it, or in time, the first client is told why.
        let _ = tokio::time::timeout(PATIENCE, is_connected.wait_for(|connected| *connected)).await;
        Ok(Self { plane, credentials, executor, cancel, tasks })
    }

    /// Runs one command through the server.
    async fn run(&self, run: Run, signals: &mut Signals) -> Result<Exit, Failure> {
        let id = ExecutorId::parse(EXECUTOR)?;
        let server = Server::new(self.plane.url(), &self.credentials.client, false)?;
        let executor = tokio::select! {
            biased;
            stop = signals.next() => return Ok(Exit::Signal(stop.number())),
            executor = server.executor(&id, PATIENCE, |_, _| {}) => executor?,
        };
        relay::run(executor, run, signals).await
    }

    /// Opens a listener for a stock Codex, and prints how all of this is used.
    async fn tell(&mut self, data_dir: &Path, json: bool) -> Result<(), Failure> {
        let any_port = ListenUrl::Ws((Ipv4Addr::LOCALHOST, 0).into());
        let listener = Listener::bind(&any_port, ListenOptions::default()).await?;
        let token_file = self.credentials.keep(self.plane.tokens(), data_dir).await?;
        let next = Next {
            server: self.plane.url(),
            executor: EXECUTOR,
            token_file: &token_file,
            listener: &listener.url().to_string(),
            data_dir,
            pid: std::process::id(),
        };
        next.print(json)?;
        let (executor, cancel) = (Arc::clone(&self.executor), self.cancel.clone());
        self.tasks.spawn(async move {
            let end = listener.run(executor, cancel).await;
            tracing::debug!(?end, "the listener has ended");
            Ok(())
        });
        Ok(())
    }

    async fn stop(mut self) {
        self.cancel.cancel();
        while self.tasks.join_next().await.is_some() {}
        self.credentials.revoke(self.plane.tokens()).await;
        self.plane.shutdown().await;
    }
}

/// Runs the executor; `connected` turns true when clients can come.
async fn serve(daemon: Daemon, cancel: CancellationToken, connected: watch::Sender<bool>) -> Result<(), Failure> {
    let tell = move |event| {
        if event == daemon::Event::Connected {
            connected.send_replace(true);
        }
    };
    match daemon.run(cancel, tell).await {
        daemon::Exit::Cancelled => Ok(()),
        daemon::Exit::GaveUp { text, .. } => Err(Failure::from(anyhow::Error::msg(text))),
    }
}

/// Removes the private directory. What cannot be removed is told: it held secrets, if only short-lived ones.
fn remove(temporary: Option<TempDir>) {
    let Some(dir) = temporary else { return };
    let path: PathBuf = dir.path().to_owned();
    if let Err(error) = dir.close() {
        tracing::warn!(%error, "cannot remove {}", path.display());
    }
}
