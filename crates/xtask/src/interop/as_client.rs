//! A stock Codex as client of our listener: what its tools do is done by our process.
//!
//! The model behind it is a stand-in, so that no account is needed. Commands tell who ran them, which is compared with the
//! process that we started, and our audit tells who changed files. Every version goes through the same.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::World;
use super::app_server::AppServer;
use crate::child::{Running, Spawn};
use crate::model::{Model, Wish};
use crate::plane::TRACE;
use crate::report::Report;
use crate::stock::Stock;

/// Prints the process that runs the shell, something computed, and ends with a code of its own.
pub(super) const COMMAND: &str = "echo $(cat /proc/$PPID/comm):$PPID; echo out-$((6*7)); echo err-$((6*8)) >&2; exit 7";
/// Stock clients take such a command apart and do it through `fs/*`.
const PATCH: &str = "apply_patch <<'EOF'\n*** Begin Patch\n*** Add File: new.txt\n+hello\n*** Update File: old.txt\n@@\n-a\n+b\n*** End Patch\nEOF";
/// Says something long after the turn that it began in, and ends.
const LATE: &str = "sleep 1; echo la\"\"te-$((6*7)); exit 5";
/// Ends by an interrupt, and says so.
const TRAP: &str = "trap 'echo got-$((6*7)); exit 9' INT; : > armed; while :; do sleep 0.1; done";
/// Runs on whatever becomes of its turn.
const ENDLESS: &str = "echo $$ > pid.new; mv pid.new pid; exec sleep 600";
/// What the client is told where its own sandbox is not wanted.
pub(super) const UNCONFINED: &str = "--dangerously-bypass-approvals-and-sandbox";
/// For a whole turn of the stock client.
const TURN: Duration = Duration::from_secs(90);
/// For a process to be gone.
const GONE: Duration = Duration::from_secs(20);
/// From this version on an interrupt reaches a command without a terminal.
const SIGNALS: u32 = 142;

/// All checks of this part, with each version.
pub(super) async fn run(world: &World, report: &Report) -> Result<()> {
    for stock in &world.clients {
        let dir = world.folder(&format!("client-{}", stock.version))?;
        let seat = Seat { world, stock, dir };
        seat.tool_call(report).await?;
        report.check(&seat.name("apply_patch changes files through our process"), seat.patch()).await?;
        report.check(&seat.name("a command outlives its turn"), seat.outlived()).await?;
        report.check(&seat.name("a command on a terminal is interrupted"), seat.interrupted(true)).await?;
        if stock.minor() >= SIGNALS {
            report.check(&seat.name("a command without a terminal is interrupted"), seat.interrupted(false)).await?;
        }
        report.check(&seat.name("an interrupted turn, and its command is ended"), seat.turn_interrupted()).await?;
    }
    Ok(())
}

/// One version at our listener.
pub(super) struct Seat<'a> {
    pub(super) world: &'a World,
    pub(super) stock: &'a Stock,
    pub(super) dir: PathBuf,
}

/// A listener of ours with its audit.
pub(super) struct Listener {
    server: Running,
    url: String,
    audit: PathBuf,
}

/// A client that does one turn and ends.
pub(super) struct Client<'a> {
    /// The program in its place.
    pub(super) spawn: &'a Spawn,
    /// Arguments about its sandbox.
    pub(super) sandbox: &'a [String],
}

/// What a user and a model do together.
pub(super) struct Place {
    pub(super) listener: Listener,
    pub(super) model: Model,
    pub(super) work: PathBuf,
    client: Spawn,
    logs: PathBuf,
    /// What the client says about its sandbox.
    sandbox: Vec<String>,
}

impl Seat<'_> {
    pub(super) fn name(&self, what: &str) -> String {
        format!("stock {} as client: {what}", self.stock.version)
    }

    async fn tool_call(&self, report: &Report) -> Result<()> {
        let turn = async {
            let mut place = self.place("tool-call", [("go", Wish::Run(COMMAND.to_owned()))]).await?;
            let output = place.exec().await?;
            Ok((output, place.listener.pid()?))
        };
        let turn = report.check(&self.name("a turn with one tool call ends well"), turn).await?;
        let Some((output, pid)) = turn else { return Ok(()) };
        let has = |text: String| {
            let found = output.contains(&text);
            let shown = output.clone();
            async move {
                ensure!(found, "{text:?} is not in {shown:?}");
                Ok(())
            }
        };
        report.check(&self.name("our process ran the command"), has(format!("exedra:{pid}\n"))).await?;
        report.check(&self.name("its stdout came back"), has("out-42".to_owned())).await?;
        report.check(&self.name("its stderr came back"), has("err-48".to_owned())).await?;
        report.check(&self.name("its exit code came back"), has("exited with code 7".to_owned())).await?;
        Ok(())
    }

    async fn patch(&self) -> Result<()> {
        let mut place = self.place("patch", [("go", Wish::Run(PATCH.to_owned()))]).await?;
        std::fs::write(place.work.join("old.txt"), "a\n")?;
        let output = place.exec().await?;
        ensure!(output.contains("Success"), "the tool gave back {output:?}");
        for (name, expected) in [("new.txt", "hello\n"), ("old.txt", "b\n")] {
            let path = place.work.join(name);
            ensure!(std::fs::read_to_string(&path)? == expected, "{name} is not what the patch makes of it");
            place.listener.changed(&path)?;
        }
        Ok(())
    }

    async fn outlived(&self) -> Result<()> {
        let leave = Wish::Leave { command: LATE.to_owned(), tty: false };
        let place = self.place("outlived", [("begin", leave), ("look", Wish::Keys(""))]).await?;
        let mut thread = place.thread().await?;
        place.turn(&mut thread, "begin").await?;
        let output = place.turn(&mut thread, "look").await?;
        ensure!(output.contains("late-42"), "later output was {output:?}");
        ensure!(output.contains("exited with code 5"), "its end was told as {output:?}");
        Ok(())
    }

    async fn interrupted(&self, tty: bool) -> Result<()> {
        let leave = Wish::Leave { command: TRAP.to_owned(), tty };
        let name = if tty { "interrupted-tty" } else { "interrupted" };
        let place = self.place(name, [("begin", leave), ("break", Wish::Keys("\u{3}"))]).await?;
        let mut thread = place.thread().await?;
        place.turn(&mut thread, "begin").await?;
        let armed = place.work.join("armed");
        until("the command waits for it", TURN, || armed.exists()).await?;
        let output = place.turn(&mut thread, "break").await?;
        ensure!(output.contains("got-42"), "the interrupt gave {output:?}");
        ensure!(output.contains("exited with code 9"), "its end was told as {output:?}");
        Ok(())
    }

    async fn turn_interrupted(&self) -> Result<()> {
        let wishes = [("go", Wish::Run(ENDLESS.to_owned())), ("then", Wish::Run("echo af\"\"ter".to_owned()))];
        let place = self.place("turn-interrupted", wishes).await?;
        let mut thread = place.thread().await?;
        let turn = thread.say("go").await?;
        let file = place.work.join("pid");
        until("the command runs", TURN, || file.exists()).await?;
        let process = Path::new("/proc").join(std::fs::read_to_string(&file)?.trim());
        ensure!(process.exists(), "the command did not run on");
        thread.interrupt(&turn).await?;
        let status = thread.turn_ended().await?;
        ensure!(status == "interrupted", "the turn is {status}");
        let output = place.turn(&mut thread, "then").await?;
        ensure!(output.contains("after"), "the next turn gave {output:?}");
        thread.end_commands().await?;
        until("the command is gone", GONE, || !process.exists()).await
    }

    /// A listener, a model and an empty directory, for one check.
    pub(super) async fn place(
        &self,
        name: &str,
        wishes: impl IntoIterator<Item = (&'static str, Wish)>,
    ) -> Result<Place> {
        let logs = self.dir.join(name);
        let (home, work) = (logs.join("home"), logs.join("work"));
        std::fs::create_dir_all(&home)?;
        std::fs::create_dir(&work)?;
        let listener = Listener::start(self.world, &logs).await?;
        let model = Model::start(wishes).await?;
        std::fs::write(home.join("config.toml"), model.config())?;
        let client = self.stock.spawn(&home).env("STAND_IN_KEY", "any").env("CODEX_EXEC_SERVER_URL", &listener.url);
        let sandbox = vec![UNCONFINED.to_owned()];
        Ok(Place { listener, model, work, client, logs, sandbox })
    }
}

impl Place {
    /// The same with the client's sandbox on in a mode of its own, and work done in `work`.
    pub(super) fn confined(self, mode: &str, work: PathBuf) -> Self {
        let settings = ["approval_policy=\"never\"".to_owned(), format!("sandbox_mode=\"{mode}\"")];
        let sandbox = settings.into_iter().flat_map(|setting| ["-c".to_owned(), setting]).collect();
        Self { work, sandbox, ..self }
    }

    /// One turn of a client that does no more; gives what the tool gave back.
    pub(super) async fn exec(&mut self) -> Result<String> {
        let client = Client { spawn: &self.client, sandbox: &self.sandbox };
        let output = client.exec(&self.work, &self.logs, &self.model).await?;
        let server = &mut self.listener.server;
        ensure!(!server.has_ended()?, "our listener did not stay; {}", server.tail());
        Ok(output)
    }

    async fn thread(&self) -> Result<AppServer> {
        AppServer::start(&self.client, &self.work, &self.logs).await
    }

    /// A whole turn; gives what the tool gave back.
    async fn turn(&self, thread: &mut AppServer, word: &str) -> Result<String> {
        let before = self.model.outputs().len();
        thread.say(word).await?;
        let status = thread.turn_ended().await?;
        ensure!(status == "completed", "the turn is {status}");
        let outputs = self.model.outputs();
        ensure!(outputs.len() == before + 1, "{} tool calls were made for {word:?}", outputs.len() - before);
        outputs.last().cloned().context("no tool call was made")
    }
}

impl Listener {
    async fn start(world: &World, logs: &Path) -> Result<Self> {
        let (audit, home) = (logs.join("audit"), logs.join("home"));
        // Commands are run by login shells, and what those read at home is nothing of this.
        std::fs::create_dir_all(&home)?;
        let spawn = Spawn::new(&world.exedra)
            .args(["exec-server", "--listen", "ws://127.0.0.1:0", "--audit"])
            .arg(&audit)
            .env("HOME", &home)
            .env("XDG_STATE_HOME", logs.join("state"))
            .env(TRACE.0, TRACE.1);
        let mut server = spawn.start("listener", logs)?;
        let url = server.first_line(Duration::from_secs(10)).await?;
        Ok(Self { server, url, audit })
    }

    fn pid(&self) -> Result<u32> {
        self.server.pid()
    }

    fn records(&self) -> Result<String> {
        let mut records = String::new();
        for entry in std::fs::read_dir(&self.audit)? {
            records.push_str(&String::from_utf8_lossy(&std::fs::read(entry?.path())?));
        }
        Ok(records)
    }

    /// Whether the audit says that every command was started in a sandbox of ours.
    pub(super) fn confined(&self) -> Result<()> {
        let records = self.records()?;
        let starts = || records.lines().filter(|line| line.contains(r#""kind":"start""#));
        let outside = starts().find(|line| !line.contains(r#""sandbox":true"#));
        ensure!(starts().count() > 0, "our audit knows of no command");
        ensure!(outside.is_none(), "a command was started without a sandbox: {outside:?}");
        Ok(())
    }

    /// Whether the audit says that a request changed `path`.
    fn changed(&self, path: &Path) -> Result<()> {
        let records = self.records()?;
        let path = path.display().to_string();
        let found = records.lines().any(|line| line.contains("fs/writeFile") && line.contains(&path));
        ensure!(found, "our audit knows of no change of {path}");
        Ok(())
    }
}

impl Client<'_> {
    /// One turn, the user's word being `go`; gives what the tool gave back.
    pub(super) async fn exec(&self, work: &Path, logs: &Path, model: &Model) -> Result<String> {
        let spawn = self.spawn.clone().args(["exec", "--skip-git-repo-check"]).args(self.sandbox);
        let mut client = spawn.arg("-C").arg(work).arg("go").start("client", logs)?;
        let status = client.wait(TURN).await?;
        ensure!(status.success(), "the client ended with {status}; {}", client.tail());
        model.outputs().pop().with_context(|| format!("no tool call was made; {}", client.tail()))
    }
}

async fn until(what: &str, limit: Duration, condition: impl Fn() -> bool) -> Result<()> {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(limit, wait).await.with_context(|| format!("not within {limit:?}: {what}"))
}
