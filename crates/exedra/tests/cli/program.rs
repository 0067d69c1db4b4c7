//! Runs the binary: to its end, or for as long as a test needs it. Every wait is for a condition and has a limit that
//! only a failure reaches.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Longest wait for anything.
pub const LIMIT: Duration = Duration::from_secs(60);

/// What a finished run left.
#[derive(Debug)]
pub struct Finished {
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Finished {
    pub fn out(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("stdout is text")
    }
}

/// The binary with `args`, and nothing of the environment that could change what it does; signals that the tests were
/// started to ignore (`nohup`, a job in the background) included.
pub fn exedra(args: &[&str]) -> Command {
    exedra_at(Path::new(env!("CARGO_BIN_EXE_exedra")), args)
}

/// The same of a copy of the binary.
pub fn exedra_at(program: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("env");
    command.arg("--default-signal=INT,TERM,HUP").arg(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for name in [
        "EXEDRA_SERVER",
        "EXEDRA_TOKEN",
        "EXEDRA_JOIN_TOKEN",
        "EXEDRA_TOKEN_FILE",
        "EXEDRA_CA_FILE",
        "EXEDRA_LOG",
        "EXEDRA_LOG_FORMAT",
        "SSL_CERT_DIR",
        "SSL_CERT_FILE",
        "CODEX_EXEC_SERVER_REMOTE_BEARER_TOKEN",
        "XDG_DATA_HOME",
        "XDG_CONFIG_HOME",
        "XDG_STATE_HOME",
        "http_proxy",
        "HTTP_PROXY",
        "ALL_PROXY",
        "all_proxy",
    ] {
        command.env_remove(name);
    }
    command.env("HOME", "/nowhere");
    command
}

/// Runs to the end.
pub fn run(command: &mut Command) -> Finished {
    Running::start(command).finish()
}

/// Runs to the end with `input` on stdin.
pub fn run_with_input(command: &mut Command, input: &[u8]) -> Finished {
    let mut running = Running::start(command.stdin(Stdio::piped()));
    let mut stdin = running.stdin();
    let input = input.to_vec();
    // A command that reads less than it is given is no failure of this writer.
    let writer = thread::spawn(move || drop(stdin.write_all(&input)));
    let finished = running.finish();
    writer.join().unwrap();
    finished
}

/// A run that goes on; killed if it is dropped.
pub struct Running {
    child: Child,
    lines: Receiver<String>,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<String>>,
    stderr_lines: Receiver<String>,
}

impl Running {
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.spawn().expect("the binary starts");
        let (lines_in, lines) = channel();
        let (stderr_in, stderr_lines) = channel();
        let stdout = child.stdout.take().map(|pipe| thread::spawn(move || tee(pipe, &lines_in)));
        let stderr = child
            .stderr
            .take()
            .map(|pipe| thread::spawn(move || String::from_utf8_lossy(&tee(pipe, &stderr_in)).into_owned()));
        Self { child, lines, stdout, stderr, stderr_lines }
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    pub fn stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().expect("stdin is a pipe")
    }

    /// The next line on stdout.
    pub fn line(&self) -> String {
        self.lines.recv_timeout(LIMIT).expect("a line on stdout")
    }

    /// The next line on stdout, if there is one to come.
    pub fn try_line(&self) -> Option<String> {
        self.lines.recv_timeout(LIMIT).ok()
    }

    /// The first line on stderr that holds `text`.
    pub fn stderr_line(&self, text: &str) -> String {
        loop {
            let line =
                self.stderr_lines.recv_timeout(LIMIT).unwrap_or_else(|_| panic!("a line with {text:?} on stderr"));
            if line.contains(text) {
                return line;
            }
        }
    }

    pub fn signal(&self, signal: &str) {
        kill(self.pid(), signal);
    }

    /// Waits for the end; a death by a signal is its negative number.
    pub fn wait(&mut self) -> i32 {
        let give_up = Instant::now() + LIMIT;
        loop {
            match self.child.try_wait().unwrap() {
                Some(status) => return code(status),
                None if Instant::now() > give_up => panic!("{} does not end", self.pid()),
                None => thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    /// Waits for the end and for all output.
    pub fn finish(mut self) -> Finished {
        let code = self.wait();
        let stdout = self.stdout.take().map(|thread| thread.join().unwrap()).unwrap_or_default();
        let stderr = self.stderr.take().map(|thread| thread.join().unwrap()).unwrap_or_default();
        Finished { code, stdout, stderr }
    }

    /// Asks it to stop, and waits until it has.
    pub fn stop(self) -> Finished {
        self.signal("TERM");
        self.finish()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

pub fn kill(pid: i32, signal: &str) {
    let status = Command::new("kill").args([format!("-{signal}"), pid.to_string()]).status().unwrap();
    assert!(status.success());
}

/// Whether a process with this id is there and not a zombie.
pub fn is_alive(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
}

/// Waits until `condition` holds.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let give_up = Instant::now() + LIMIT;
    while !condition() {
        assert!(Instant::now() < give_up, "never happened: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The content of a file, once it ends in a line end.
pub fn line_in(file: &Path) -> String {
    let mut text = String::new();
    until("a line in a file", || {
        text = std::fs::read_to_string(file).unwrap_or_default();
        text.ends_with('\n')
    });
    text.trim_end().to_owned()
}

fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| -status.signal().unwrap_or(0))
}

/// Reads to the end, and passes each line on as it comes.
fn tee(pipe: impl Read, lines: &std::sync::mpsc::Sender<String>) -> Vec<u8> {
    let (mut reader, mut all) = (BufReader::new(pipe), Vec::new());
    loop {
        let start = all.len();
        match reader.read_until(b'\n', &mut all) {
            Ok(0) | Err(_) => return all,
            Ok(_) => {
                let line = String::from_utf8_lossy(&all[start..]).trim_end().to_owned();
                // Whoever listens may have heard enough.
                let _ = lines.send(line);
            }
        }
    }
}
