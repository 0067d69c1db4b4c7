//! A process on the executor: its output in order and whole, its stdin, its end.
//!
//! In flow a [`Command`] and bytes for stdin, out flow [`Event`]s in the order in which they happened there. The end of
//! a run is `closed` and never `exited`: output may follow an exit. Nothing is dropped: while [`Process::next`] is not
//! called, the connection is soon not read, and then the command waits. A connection that is lost and made again is not
//! seen here but as a pause.

mod stdin;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use exedra_link::peer::CallError;
use exedra_proto::ids::ProcessId;
use exedra_proto::limits::{Limit, ResourceLimits};
use exedra_proto::method::{
    Method as _, ProcessRead, ProcessResize, ProcessSignal, ProcessStart, ProcessTerminate, ServerEvent,
};
use exedra_proto::path::CwdPath;
use exedra_proto::process::{
    EnvInherit, EnvPolicy, OutputStream, ProcessParams, ReadParams, ResizeParams, ResizeStatus, Signal, SignalParams,
    StartParams, TerminalSize,
};

use crate::error::Error;
use crate::inbox::Numbered as _;
use crate::intake::Intake;
use crate::line::{Line, Up};
use crate::paths::Paths;
use crate::receipts::Receipts;
use crate::routes::Routes;

/// Most output taken before the start of its process was answered, in bytes; more is a broken peer.
const EARLY_BYTES: usize = 64 * 1024 * 1024;

/// What to run.
#[derive(Clone, Debug)]
pub struct Command {
    /// Program and arguments, at least one.
    pub argv: Vec<String>,
    /// Where, absolute or relative to the executor's own directory.
    pub cwd: CwdPath,
    /// Variables to set.
    pub env: BTreeMap<String, String>,
    /// What the environment is made of below [`Self::env`]; none: nothing.
    pub env_policy: Option<EnvPolicy>,
    /// On a pseudo terminal.
    pub tty: bool,
    /// With a stdin that can be written to (a terminal always has one).
    pub stdin: bool,
    /// What it may use, with all that it starts; needs an executor that speaks this part of `exedra/1`.
    pub limits: Option<ResourceLimits>,
}

/// Something that happened to a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It wrote something.
    Output {
        /// Where to.
        stream: OutputStream,
        /// What.
        bytes: Bytes,
    },
    /// It ended; output may still follow.
    Exited {
        /// 0 to 255, 128 + n after signal n; -1 after a signal where the executor is a stock one up to 0.133.
        code: i32,
    },
}

/// A process that was started. Dropping it only stops listening: the process runs on.
#[derive(Debug)]
pub struct Process {
    controls: Controls,
    routes: Arc<Routes>,
    intake: Intake,
    receipts: Receipts,
    exit_code: Option<i32>,
    limit: Option<Limit>,
    closed: bool,
}

/// Acts on a process; clones act on the same one.
#[derive(Clone, Debug)]
pub struct Controls {
    line: Line,
    id: ProcessId,
    writes: Arc<AtomicU64>,
}

impl Command {
    /// `argv` in the executor's own directory, with its environment, no terminal and no stdin.
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        let policy = EnvPolicy {
            inherit: EnvInherit::All,
            ignore_default_excludes: true,
            exclude: Vec::new(),
            set: BTreeMap::new(),
            include_only: Vec::new(),
        };
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            cwd: CwdPath::native("."),
            env: BTreeMap::new(),
            env_policy: Some(policy),
            tty: false,
            stdin: false,
            limits: None,
        }
    }

    fn params(&self, process_id: ProcessId, paths: &Paths) -> StartParams {
        StartParams {
            process_id,
            argv: self.argv.clone(),
            cwd: paths.write_cwd(&self.cwd),
            env: self.env.clone(),
            env_policy: self.env_policy.clone(),
            tty: self.tty,
            pipe_stdin: self.stdin,
            arg0: None,
            sandbox: None,
            enforce_managed_network: false,
            managed_network: None,
            network_proxy: None,
            limits: self.limits.clone(),
        }
    }
}

impl Process {
    /// Starts `command` under `id`. The id is known to `routes` before anything is sent, since the first events may
    /// come before the answer.
    pub(crate) async fn start(
        line: &Line,
        routes: &Arc<Routes>,
        id: ProcessId,
        command: &Command,
    ) -> Result<Self, Error> {
        let params = command.params(id.clone(), line.paths());
        let controls = Controls { line: line.clone(), id: id.clone(), writes: Arc::default() };
        let mut process = Self {
            controls,
            routes: Arc::clone(routes),
            intake: routes.process(&id),
            receipts: Receipts::default(),
            exit_code: None,
            limit: None,
            closed: false,
        };
        tokio::select! {
            biased;
            started = ask(line, &params) => started?,
            error = process.early_events() => return Err(error),
        };
        Ok(process)
    }

    /// Takes events that come before the answer to the start, which would otherwise never be reached behind them.
    async fn early_events(&mut self) -> Error {
        match self.intake.take_early(EARLY_BYTES).await {
            Ok(()) if self.intake.held_bytes() > EARLY_BYTES => {
                Error::Protocol("output without an answer to process/start".to_owned())
            }
            // The connection ended: the answer to the start tells better what that means.
            Ok(()) | Err(Error::NotRecovered(_)) => std::future::pending().await,
            Err(error) => error,
        }
    }

    /// Its id.
    pub fn id(&self) -> &ProcessId {
        &self.controls.id
    }

    /// What acts on it, for use beside [`Self::next`].
    pub fn controls(&self) -> Controls {
        self.controls.clone()
    }

    /// The code that it exited with, once that is known.
    pub fn exit_code(&self) -> Option<i32> {
        self.exit_code
    }

    /// The limit that it was ended for, if it was, once it has exited.
    pub fn limit(&self) -> Option<Limit> {
        self.limit
    }

    /// The next event; none after the last, when it has exited and all its output was given. Cancelling loses nothing.
    ///
    /// # Errors
    /// The connection was lost for good ([`Error::LostWhileRunning`]), events are missing ([`Error::Gap`],
    /// [`Error::NotRecovered`]), or the peer broke the protocol.
    pub async fn next(&mut self) -> Result<Option<Event>, Error> {
        let Controls { line, id, .. } = &self.controls;
        self.receipts.flush(line, id).await;
        if self.closed {
            return Ok(None);
        }
        let event = self.intake.next().await?.ok_or_else(|| Error::LostWhileRunning(self.routes.loss()))?;
        self.receipts.given(event.seq(), event.size(), matches!(event, ServerEvent::ProcessClosed(_)));
        match event {
            ServerEvent::ProcessOutput(params) => {
                let bytes = params.chunk.decode().map_err(|text| Error::Protocol(format!("output: {text}")))?;
                Ok(Some(Event::Output { stream: params.stream, bytes }))
            }
            ServerEvent::ProcessExited(params) => {
                (self.exit_code, self.limit) = (Some(params.exit_code), params.limit);
                Ok(Some(Event::Exited { code: params.exit_code }))
            }
            ServerEvent::ProcessClosed(_) if self.exit_code.is_some() => {
                self.closed = true;
                self.receipts.flush(line, id).await;
                Ok(None)
            }
            ServerEvent::ProcessClosed(_) => {
                Err(Error::Protocol("a process was closed without an exit code".to_owned()))
            }
            ServerEvent::FsMissingChanged(_) => Err(Error::Protocol("a file where a process was expected".to_owned())),
            ServerEvent::HttpBodyDelta(_) => Err(Error::Protocol("a body where a process was expected".to_owned())),
        }
    }
}

/// Starts it. A start that was sent is never sent again: if its answer was lost with a connection, the next one is asked
/// whether the process is there.
async fn ask(line: &Line, params: &StartParams) -> Result<(), Error> {
    let mut up = line.up().await.map_err(|loss| loss.not_sent(ProcessStart::NAME))?;
    loop {
        if params.limits.is_some() && !up.extension.limits {
            return Err(Error::Lacking("limits of processes"));
        }
        let error = match up.client.call::<ProcessStart>(params).await {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        let CallError::Disconnected { was_sent, .. } = error else {
            return Err(Error::of_call(ProcessStart::NAME, error));
        };
        let unanswered = Error::of_call(ProcessStart::NAME, error);
        if !line.mends() {
            return Err(unanswered);
        }
        match line.after(up.number).await {
            Ok(next) => up = next,
            Err(_) => return Err(unanswered),
        }
        if was_sent {
            let process_id = params.process_id.clone();
            let read = ReadParams { process_id, after_seq: None, max_bytes: Some(0), wait_ms: Some(0) };
            return line.repeat::<ProcessRead>(&read).await.map(drop).map_err(|_| unanswered);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.routes.forget_process(&self.controls.id, self.closed && self.receipts.is_settled());
    }
}

impl Controls {
    /// Kills it. Whether it was running; its last events follow as usual.
    ///
    /// # Errors
    /// The connection was lost.
    pub async fn terminate(&self) -> Result<bool, Error> {
        let params = ProcessParams { process_id: self.id.clone() };
        Ok(self.line.repeat::<ProcessTerminate>(&params).await?.running)
    }

    /// Sends SIGINT to its process group; nothing happens if it is not running any more.
    ///
    /// # Errors
    /// The connection was lost, or the executor is older than 0.142 and has no such method.
    pub async fn interrupt(&self) -> Result<(), Error> {
        let params = SignalParams { process_id: self.id.clone(), signal: Signal::Interrupt };
        self.line.call::<ProcessSignal>(&params).await?;
        Ok(())
    }

    /// Gives its terminal another size. False if it has none, or none any more.
    ///
    /// # Errors
    /// [`Error::Lacking`] if the executor cannot, or the connection was lost.
    pub async fn resize(&self, size: TerminalSize) -> Result<bool, Error> {
        if !self.up(ProcessResize::NAME).await?.extension.resize {
            return Err(Error::Lacking(ProcessResize::NAME));
        }
        let params = ResizeParams { process_id: self.id.clone(), size };
        Ok(self.line.repeat::<ProcessResize>(&params).await?.status == ResizeStatus::Resized)
    }

    async fn up(&self, method: &'static str) -> Result<Up, Error> {
        self.line.up().await.map_err(|loss| loss.not_sent(method))
    }

    fn next_write(&self) -> String {
        format!("w{}", self.writes.fetch_add(1, Ordering::Relaxed))
    }
}
