//! A server and executors as separate processes, as in real life, on ports of their own.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::program::{Finished, Running, exedra, exedra_at, run};

/// `exedra serve` on a data directory of its own, with a client's token.
pub struct Server {
    pub url: String,
    pub dir: TempDir,
    pub client_token: String,
    environment: Vec<(&'static str, &'static str)>,
    flags: &'static [&'static str],
    program: PathBuf,
    serve: Option<Running>,
}

/// `exedra exec-server --listen`.
pub struct Listener {
    pub url: String,
    pub running: Running,
}

impl Server {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// With more in its environment.
    pub fn start_with(environment: &[(&'static str, &'static str)]) -> Self {
        Self::start_program(Path::new(env!("CARGO_BIN_EXE_exedra")), environment)
    }

    /// Of a copy of the binary.
    pub fn start_program(program: &Path, environment: &[(&'static str, &'static str)]) -> Self {
        Self::start_as(program, environment, &[])
    }

    /// That binds names to keys.
    pub fn start_bound() -> Self {
        Self::start_as(Path::new(env!("CARGO_BIN_EXE_exedra")), &[], &["--bind-key"])
    }

    fn start_as(program: &Path, environment: &[(&'static str, &'static str)], flags: &'static [&'static str]) -> Self {
        let mut server = Self {
            url: String::new(),
            dir: tempfile::tempdir().unwrap(),
            client_token: String::new(),
            environment: environment.to_vec(),
            flags,
            program: program.to_owned(),
            serve: None,
        };
        server.restart("127.0.0.1:0");
        server.client_token = server.token(&["--role", "client"]);
        server
    }

    /// Starts the server again, after [`Self::stop`].
    pub fn restart(&mut self, listen: &str) {
        let data_dir = self.data_dir();
        let args = ["serve", "--listen", listen, "--data-dir", data_dir.to_str().unwrap()];
        let mut command = exedra_at(&self.program, &args);
        let serve = Running::start(command.args(self.flags).envs(self.environment.iter().copied()));
        self.url = serve.line();
        self.serve = Some(serve);
    }

    /// The process that was started last.
    pub fn serving(&self) -> &Running {
        self.serve.as_ref().expect("the server runs")
    }

    /// The first line in its log that holds `text`.
    pub fn log_line(&self, text: &str) -> String {
        self.serve.as_ref().expect("the server runs").stderr_line(text)
    }

    pub fn stop(&mut self) -> Finished {
        self.serve.take().expect("the server runs").stop()
    }

    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A new token.
    pub fn token(&self, args: &[&str]) -> String {
        let data_dir = self.data_dir();
        let made = run(exedra(&["token", "create", "--data-dir", data_dir.to_str().unwrap()]).args(args));
        assert_eq!(made.code, 0, "{}", made.stderr);
        made.out().trim_end().to_owned()
    }

    /// An executor behind the server, registered.
    pub fn executor(&self, id: &str) -> Running {
        let token = self.token(&["--role", "executor", "--executor", id]);
        let executor = Running::start(self.executor_command(id).env("EXEDRA_TOKEN", token));
        executor.stderr_line("registered with executor_id");
        executor
    }

    pub fn executor_command(&self, id: &str) -> Command {
        exedra(&["exec-server", "--remote", &self.url, "--executor-id", id])
    }

    /// `exedra exec` with the server and the client's token in its environment.
    pub fn exec(&self, args: &[&str]) -> Command {
        let mut command = exedra(&["exec"]);
        command.args(args).env("EXEDRA_SERVER", &self.url).env("EXEDRA_TOKEN", &self.client_token);
        command
    }
}

impl Listener {
    pub fn start() -> Self {
        let running = Running::start(&mut exedra(&["exec-server", "--listen", "ws://127.0.0.1:0"]));
        Self { url: running.line(), running }
    }

    /// `exedra exec` straight to it.
    pub fn exec(&self, args: &[&str]) -> Command {
        let mut command = exedra(&["exec", "--url", &self.url]);
        command.args(args);
        command
    }
}
