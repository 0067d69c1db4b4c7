//! The old process's end: it starts the new one, and then does as that one says.

use std::ffi::OsString;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::net::UnixStream as StdStream;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use exedra_proto::plane::Cutoff;
use exedra_rendezvous::Legacy;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use super::{ToNew, ToOld, channel};
use crate::env;
use crate::exit::Failure;

/// How long the new process may take to open its records, an upgrade of the database included.
const PATIENCE: Duration = Duration::from_secs(120);
/// What the manager of services says to one process alone.
const OURS_ALONE: &[&str] = &["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_PID"];

/// How this program was started, to be started again. The path is that of the file as it is now called, so that a new
/// version in its place is what starts.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    args: Vec<OsString>,
}

impl Program {
    /// This one. To be asked for at the start.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn this() -> std::io::Result<Self> {
        let path = std::env::current_exe()?.into_os_string();
        // The system's word for a file that was replaced before we asked.
        let path =
            path.as_bytes().strip_suffix(b" (deleted)").map_or(path.clone(), |path| OsString::from_vec(path.to_vec()));
        Ok(Self { path: path.into(), args: std::env::args_os().skip(1).collect() })
    }
}

/// A new process that is ready to take our place.
#[derive(Debug)]
pub struct Successor {
    socket: UnixStream,
    child: Child,
}

impl Successor {
    /// Starts `program`, and waits until it is ready. If it is not, it is ended, and nothing has changed here.
    ///
    /// # Errors
    /// It did not come up.
    pub async fn start(program: &Program, listener: BorrowedFd<'_>, hold: OwnedFd) -> Result<Self, Failure> {
        if std::process::id() == 1 {
            let what = anyhow::anyhow!("this is process 1, with whose end all others end; it cannot hand over");
            return Err(Failure::from(what).with_hint("hold the listening socket outside, and restart"));
        }
        let (socket, theirs) = StdStream::pair()?;
        let mut command = Command::new(&program.path);
        command.args(&program.args).env(env::EXEDRA_HANDOVER, "stdin").stdin(Stdio::from(OwnedFd::from(theirs)));
        for name in OURS_ALONE {
            command.env_remove(name);
        }
        let child = command.spawn().with_context(|| format!("cannot start {}", program.path.display()))?;
        tracing::info!(pid = child.id(), "a new process is to take the place of this one");
        let mut started = Started { child: Some(child) };
        channel::send_descriptors(&socket, &[listener, hold.as_fd()])?;
        // What is left of the command has a copy of the other end, by which its end would not be seen.
        drop(command);
        socket.set_nonblocking(true)?;
        let mut socket = UnixStream::from_std(socket)?;
        let word = tokio::time::timeout(PATIENCE, channel::receive(&mut socket)).await;
        match word.context("the new process does not get ready")?.context("the new process is not understood")? {
            Some(ToOld::Ready) => {}
            Some(ToOld::Order(_)) => return Err(anyhow::anyhow!("the new process speaks out of turn").into()),
            None => return Err(started.end().await.into()),
        }
        match started.child.take() {
            Some(child) => Ok(Self { socket, child }),
            None => Err(anyhow::anyhow!("the new process is gone").into()),
        }
    }

    /// It is the new process's turn: it accepts from now on.
    pub async fn your_turn(&mut self, legacy: Legacy) {
        if let Err(error) = channel::send(&mut self.socket, &ToNew::YourTurn(Box::new(legacy))).await {
            tracing::error!(%error, "the new process is gone");
        }
    }

    /// Carries out the new process's orders, until there are none to come: it has ended, or goes on without this one.
    ///
    /// `left` is over when nobody is here any more. If it then gives the way to the process before this one, which
    /// still has somebody, the new one gets that, and the orders that it has given until then are carried out.
    pub async fn obey(&mut self, cutoff: &dyn Cutoff, left: impl Future<Output = Option<OwnedFd>>) {
        let (mut reader, writer) = self.socket.split();
        let obeying = async {
            loop {
                match channel::receive(&mut reader).await {
                    Ok(Some(ToOld::Order(order))) => order.carry_out(cutoff),
                    Ok(Some(ToOld::Ready)) => {}
                    Ok(None) => return,
                    Err(error) => return tracing::warn!(%error, "the new process is not understood"),
                }
            }
        };
        let leaving = async {
            let Some(way) = left.await else { return };
            match channel::send_descriptor(writer.as_ref(), way.as_fd()).await {
                Ok(()) => std::future::pending().await,
                Err(error) => tracing::warn!(%error, "the new process is gone"),
            }
        };
        tokio::select! {
            () = obeying => tracing::info!("the new process needs this one no more, or has ended"),
            () = leaving => {}
        }
    }

    /// Which process it is.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }
}

/// A process that is ended unless it gets ready.
struct Started {
    child: Option<Child>,
}

impl Started {
    /// Waits for the end of a process that closed its socket, and tells of it.
    async fn end(&mut self) -> anyhow::Error {
        let Some(child) = &mut self.child else { return anyhow::anyhow!("the new process is gone") };
        match tokio::time::timeout(Duration::from_secs(5), child.wait()).await {
            Ok(Ok(status)) => anyhow::anyhow!("the new process ended instead of getting ready: {status}"),
            _ => anyhow::anyhow!("the new process hung up instead of getting ready"),
        }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.start_kill();
        }
    }
}
