//! `up`: everything at once, with a command and without.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::program::{Running, exedra, is_alive, line_in, run, run_with_input, until};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// What is left in the directory for temporary files.
fn leftovers(dir: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn a_command_goes_the_whole_way_round_and_nothing_stays() {
    let temporary = tempfile::tempdir().unwrap();
    let home = tempfile::tempdir().unwrap();
    let up = |args: &[&str]| {
        let mut command = exedra(&["up", "--"]);
        command.args(args).env("TMPDIR", temporary.path()).env("HOME", home.path());
        command
    };
    let done = run(&mut up(&["sh", "-c", "echo out; echo err >&2; exit 7"]));
    assert_eq!((done.code, done.out(), done.stderr.as_str()), (7, "out\n", "err\n"));
    let echoed = run_with_input(&mut up(&["cat"]), &[0, 255, 10, 13, 128]);
    assert_eq!((echoed.code, echoed.stdout.as_slice()), (0, [0, 255, 10, 13, 128].as_slice()), "{}", echoed.stderr);
    let missing = run(&mut up(&["no-such-program"]));
    assert_eq!(missing.code, 255);
    assert_eq!(leftovers(temporary.path()), Vec::<PathBuf>::new());
    assert_eq!(leftovers(home.path()), Vec::<PathBuf>::new());
}

/// As by `docker exec`: whoever leads our session is not to be seen from inside.
#[test]
fn in_a_pid_namespace_that_was_entered() {
    let home = tempfile::tempdir().unwrap();
    let namespaces = if rustix::process::geteuid().is_root() { "-pf" } else { "-rpf" };
    let within = |args: &[&str]| {
        let mut command = std::process::Command::new("unshare");
        command.args([namespaces, "--mount-proc", "sh", "-c", "\"$@\"; exit $?", "sh"]).args(args);
        command.env("TMPDIR", home.path()).env("HOME", home.path()).stdin(std::process::Stdio::null());
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        command
    };
    // Where that is not to be arranged there is nothing to try.
    if run(&mut within(&["true"])).code != 0 {
        return;
    }
    let exedra = env!("CARGO_BIN_EXE_exedra");
    let done = run(&mut within(&[
        exedra,
        "up",
        "--",
        "sh",
        "-c",
        "sleep 60 >/dev/null 2>&1 & echo out; echo err >&2; exit 7",
    ]));
    assert_eq!((done.code, done.out(), done.stderr.as_str()), (7, "out\n", "err\n"));
}

#[test]
fn a_signal_ends_the_command_and_cleans_up() {
    let temporary = tempfile::tempdir().unwrap();
    let files = tempfile::tempdir().unwrap();
    let file = files.path().join("pid");
    let script = format!("echo $$ > {}; echo started; sleep 1000", file.display());
    let running = Running::start(exedra(&["up", "--", "sh", "-c", &script]).env("TMPDIR", temporary.path()));
    assert_eq!(running.line(), "started");
    let remote: i32 = line_in(&file).parse().unwrap();
    running.signal("INT");
    assert_eq!(running.finish().code, 130);
    until("the command ends", || !is_alive(remote));
    assert_eq!(leftovers(temporary.path()), Vec::<PathBuf>::new());
}

#[test]
fn it_stays_and_says_how_to_use_it() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    let args = ["up", "--json", "--listen", "127.0.0.1:0", "--data-dir", text(&data_dir)];
    let up = Running::start(&mut exedra(&args));
    let json: Value = serde_json::from_str(&up.line()).unwrap();
    let get = |name: &str| json[name].as_str().unwrap_or_else(|| panic!("{name} in {json}")).to_owned();
    assert_eq!(json["pid"], up.pid());
    let token = std::fs::read_to_string(get("token_file")).unwrap();
    let mut exec = exedra(&["exec", "--server", &get("server"), "--token-file", &get("token_file"), &get("executor")]);
    let done = run(exec.args(["--", "echo", "here"]));
    assert_eq!((done.code, done.out()), (0, "here\n"), "{}", done.stderr);
    let done = run(&mut exedra(&["exec", "--url", &get("listener"), "--", "echo", "there"]));
    assert_eq!((done.code, done.out()), (0, "there\n"), "{}", done.stderr);

    let second = run(&mut exedra(&args));
    assert_eq!(second.code, 255);
    let holder = format!("in use by process {} (exedra up)", up.pid());
    assert!(second.stderr.contains(&holder) && second.stderr.contains("hint: "), "{}", second.stderr);

    let stopped = up.stop();
    assert_eq!(stopped.code, 0, "{}", stopped.stderr);
    assert!(!stopped.stderr.contains(token.trim()), "the token is in no log");
}

#[test]
fn the_text_is_ready_to_paste() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data dir");
    let up = Running::start(&mut exedra(&["up", "--listen", "127.0.0.1:0", "--data-dir", text(&data_dir)]));
    let mut lines = vec![up.line()];
    while !lines.iter().any(|line| line.contains("CODEX_EXEC_SERVER_URL=ws://127.0.0.1:")) {
        lines.push(up.line());
    }
    let mut paste = lines.iter().skip_while(|line| !line.contains("export EXEDRA_SERVER="));
    let script = format!("{}\n{}", paste.next().unwrap(), paste.next().unwrap());
    assert!(script.ends_with(" exec local -- uname -a"), "{script}");
    let pasted = run(std::process::Command::new("sh")
        .args(["-c", &script])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped()));
    assert_eq!(pasted.code, 0, "{script}\n{}", pasted.stderr);
    assert!(pasted.out().contains("Linux"), "{}", pasted.out());
    assert_eq!(up.stop().code, 0);
}

#[test]
fn it_is_not_for_others() {
    let refused = run(&mut exedra(&["up", "--listen", "0.0.0.0:0", "--", "true"]));
    assert_eq!(refused.code, 2, "{}", refused.stderr);
}

#[test]
fn what_was_pasted_once_works_the_next_time() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    let args = ["up", "--json", "--listen", "127.0.0.1:0", "--data-dir", text(&data_dir)];
    let mut files = Vec::new();
    for signal in ["TERM", "KILL", "TERM"] {
        let up = Running::start(&mut exedra(&args));
        let json: Value = serde_json::from_str(&up.line()).unwrap();
        let (server, file) = (json["server"].as_str().unwrap(), json["token_file"].as_str().unwrap());
        let done = run(&mut exedra(&["exec", "--server", server, "--token-file", file, "local", "--", "echo", "here"]));
        assert_eq!((done.code, done.out()), (0, "here\n"), "{}", done.stderr);
        files.push(file.to_owned());
        up.signal(signal);
        up.finish();
    }
    assert!(files.iter().all(|file| *file == files[0]), "{files:?}");
    let listed = run(&mut exedra(&["token", "list", "--json", "--data-dir", text(&data_dir)]));
    let list: Vec<Value> = serde_json::from_str(listed.out()).unwrap();
    let good: Vec<_> = list.iter().filter(|token| token["revoked_at"].is_null()).collect();
    assert_eq!(good.len(), 1, "only the kept one is good, also after a kill: {}", listed.out());
}
