//! What keeps a server from starting, or makes it wait: each is told in one line and ends with the status that scripts know,
//! and nothing is lost by it.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Executor as _};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::program::{Finished, Running, exedra, run};

/// A data directory with records.
struct Records(TempDir);

impl Records {
    fn new() -> Self {
        let records = Self(tempfile::tempdir().unwrap());
        let made = run(exedra(&["token", "create", "--role", "client"]).args(["--data-dir", records.dir()]));
        assert_eq!(made.code, 0, "{}", made.stderr);
        records
    }

    fn dir(&self) -> &str {
        self.0.path().to_str().unwrap()
    }

    fn serve(&self) -> Command {
        exedra(&["serve", "--listen", "127.0.0.1:0", "--data-dir", self.dir()])
    }

    fn tokens(&self) -> Value {
        let listed = run(&mut exedra(&["token", "list", "--json", "--data-dir", self.dir()]));
        serde_json::from_str(listed.out()).unwrap_or_else(|_| panic!("{}", listed.stderr))
    }
}

/// Somebody else who writes to the records until told to stop.
struct Writer {
    runtime: Runtime,
    connection: SqliteConnection,
}

impl Writer {
    fn begin(records: &Records) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let options = SqliteConnectOptions::new().filename(records.0.path().join("registry.db"));
        let connection = runtime.block_on(async {
            let mut connection = options.connect().await.unwrap();
            connection.execute("BEGIN IMMEDIATE").await.unwrap();
            connection
        });
        Self { runtime, connection }
    }

    fn end(mut self) {
        self.runtime.block_on(self.connection.execute("ROLLBACK")).unwrap();
    }
}

/// Whether it ended with 255 and says one thing, and what to do about it.
fn is_told(ended: &Finished, text: &str) {
    assert_eq!(ended.code, 255, "{}", ended.stderr);
    let said: Vec<_> = ended.stderr.lines().filter(|line| line.contains(text)).collect();
    assert_eq!(said.len(), 1, "{text:?} once in {}", ended.stderr);
    assert!(ended.stderr.lines().last().is_some_and(|last| last.starts_with("hint: ")), "{}", ended.stderr);
}

#[test]
fn a_start_waits_for_somebody_who_writes_and_says_so() {
    let records = Records::new();
    let (before, writer) = (records.tokens(), Writer::begin(&records));
    let serve = Running::start(&mut records.serve());
    serve.stderr_line("the database is busy; the start waits for it");
    writer.end();
    assert!(serve.line().starts_with("http://127.0.0.1:"));
    assert_eq!(serve.stop().code, 0);
    assert_eq!(records.tokens(), before);
}

#[test]
fn a_start_that_waited_long_enough_ends() {
    let records = Records::new();
    let (before, writer) = (records.tokens(), Writer::begin(&records));
    let ended = run(&mut records.serve());
    is_told(&ended, "caused by: the database was busy for 3");
    writer.end();
    assert_eq!(records.tokens(), before);
    let serve = Running::start(&mut records.serve());
    serve.line();
    assert_eq!(serve.stop().code, 0);
}

#[test]
fn what_is_no_data_directory_of_ours_is_told() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let serve = |dir: &Path| run(exedra(&["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(dir));
    is_told(&serve(file.path()), "is no directory");
    let records = Records::new();
    std::fs::write(records.0.path().join("registry.db"), "this is no database".repeat(500)).unwrap();
    is_told(&serve(records.0.path()), "caused by: the database is damaged");
}

/// In a file system of its own, `$2`, of 1 MiB; `$1` is the program. What each start said is in files of the directory `$3`.
const FULL_AND_READ_ONLY: &str = r#"
set -u
mount -t tmpfs -o size=1m,mode=700 none "$2" || exit 77
start() {
    "$1" serve --listen 127.0.0.1:0 --data-dir "$2" >"$3.out" 2>"$3.err"
    echo $? >"$3.code"
}
"$1" token create --role client --data-dir "$2/data" >/dev/null
"$1" token list --json --data-dir "$2/data" >"$3/before"
mount -o remount,ro "$2"
start "$1" "$2/data" "$3/read-only"
start "$1" "$2/new" "$3/read-only-new"
mount -o remount,rw "$2"
cat /dev/zero >"$2/filler" 2>/dev/null
start "$1" "$2/data" "$3/full"
start "$1" "$2/new" "$3/full-new"
rm "$2/filler"
"$1" token list --json --data-dir "$2/data" >"$3/after"
"$1" serve --listen 127.0.0.1:0 --data-dir "$2/data" >"$3/url" 2>/dev/null &
until [ -s "$3/url" ] || ! kill -0 $!; do sleep 0.02; done
kill $!
wait $!
"#;

#[test]
fn a_disk_that_is_full_or_read_only_is_told() {
    let (mount, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let flags = if rustix::process::geteuid().is_root() { "-m" } else { "-rm" };
    let mut command = Command::new("unshare");
    command.args([flags, "sh", "-c", FULL_AND_READ_ONLY, "sh", env!("CARGO_BIN_EXE_exedra")]);
    let tried = command.arg(mount.path()).arg(out.path()).env("HOME", "/nowhere").output();
    let read = |name: &str| std::fs::read_to_string(out.path().join(name)).unwrap_or_default();
    match tried {
        Ok(tried) if !read("before").is_empty() => drop(tried),
        Ok(tried) => return println!("skipped: {}", String::from_utf8_lossy(&tried.stderr).trim()),
        Err(error) => return println!("skipped: unshare cannot be run: {error}"),
    }
    for (name, said) in [
        ("read-only", "cannot be written: the file system is read-only"),
        ("read-only-new", "cannot be written: the file system is read-only"),
        ("full", "cannot be written: no space is left on the disk"),
        ("full-new", "cannot be written: no space is left on the disk"),
    ] {
        let (code, text) = (read(&format!("{name}.code")), read(&format!("{name}.err")));
        assert_eq!(code.trim(), "255", "{name}: {text}");
        let lines: Vec<_> = text.lines().collect();
        assert!(lines.len() == 2 && lines[0].contains(said) && lines[1].starts_with("hint: "), "{name}: {lines:?}");
        assert_eq!(read(&format!("{name}.out")), "");
    }
    assert_eq!(read("before"), read("after"));
    assert!(read("url").starts_with("http://127.0.0.1:"), "it starts once there is room");
}
