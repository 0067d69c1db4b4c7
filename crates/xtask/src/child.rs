//! Processes of a run: started with their output in files, waited for with a deadline, killed with their owner.
//!
//! In flows a program with its arguments, out flows a [`Running`] that ends, by its id, when it is dropped. What the
//! program says is kept for the report of a failure.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::param::clock_ticks_per_second;
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_setaffinity};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

/// How often a file or a condition is looked at.
const LOOK: Duration = Duration::from_millis(10);
/// How long a process may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(15);
/// How much of a log goes into the report of a failure, in bytes.
const TAIL: usize = 4000;
/// Makes standard input the descriptor of a held socket, and says so as a service manager does.
const HELD: &str = r#"exec 3<&0 </dev/null; export LISTEN_FDS=1 LISTEN_PID=$$; exec "$0" "$@""#;

/// A program that is going to be started.
#[derive(Clone, Debug)]
pub struct Spawn {
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    clean: bool,
    dir: Option<PathBuf>,
    held: Option<Arc<TcpListener>>,
}

impl Spawn {
    /// With our environment and directory.
    pub fn new(program: &Path) -> Self {
        Self { program: program.to_owned(), args: Vec::new(), env: Vec::new(), clean: false, dir: None, held: None }
    }

    /// One more argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// More arguments.
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// One more variable.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Nothing of our environment but `PATH`.
    pub fn clean_env(mut self) -> Self {
        self.clean = true;
        self
    }

    /// Its working directory.
    pub fn dir(mut self, dir: &Path) -> Self {
        self.dir = Some(dir.to_owned());
        self
    }

    /// With the listening socket that is held for it, as a service manager gives it.
    pub fn held(mut self, socket: &Arc<TcpListener>) -> Self {
        self.held = Some(Arc::clone(socket));
        self
    }

    /// The command, which ends with its handle.
    ///
    /// # Errors
    /// The socket cannot be given.
    pub fn command(&self) -> Result<Command> {
        let mut command = match &self.held {
            None => Command::new(&self.program),
            Some(_) => Command::new("sh"),
        };
        command.kill_on_drop(true).stdin(Stdio::null());
        if let Some(socket) = &self.held {
            command.args(["-c", HELD]).arg(&self.program).stdin(OwnedFd::from(socket.try_clone()?));
        }
        command.args(&self.args);
        if self.clean {
            command.env_clear();
            command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        Ok(command)
    }

    /// Starts it as `name`, with its output in files of `logs`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(&self, name: &str, logs: &Path) -> Result<Running> {
        let (stdout, stderr) = (logs.join(format!("{name}.out")), logs.join(format!("{name}.err")));
        let mut command = self.command()?;
        command.stdout(File::create(&stdout)?).stderr(File::create(&stderr)?);
        let child = command.spawn().with_context(|| format!("cannot start {}", self.program.display()))?;
        Ok(Running { name: name.to_owned(), child, stdout, stderr })
    }

    /// Runs it to its end, at most for `limit`.
    ///
    /// # Errors
    /// It cannot be started or does not end in time.
    pub async fn output(&self, limit: Duration) -> Result<std::process::Output> {
        let mut command = self.command()?;
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let running =
            async { command.output().await.with_context(|| format!("cannot run {}", self.program.display())) };
        let Ok(output) = timeout(limit, running).await else {
            bail!("{} {:?} did not end within {limit:?}", self.program.display(), self.args);
        };
        output
    }

    /// Runs it and gives its standard output, which has to be UTF-8.
    ///
    /// # Errors
    /// As [`Spawn::output`], and where it does not succeed.
    pub async fn text(&self, limit: Duration) -> Result<String> {
        let output = self.output(limit).await?;
        ensure!(
            output.status.success(),
            "{} {:?} failed ({}): {}",
            self.program.display(),
            self.args,
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
        String::from_utf8(output.stdout).context("output that is not UTF-8")
    }
}

/// A process that lives as long as this, at most.
#[derive(Debug)]
pub struct Running {
    name: String,
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Running {
    /// Its id, while it runs.
    ///
    /// # Errors
    /// It ran, and ended.
    pub fn pid(&self) -> Result<u32> {
        self.child.id().with_context(|| format!("{} has ended", self.name))
    }

    /// Whether it has ended.
    ///
    /// # Errors
    /// What the system says.
    pub fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Its first line on stdout, once it is whole.
    ///
    /// # Errors
    /// The process ended first, or the time was up.
    pub async fn first_line(&mut self, limit: Duration) -> Result<String> {
        let file = self.stdout.clone();
        let first = move || {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            text.split_once('\n').map(|(line, _)| line.to_owned())
        };
        self.until("its first line", limit, first).await
    }

    /// Waits until its stderr has `text`.
    ///
    /// # Errors
    /// The process ended first, or the time was up.
    pub async fn says(&mut self, text: &str, limit: Duration) -> Result<()> {
        let file = self.stderr.clone();
        let found = || std::fs::read_to_string(&file).unwrap_or_default().contains(text).then_some(());
        self.until(&format!("the text {text:?}"), limit, found).await
    }

    async fn until<T>(&mut self, what: &str, limit: Duration, condition: impl Fn() -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + limit;
        loop {
            let ended = self.child.try_wait()?;
            if let Some(value) = condition() {
                return Ok(value);
            }
            if let Some(status) = ended {
                bail!("{} ended ({status}) before {what}; {}", self.name, self.tail());
            }
            ensure!(Instant::now() < deadline, "{} did not give {what} within {limit:?}; {}", self.name, self.tail());
            sleep(LOOK).await;
        }
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// The time was up.
    pub async fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        match timeout(limit, self.child.wait()).await {
            Ok(status) => Ok(status?),
            Err(_) => bail!("{} did not end within {limit:?}; {}", self.name, self.tail()),
        }
    }

    /// SIGTERM, and its end.
    ///
    /// # Errors
    /// It does not end; then it is killed.
    pub async fn stop(mut self) -> Result<ExitStatus> {
        if let Some(pid) = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
            kill_process(pid, Signal::TERM)?;
        }
        self.wait(GRACE).await
    }

    /// SIGKILL, and its end.
    ///
    /// # Errors
    /// It is gone already.
    pub async fn kill(mut self) -> Result<()> {
        ensure!(!self.has_ended()?, "{} has ended; {}", self.name, self.tail());
        Ok(self.child.kill().await?)
    }

    /// What the system counts as its resident memory, in bytes.
    ///
    /// # Errors
    /// It has ended.
    pub fn resident(&self) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()?))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kilobytes * 1024.0)
    }

    /// How much of a processor it has used so far.
    ///
    /// # Errors
    /// It has ended.
    pub fn processor_time(&self) -> Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()?))?;
        let (_, fields) = stat.rsplit_once(") ").context("no name in stat")?;
        let ticks = |at: usize| Ok::<u64, anyhow::Error>(fields.split(' ').nth(at).context("a short stat")?.parse()?);
        // Fields 14 and 15 of the whole line: user and system time.
        let ticks = ticks(11)? + ticks(12)?;
        Ok(Duration::from_secs_f64(ticks as f64 / clock_ticks_per_second() as f64))
    }

    /// From now on all its threads run on one processor, the first.
    ///
    /// # Errors
    /// It has ended, or the system refuses.
    pub fn keep_to_one_processor(&self) -> Result<()> {
        let mut one = CpuSet::new();
        one.set(0);
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.pid()?))? {
            let thread = thread?.file_name().to_str().and_then(|id| id.parse().ok()).and_then(Pid::from_raw);
            sched_setaffinity(thread, &one)?;
        }
        Ok(())
    }

    /// The end of what it said on stderr, or `nothing was logged`.
    pub fn tail(&self) -> String {
        let text = std::fs::read(&self.stderr).unwrap_or_default();
        let from = text.len().saturating_sub(TAIL);
        let tail = String::from_utf8_lossy(text.get(from..).unwrap_or_default()).trim().to_owned();
        if tail.is_empty() { "nothing was logged".to_owned() } else { format!("it said:\n{tail}") }
    }
}
