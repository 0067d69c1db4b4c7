//! A server of ours as a real process, with its credentials, and the executors and clients that use it.
//!
//! In flows the path of the built binary, out flow a running server, executors behind it and finished `exec` runs. It
//! knows the command line and nothing of what is behind it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::net::listen;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::time::{sleep, timeout};

use crate::child::{Running, Spawn};
use crate::stock::Stock;

/// For a process to say that it is ready.
pub const READY: Duration = Duration::from_secs(20);
/// How often something is looked at.
const LOOK: Duration = Duration::from_millis(10);
/// How long a server may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(15);
/// Connections that may wait for a server that is away.
const BACKLOG: i32 = 4096;
/// The most that a process of ours can log.
pub const TRACE: (&str, &str) = ("EXEDRA_LOG", "trace");
/// For an `exec` of the checks, unless they say otherwise.
pub const EXEC: Duration = Duration::from_secs(60);

/// A server with its data directory and tokens. It can be stopped and started again.
#[derive(Debug)]
pub struct Plane {
    exedra: PathBuf,
    dir: PathBuf,
    socket: Option<Arc<TcpListener>>,
    /// How the server is run, if not as our binary alone.
    wrapped: Option<Spawn>,
    server: Option<Running>,
    /// Servers that have handed over; the first is our child, and ends when nobody uses it any more.
    predecessors: Vec<Running>,
    /// The server's own process, which a wrapper may have started.
    pid: Option<Pid>,
    /// How often the server was started; each time has its own log.
    starts: usize,
    /// Where it is reached.
    pub url: String,
    /// Of role client.
    pub client_token: String,
    /// Of role executor.
    pub executor_token: String,
    /// Whether its processes log all they can.
    trace: bool,
}

impl Plane {
    /// Starts a server on a free port, with its records and logs below `dir`; with `trace` its processes log all they
    /// can.
    ///
    /// # Errors
    /// It does not start, or gives no tokens.
    pub async fn start(exedra: &Path, dir: &Path, trace: bool) -> Result<Self> {
        Self::new(exedra, dir, trace, None).begin().await
    }

    /// The same on a socket that is held here, so that it outlives the server.
    ///
    /// # Errors
    /// It does not start, or gives no tokens.
    pub async fn start_held(exedra: &Path, dir: &Path, trace: bool) -> Result<Self> {
        let socket = Arc::new(TcpListener::bind("127.0.0.1:0")?);
        // As many may wait as a service manager lets wait.
        listen(&*socket, BACKLOG)?;
        Self::new(exedra, dir, trace, Some(socket)).begin().await
    }

    /// The same with a server that is run by `wrapped`, which ends with our binary and takes its arguments.
    ///
    /// # Errors
    /// It does not start, or gives no tokens.
    pub async fn start_wrapped(wrapped: Spawn, exedra: &Path, dir: &Path) -> Result<Self> {
        let mut plane = Self::new(exedra, dir, false, None);
        plane.wrapped = Some(wrapped);
        plane.begin().await
    }

    fn new(exedra: &Path, dir: &Path, trace: bool, socket: Option<Arc<TcpListener>>) -> Self {
        Self {
            trace,
            exedra: exedra.to_owned(),
            dir: dir.to_owned(),
            socket,
            wrapped: None,
            server: None,
            predecessors: Vec::new(),
            pid: None,
            starts: 0,
            url: String::new(),
            client_token: String::new(),
            executor_token: String::new(),
        }
    }

    async fn begin(mut self) -> Result<Self> {
        let plane = &mut self;
        plane.serve("127.0.0.1:0").await?;
        plane.client_token = plane.token("client").await?;
        plane.executor_token = plane.token("executor").await?;
        Ok(self)
    }

    async fn serve(&mut self, address: &str) -> Result<()> {
        self.starts += 1;
        let spawn = self.wrapped.clone().unwrap_or_else(|| self.spawn());
        let mut spawn = spawn.args(["serve", "--json", "--rate-per-token", "0", "--listen", address]);
        if let Some(socket) = &self.socket {
            spawn = spawn.held(socket);
        }
        let mut server =
            spawn.arg("--data-dir").arg(self.data()).start(&format!("server-{}", self.starts), &self.dir)?;
        let line = server.first_line(READY).await?;
        let said: Value = serde_json::from_str(&line).with_context(|| format!("the server said {line:?}"))?;
        self.url = said.get("server").and_then(Value::as_str).context("the server gave no URL")?.to_owned();
        let pid = said.get("pid").and_then(Value::as_i64).and_then(|pid| i32::try_from(pid).ok());
        self.pid = Some(pid.and_then(Pid::from_raw).context("the server gave no process id")?);
        self.server = Some(server);
        Ok(())
    }

    /// Stops the server in good order.
    ///
    /// # Errors
    /// It does not end well.
    pub async fn stop(&mut self) -> Result<()> {
        let pid = self.pid.take().context("the server does not run")?;
        kill_process(pid, Signal::TERM)?;
        if let Some(mut server) = self.server.take() {
            let status = server.wait(GRACE).await?;
            ensure!(status.success(), "the server ended with {status}");
        }
        // One that was handed over to is no child of ours.
        let deadline = Instant::now() + GRACE;
        while is_alive(pid) {
            ensure!(Instant::now() < deadline, "the server does not end");
            sleep(LOOK).await;
        }
        for mut predecessor in self.predecessors.drain(..) {
            let status = predecessor.wait(GRACE).await?;
            ensure!(status.success(), "a server that had handed over ended with {status}");
        }
        Ok(())
    }

    /// Has the server hand over to a new process of itself.
    ///
    /// # Errors
    /// It does not.
    pub async fn hand_over(&mut self) -> Result<()> {
        let before = self.pid.context("the server does not run")?;
        kill_process(before, Signal::USR2)?;
        let deadline = Instant::now() + READY;
        let now = loop {
            match self.holder() {
                Some(holder) if holder != before => break holder,
                _ => ensure!(Instant::now() < deadline, "nobody takes over; {}", self.server()?.tail()),
            }
            sleep(LOOK).await;
        };
        self.pid = Some(now);
        self.predecessors.extend(self.server.take());
        Ok(())
    }

    /// The process that holds the records.
    fn holder(&self) -> Option<Pid> {
        let holder: Value = serde_json::from_str(&std::fs::read_to_string(self.data().join("lock")).ok()?).ok()?;
        Pid::from_raw(i32::try_from(holder.get("pid")?.as_i64()?).ok()?)
    }

    /// Kills the server as nothing can be prepared for.
    ///
    /// # Errors
    /// It does not run.
    pub async fn kill(&mut self) -> Result<()> {
        self.pid = None;
        self.server.take().context("the server does not run")?.kill().await
    }

    /// The server's process.
    ///
    /// # Errors
    /// It does not run.
    pub fn server(&self) -> Result<&Running> {
        self.server.as_ref().context("the server does not run")
    }

    /// Where it listens, `IP:PORT`.
    ///
    /// # Errors
    /// Its URL is not one of plain http.
    pub fn address(&self) -> Result<&str> {
        self.url.strip_prefix("http://").context("a URL of plain http")
    }

    /// Starts the server again where it was.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start_again(&mut self) -> Result<()> {
        let address = self.address()?.to_owned();
        self.serve(&address).await
    }

    fn spawn(&self) -> Spawn {
        let spawn = Spawn::new(&self.exedra);
        if self.trace { spawn.env(TRACE.0, TRACE.1) } else { spawn }
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    async fn token(&self, role: &str) -> Result<String> {
        Ok(self.token_command(&["create", "--role", role]).text(READY).await?.trim().to_owned())
    }

    /// `exedra token` with `args` on the server's records, ready to run.
    pub fn token_command(&self, args: &[&str]) -> Spawn {
        Spawn::new(&self.exedra).arg("token").args(args).arg("--data-dir").arg(self.data())
    }

    /// An executor of ours, registered as `id`.
    ///
    /// # Errors
    /// It cannot be started, or does not register.
    pub async fn executor(&self, id: &str) -> Result<Running> {
        self.register(self.spawn(), id).await
    }

    /// A stock one, registered as `id`; it gives up on any error, so the server has to be there.
    ///
    /// # Errors
    /// It cannot be started, or does not register.
    pub async fn stock_executor(&self, stock: &Stock, home: &Path, id: &str) -> Result<Running> {
        self.register(stock.spawn(home), id).await
    }

    async fn register(&self, spawn: Spawn, id: &str) -> Result<Running> {
        let mut executor = spawn
            .args(["exec-server", "--remote", &self.url, "--executor-id", id])
            .env("CODEX_EXEC_SERVER_REMOTE_BEARER_TOKEN", &self.executor_token)
            .start(&format!("executor-{id}"), &self.dir)?;
        executor.says(&format!("registered with executor_id {id}"), READY).await?;
        Ok(executor)
    }

    /// `exedra exec` with `args`, ready to run.
    pub fn exec(&self, args: &[&str]) -> Spawn {
        Spawn::new(&self.exedra)
            .arg("exec")
            .args(args)
            .env("EXEDRA_SERVER", &self.url)
            .env("EXEDRA_TOKEN", &self.client_token)
    }

    /// `exedra exec` with `args` and `input` on its stdin, which then ends.
    ///
    /// # Errors
    /// It cannot be run or does not end within [`EXEC`].
    pub async fn exec_with_input(&self, args: &[&str], input: Vec<u8>) -> Result<Output> {
        let mut command = self.exec(args).command()?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let mut stdin = child.stdin.take().context("no stdin")?;
        let write = async {
            // A command that reads only a part breaks the pipe, which is fine.
            let _ = stdin.write_all(&input).await;
            drop(stdin);
        };
        let both = async { tokio::join!(write, child.wait_with_output()) };
        let (_, output) = timeout(EXEC, both).await.with_context(|| format!("exec {args:?} did not end"))?;
        Ok(output?)
    }
}

/// Whether it runs; one that only waits for somebody to ask how it ended does not.
fn is_alive(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, fields)| !fields.starts_with(['Z', 'X']))
}

impl Drop for Plane {
    /// The server ends with its wrapper only if it is told.
    fn drop(&mut self) {
        if let Some(pid) = self.pid {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}
