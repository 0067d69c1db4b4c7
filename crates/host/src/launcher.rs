//! The program that enters a sandbox and runs what is to run within: this very executable, started anew under a name of its
//! own, before it is anything else and while it has a single thread.
//!
//! In flows a job on descriptor 3, out flow replies there and an exit status. In a PID namespace it stays as the first
//! process: it reaps, and its end is the end of all. Without one it becomes the command.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Command as Program, ExitCode, Stdio};

use rustix::process::{Pid, Signal, WaitOptions, chdir, set_parent_process_death_signal, wait};

use crate::process::{LAUNCHER, inherited};
use crate::sandbox::{self, Command, Job, Raw, Reply, Task};

/// What the launcher ends with if the sandbox could not be made or the command not be started; nobody is told the number.
const NOTHING_RAN: u8 = 125;

/// Takes the whole process over if it was started as the launcher: the status to end with. To be called first of all.
pub fn take_over() -> Option<ExitCode> {
    let name = std::env::args_os().next()?;
    (name.as_os_str() == LAUNCHER).then(|| run().unwrap_or(ExitCode::from(NOTHING_RAN)))
}

fn run() -> io::Result<ExitCode> {
    let channel = UnixStream::from(inherited().ok_or(io::ErrorKind::NotFound)?);
    let Some(job) = sandbox::receive::<Job>(&channel)? else { return Ok(ExitCode::from(NOTHING_RAN)) };
    if job.namespaces {
        set_parent_process_death_signal(Some(Signal::KILL))?;
    }
    if let Err(error) = sandbox::enter(&job.plan, job.namespaces) {
        sandbox::send(&channel, &Reply::Unenforced(error.to_string()))?;
        return Ok(ExitCode::from(NOTHING_RAN));
    }
    sandbox::send(&channel, &Reply::Shut)?;
    match job.task {
        Task::Probe => Ok(ExitCode::SUCCESS),
        Task::Run(command) => match start(&command, job.namespaces) {
            Ok(child) => {
                drop(channel);
                attend(child)
            }
            Err(error) => {
                sandbox::send(&channel, &Reply::NotStarted(error.to_string()))?;
                Ok(ExitCode::from(NOTHING_RAN))
            }
        },
    }
}

/// Starts the command, as a child where there is a PID namespace for it; tries the candidates as `execvp` does.
fn start(command: &Command, as_child: bool) -> io::Result<Pid> {
    chdir(command.cwd.as_path())?;
    let mut refused = None;
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for candidate in &command.candidates {
        let mut program = program(command, candidate);
        let error = match as_child {
            true => match program.spawn() {
                Ok(child) => return pid(child.id()),
                Err(error) => error,
            },
            false => program.exec(),
        };
        match error.raw_os_error() {
            Some(libc::EACCES) => refused = Some(error),
            Some(libc::ENOENT | libc::ENOTDIR | libc::ESTALE | libc::ENODEV | libc::ETIMEDOUT) => last = error,
            _ => return Err(error),
        }
    }
    Err(refused.unwrap_or(last))
}

fn program(command: &Command, candidate: &Raw) -> Program {
    // Without a slash it would be searched for again.
    let here = !candidate.0.as_bytes().contains(&b'/');
    let mut program =
        if here { Program::new(std::path::Path::new(".").join(&candidate.0)) } else { Program::new(&candidate.0) };
    if let Some((argv0, rest)) = command.argv.split_first() {
        program.arg0(&argv0.0).args(rest.iter().map(|raw| &raw.0));
    }
    program.env_clear();
    for raw in &command.env {
        let bytes = raw.0.as_bytes();
        // A name may begin with the sign that ends it.
        let end = bytes.iter().skip(1).position(|byte| *byte == b'=').map(|at| at + 1);
        if let Some(end) = end {
            program.env(OsStr::from_bytes(&bytes[..end]), OsStr::from_bytes(&bytes[end + 1..]));
        }
    }
    program.stdin(Stdio::inherit()).stdout(Stdio::inherit()).stderr(Stdio::inherit());
    program
}

fn pid(number: u32) -> io::Result<Pid> {
    i32::try_from(number).ok().and_then(Pid::from_raw).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Reaps everybody until the command has ended: its status, 128 + n after signal n. Nobody outlives us.
fn attend(child: Pid) -> io::Result<ExitCode> {
    // As long as we hold its streams, they have no end.
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    loop {
        let (pid, status) = match wait(WaitOptions::empty()) {
            Ok(Some(ended)) => ended,
            Ok(None) | Err(rustix::io::Errno::INTR) => continue,
            Err(errno) => return Err(errno.into()),
        };
        if pid == child {
            let signal = || status.terminating_signal().map(|signal| 128 + signal);
            let code = status.exit_status().or_else(signal).and_then(|code| u8::try_from(code).ok());
            return Ok(ExitCode::from(code.unwrap_or(NOTHING_RAN)));
        }
    }
}
