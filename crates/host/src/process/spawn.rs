//! From the params of `process/start` to a running child with its ends of pipes or PTY.
//!
//! In flow params that have been checked and the host, out flow the child, its exit, its stdin and its outputs, or the
//! text that stock has for the failure. Knows no id, no table and no event.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use exedra_proto::limits::ResourceLimits;
use exedra_proto::process::{OutputStream, StartParams};
use exedra_proto::sandbox::{Enforcement, SandboxContext};
use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::Interest;

use super::cgroup::{Group, Unavailable};
use super::confine::{self, Confinement};
use super::environment;
use super::host::Host;
use super::launch::{Launch, Watched};
use super::mark::Mark;
use super::program;
use super::pty::Pty;
use super::quota::Quota;
use super::reach;
use super::reap::{ExitWatch, Leader};
use super::source::Source;
use super::stdin::Sink;
use crate::error::StartError;
use crate::policy::Policy;
use crate::policy::commands::machine;
use crate::sandbox::Placeholders;

/// A running child.
#[derive(Debug)]
pub struct Spawned {
    /// The child; dropped, it is killed.
    pub leader: Leader,
    /// Its exit.
    pub exit: ExitWatch,
    /// Where its stdin is written, if it is to be.
    pub stdin: Option<Sink>,
    /// Where its output is read.
    pub sources: Vec<Source>,
    /// Our end of its terminal, if it has one, for as long as that is open.
    pub terminal: Option<Weak<Watched>>,
    /// What it is confined by, to be kept until it has ended.
    pub sandbox: Option<Placeholders>,
}

/// Our ends of the child's streams, not yet registered anywhere.
struct Ends {
    stdin: Option<OwnedFd>,
    outputs: Vec<(OutputStream, OwnedFd)>,
}

/// Refuses params that cannot be served, whatever the system says.
///
/// # Errors
/// Empty `argv`, or something to be enforced that cannot be.
pub fn check(params: &StartParams) -> Result<(), StartError> {
    if params.argv.is_empty() {
        return Err(StartError::EmptyArgv);
    }
    let set = params.env_policy.iter().flat_map(|policy| policy.set.keys());
    // A name with the sign in it would set another variable than the one that is judged and written down.
    if params.env.keys().chain(set).any(|name| name.is_empty() || name.contains(['=', '\0'])) {
        return Err(StartError::VariableName);
    }
    for (name, limit) in params.limits.iter().flat_map(ResourceLimits::needed_to_start) {
        if limit == Some(0) {
            let text = format!("limits: `{name}` is at least 1: a command with none cannot be started");
            return Err(StartError::LimitUnavailable(text));
        }
    }
    if params.enforce_managed_network || params.network_proxy.is_some() || params.managed_network.is_some() {
        return Err(StartError::SandboxUnavailable);
    }
    match params.sandbox.as_ref().map(SandboxContext::for_processes) {
        Some(Enforcement::MissingCwd) => Err(StartError::SandboxMissingCwd),
        _ => Ok(()),
    }
}

/// What the child must be confined by, if anything.
fn sandbox(params: &StartParams) -> Option<&SandboxContext> {
    params.sandbox.as_ref().filter(|sandbox| sandbox.for_processes() != Enforcement::NotNeeded)
}

/// Starts the child, which carries `mark` and is held to `policy` and `quota`.
///
/// # Errors
/// Why it does not run.
pub async fn spawn(
    host: &Host,
    params: &StartParams,
    (policy, quota): (&Arc<Policy>, &Quota),
    mark: Option<Mark>,
) -> Result<Spawned, StartError> {
    if params.argv[0].is_empty() {
        return Err(StartError::MissingProgram { pty: params.tty });
    }
    let failed = |error: io::Error| StartError::Spawn(error.to_string());
    look_at(params.cwd.as_path().to_owned()).await;
    let (mut launch, ends) = prepare(host, params, policy)?;
    let execute = hold_to_list(policy, params, &mut launch).await?;
    launch.rlimits = mark.map(Mark::limit).into_iter().chain(quota.rlimits()).collect();
    let group = group(host, quota)?;
    (launch.birthplace, launch.cgroups) = group.doors().map_err(failed)?;
    let spawner = host.spawner();
    let confinement =
        Confinement { client: sandbox(params), owner: policy.sandbox.as_ref(), policy, execute: execute.as_deref() };
    let (launched, confined) = if confinement.is_needed() {
        let (launched, confined) =
            confine::start(host, confinement, launch).await.map_err(|e| confinement.failure(e))?;
        (launched, Some(confined))
    } else {
        (spawner.launch(launch).await.map_err(failed)?, None)
    };
    let leader = Leader::new(launched.pid, mark, group, spawner.clone());
    let exit = ExitWatch::new(launched.pid, launched.pidfd).map_err(failed)?;
    let (stdin, sources) = register(ends, params.tty).map_err(failed)?;
    let sandbox = match confined {
        None => None,
        Some(confined) => Some(confined.confirm().await.map_err(|error| confinement.failure(error))?),
    };
    let terminal = stdin.as_ref().filter(|sink| sink.terminal).map(|sink| Arc::downgrade(&sink.fd));
    Ok(Spawned { leader, exit, stdin, sources, terminal, sandbox })
}

/// Looks at the directory and comes to no verdict, which is the child's. A file system that hangs then hangs the start
/// that wants it, and not the one thread that makes all of them.
async fn look_at(cwd: PathBuf) {
    let _ = tokio::task::spawn_blocking(move || std::fs::metadata(cwd).is_ok()).await;
}

fn prepare(host: &Host, params: &StartParams, policy: &Policy) -> Result<(Launch, Ends), StartError> {
    let failed = |error: io::Error| StartError::Spawn(error.to_string());
    policy.variables.check(params, policy.commands.is_some()).map_err(StartError::Refused)?;
    let own = policy.variables.of(host.environment());
    let mut env = environment::build(&own, params.env_policy.as_ref(), &params.env);
    if params.tty {
        env.entry("SHELL".into()).or_insert_with(|| host.shell().into());
    }
    let argv0 = params.arg0.as_ref().unwrap_or(&params.argv[0]);
    let candidates = candidates(params, env.get(OsStr::new("PATH")).map(|path| path.as_os_str()))?;
    let argv = std::iter::once(argv0).chain(&params.argv[1..]);
    let joined = env.into_iter().map(|(mut name, value)| {
        name.push("=");
        name.push(value);
        name.into_vec()
    });
    let (candidates, argv, env, cwd) = (
        strings(candidates)?,
        strings(argv.map(|arg| arg.as_bytes().to_vec()))?,
        strings(joined)?,
        string(params.cwd.as_path().as_os_str().as_bytes().to_vec())?,
    );
    let (stdio, ends) = if params.tty { pty_stdio() } else { pipe_stdio(params.pipe_stdin) }.map_err(failed)?;
    let launch = Launch {
        candidates,
        argv,
        env,
        cwd,
        stdio,
        terminal: params.tty,
        rlimits: Vec::new(),
        birthplace: None,
        cgroups: Vec::new(),
        inherit: None,
        namespaces: None,
    };
    Ok((launch, ends))
}

/// The control groups that hold the child to its limits, or to those that can be held here if that is enough.
fn group(host: &Host, quota: &Quota) -> Result<Group, StartError> {
    let mut made = Err(StartError::LimitUnavailable(String::new()));
    for bounds in quota.bounds() {
        made = host.site().make(bounds).map_err(|Unavailable(why)| StartError::LimitUnavailable(why));
        if made.is_ok() {
            break;
        }
    }
    made
}

/// What to execute. For a PTY directory and program are looked at first, for the texts of stock.
fn candidates(params: &StartParams, path: Option<&OsStr>) -> Result<Vec<Vec<u8>>, StartError> {
    let program = &params.argv[0];
    if !params.tty {
        return Ok(program::candidates(program, path).into_iter().map(|candidate| candidate.into_vec()).collect());
    }
    let cwd = params.cwd.as_path();
    let failed = |error: io::Error| StartError::Spawn(error.to_string());
    if !std::fs::metadata(cwd).map_err(nul_text)?.is_dir() {
        return Err(failed(rustix::io::Errno::NOTDIR.into()));
    }
    // The child starts in `cwd`, so a path through a relative one must not be taken from there again.
    let cwd = std::path::absolute(cwd).map_err(failed)?;
    let resolved = program::resolve(program, path, &cwd).map_err(StartError::Spawn)?;
    Ok(vec![resolved.into_os_string().into_vec()])
}

/// The standard library says it in other words for paths.
fn nul_text(error: io::Error) -> StartError {
    let nul = error.kind() == io::ErrorKind::InvalidInput && error.raw_os_error().is_none();
    StartError::Spawn(if nul { NUL.to_owned() } else { error.to_string() })
}

/// What a list of commands makes of a launch: the one program that may run is started by where it really is, whatever becomes
/// of the links that led there. What it and all that it starts may execute.
async fn hold_to_list(
    policy: &Arc<Policy>,
    params: &StartParams,
    launch: &mut Launch,
) -> Result<Option<Vec<PathBuf>>, StartError> {
    if policy.commands.is_none() {
        return Ok(None);
    }
    let cwd = std::path::absolute(params.cwd.as_path()).map_err(nul_text)?;
    let path = |candidate: &CString| cwd.join(OsStr::from_bytes(candidate.as_bytes()));
    let candidates: Vec<PathBuf> = launch.candidates.iter().map(path).collect();
    let (argv, arg0, policy) = (params.argv.clone(), params.arg0.clone(), Arc::clone(policy));
    let judge = move || {
        let commands = policy.commands.as_ref()?;
        let argv0 = arg0.as_ref().unwrap_or(&argv[0]);
        let allowed = commands.judge(&machine(), &candidates, argv0, &argv[1..]);
        Some(allowed.and_then(|allowed| {
            reach::check(&policy, &allowed.real)?;
            Ok((allowed.real, commands.executable()))
        }))
    };
    let judged = tokio::task::spawn_blocking(judge).await.map_err(|error| StartError::Spawn(error.to_string()))?;
    let Some(allowed) = judged else { return Ok(None) };
    let (real, execute) = allowed.map_err(StartError::Refused)?;
    launch.candidates = vec![string(real.into_os_string().into_vec())?];
    Ok(execute)
}

/// The text of stock for a NUL byte where none can be.
const NUL: &str = "nul byte found in provided data";

fn strings(items: impl IntoIterator<Item = Vec<u8>>) -> Result<Vec<CString>, StartError> {
    items.into_iter().map(string).collect()
}

fn string(bytes: Vec<u8>) -> Result<CString, StartError> {
    CString::new(bytes).map_err(|_| StartError::Spawn(NUL.to_owned()))
}

fn pipe_stdio(writable: bool) -> io::Result<([OwnedFd; 3], Ends)> {
    let (stdin, ours) = if writable {
        let (read, write) = pipe()?;
        (read, Some(write))
    } else {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        (above_stdio(rustix::fs::open("/dev/null", flags, Mode::empty())?)?, None)
    };
    let (stdout, out) = pipe()?;
    let (stderr, err) = pipe()?;
    let outputs = vec![(OutputStream::Stdout, stdout), (OutputStream::Stderr, stderr)];
    Ok(([stdin, out, err], Ends { stdin: ours, outputs }))
}

fn pty_stdio() -> io::Result<([OwnedFd; 3], Ends)> {
    let pty = Pty::open()?;
    let terminal = above_stdio(pty.terminal)?;
    let stdio = [terminal.try_clone()?, terminal.try_clone()?, terminal];
    let outputs = vec![(OutputStream::Pty, pty.controller)];
    Ok((stdio, Ends { stdin: None, outputs }))
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    Ok((above_stdio(read)?, above_stdio(write)?))
}

/// The child's descriptors 0 to 2 are made by copying; a source among them would be overwritten.
pub(super) fn above_stdio(fd: OwnedFd) -> io::Result<OwnedFd> {
    if fd.as_raw_fd() >= 3 {
        return Ok(fd);
    }
    Ok(rustix::io::fcntl_dupfd_cloexec(fd.as_fd(), 3)?)
}

fn register(ends: Ends, terminal: bool) -> io::Result<(Option<Sink>, Vec<Source>)> {
    let mut sources = Vec::new();
    let mut stdin = ends.stdin.map(|fd| nonblocking(fd, Interest::WRITABLE)).transpose()?;
    for (stream, fd) in ends.outputs {
        let both = if terminal { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
        let fd = nonblocking(fd, both)?;
        if terminal {
            stdin = Some(fd.clone());
        }
        sources.push(Source::new(stream, fd));
    }
    Ok((stdin.map(|fd| Sink { fd, terminal }), sources))
}

fn nonblocking(fd: OwnedFd, interest: Interest) -> io::Result<Arc<Watched>> {
    rustix::io::ioctl_fionbio(&fd, true)?;
    Ok(Arc::new(Watched::new(fd, interest)?))
}
