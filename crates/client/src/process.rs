//! A process on the executor: its output in order and whole, its stdin, its end.
//!
//! In flow a [`Command`] and bytes for stdin, out flow [`Event`]s in the order in which they happened there. The end of
//! a run is `closed` and never `exited`: output may follow an exit. Nothing is dropped: while [`Process::next`] is not
//! called, the connection is soon not read, and then the command waits.

mod stdin;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use exedra_link::peer::Client;
use exedra_proto::ids::ProcessId;
use exedra_proto::method::{Method as _, ProcessResize, ProcessSignal, ProcessStart, ProcessTerminate, ServerEvent};
use exedra_proto::path::CwdPath;
use exedra_proto::process::{
    EnvInherit, EnvPolicy, OutputStream, ProcessParams, ResizeParams, ResizeStatus, Signal, SignalParams, StartParams,
    TerminalSize,
};
use exedra_proto::session::ExedraOne;

use crate::error::Error;
use crate::inbox::{Inbox, Numbered};
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
    inbox: Inbox<ServerEvent>,
    exit_code: Option<i32>,
    closed: bool,
}

/// Acts on a process; clones act on the same one.
#[derive(Clone, Debug)]
pub struct Controls {
    client: Client,
    id: ProcessId,
    extension: ExedraOne,
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
        }
    }

    fn params(&self, process_id: ProcessId) -> StartParams {
        StartParams {
            process_id,
            argv: self.argv.clone(),
            cwd: self.cwd.clone(),
            env: self.env.clone(),
            env_policy: self.env_policy.clone(),
            tty: self.tty,
            pipe_stdin: self.stdin,
            arg0: None,
            sandbox: None,
            enforce_managed_network: false,
            managed_network: None,
            network_proxy: None,
            limits: None,
        }
    }
}

impl Process {
    /// Starts `command` under `id`. The id is known to `routes` before anything is sent, since the first events may
    /// come before the answer.
    pub(crate) async fn start(
        client: &Client,
        routes: &Arc<Routes>,
        id: ProcessId,
        extension: ExedraOne,
        command: &Command,
    ) -> Result<Self, Error> {
        let params = command.params(id.clone());
        let controls = Controls { client: client.clone(), id: id.clone(), extension, writes: Arc::default() };
        let mut process = Self {
            controls,
            routes: Arc::clone(routes),
            inbox: Inbox::new(routes.process(&id)),
            exit_code: None,
            closed: false,
        };
        let answer = client.call::<ProcessStart>(&params);
        tokio::select! {
            biased;
            answer = answer => answer.map_err(|error| Error::of_call(ProcessStart::NAME, error))?,
            error = process.early_events() => return Err(error),
        };
        Ok(process)
    }

    /// Takes events that come before the answer to the start, which would otherwise never be reached behind them.
    async fn early_events(&mut self) -> Error {
        match self.inbox.take_early(EARLY_BYTES).await {
            Err(gap) => gap.into(),
            Ok(()) if self.inbox.held_bytes() > EARLY_BYTES => {
                Error::Protocol("output without an answer to process/start".to_owned())
            }
            // The connection ended: the answer to the start tells better what that means.
            Ok(()) => std::future::pending().await,
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

    /// The next event; none after the last, when it has exited and all its output was given. Cancelling loses nothing.
    ///
    /// # Errors
    /// The connection was lost ([`Error::LostWhileRunning`]), events are missing ([`Error::Gap`]), or the peer broke
    /// the protocol.
    pub async fn next(&mut self) -> Result<Option<Event>, Error> {
        if self.closed {
            return Ok(None);
        }
        match self.inbox.next().await?.ok_or_else(|| Error::LostWhileRunning(self.routes.ended()))? {
            ServerEvent::ProcessOutput(params) => {
                let bytes = params.chunk.decode().map_err(|text| Error::Protocol(format!("output: {text}")))?;
                Ok(Some(Event::Output { stream: params.stream, bytes: bytes.into() }))
            }
            ServerEvent::ProcessExited(params) => {
                self.exit_code = Some(params.exit_code);
                Ok(Some(Event::Exited { code: params.exit_code }))
            }
            ServerEvent::ProcessClosed(_) if self.exit_code.is_some() => {
                self.closed = true;
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

impl Drop for Process {
    fn drop(&mut self) {
        self.routes.forget_process(&self.controls.id);
    }
}

impl Controls {
    /// Kills it. Whether it was running; its last events follow as usual.
    ///
    /// # Errors
    /// The connection was lost.
    pub async fn terminate(&self) -> Result<bool, Error> {
        let params = ProcessParams { process_id: self.id.clone() };
        match self.client.call::<ProcessTerminate>(&params).await {
            Ok(result) => Ok(result.running),
            Err(error) => Err(Error::of_call(ProcessTerminate::NAME, error)),
        }
    }

    /// Sends SIGINT to its process group; nothing happens if it is not running any more.
    ///
    /// # Errors
    /// The connection was lost, or the executor is older than 0.142 and has no such method.
    pub async fn interrupt(&self) -> Result<(), Error> {
        let params = SignalParams { process_id: self.id.clone(), signal: Signal::Interrupt };
        match self.client.call::<ProcessSignal>(&params).await {
            Ok(_) => Ok(()),
            Err(error) => Err(Error::of_call(ProcessSignal::NAME, error)),
        }
    }

    /// Gives its terminal another size. False if it has none, or none any more.
    ///
    /// # Errors
    /// [`Error::Lacking`] if the executor cannot, or the connection was lost.
    pub async fn resize(&self, size: TerminalSize) -> Result<bool, Error> {
        if !self.extension.resize {
            return Err(Error::Lacking(ProcessResize::NAME));
        }
        let params = ResizeParams { process_id: self.id.clone(), size };
        match self.client.call::<ProcessResize>(&params).await {
            Ok(result) => Ok(result.status == ResizeStatus::Resized),
            Err(error) => Err(Error::of_call(ProcessResize::NAME, error)),
        }
    }

    fn next_write(&self) -> String {
        format!("w{}", self.writes.fetch_add(1, Ordering::Relaxed))
    }
}

impl Numbered for ServerEvent {
    fn seq(&self) -> u64 {
        match self {
            Self::ProcessOutput(params) => params.seq,
            Self::ProcessExited(params) => params.seq,
            Self::ProcessClosed(params) => params.seq,
            Self::HttpBodyDelta(params) => params.seq,
            // It comes once.
            Self::FsMissingChanged(_) => 1,
        }
    }

    fn size(&self) -> usize {
        match self {
            Self::ProcessOutput(params) => params.chunk.decoded_len_estimate(),
            Self::HttpBodyDelta(params) => params.delta_base64.decoded_len_estimate(),
            Self::ProcessExited(_) | Self::ProcessClosed(_) | Self::FsMissingChanged(_) => 0,
        }
    }
}
