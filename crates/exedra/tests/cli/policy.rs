//! `exec-server --policy` and `policy check`: what the owner says holds, is read again, and is explained.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::program::{Finished, Running, exedra, run, until};
use crate::sandbox::Executor;

/// A directory that no sandbox shows by itself, with `w` and `out/secret` in it.
fn place() -> tempfile::TempDir {
    let dir = tempfile::Builder::new().prefix("exedra-policy-").tempdir_in("/var/tmp").unwrap();
    for name in ["w", "out"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
    }
    std::fs::write(dir.path().join("out/secret"), "secret").unwrap();
    dir
}

fn write(dir: &Path, text: &str) -> PathBuf {
    let file = dir.join("policy.toml");
    std::fs::write(&file, text).unwrap();
    file
}

fn roots(dir: &Path) -> String {
    format!("[[roots]]\npath = {:?}\naccess = \"write\"\n", dir.join("w"))
}

fn listener(file: &Path) -> (Running, String) {
    let listener = Running::start(&mut exedra(&["exec-server", "--policy", file.to_str().unwrap()]));
    let url = listener.line();
    (listener, url)
}

fn exec(url: &str, cwd: &Path, argv: &[&str]) -> Finished {
    run(&mut exedra(&[&["exec", "--url", url, "--cwd", cwd.to_str().unwrap(), "--"], argv].concat()))
}

#[test]
fn roots_hold_against_links_dots_and_proc() {
    let dir = place();
    let (listener, url) = listener(&write(dir.path(), &roots(dir.path())));
    let w = dir.path().join("w");
    let secret = dir.path().join("out/secret");
    symlink(dir.path().join("out"), w.join("link")).unwrap();
    let fine = exec(&url, &w, &["/bin/sh", "-c", "echo x > new && cat new"]);
    assert_eq!((fine.code, fine.out()), (0, "x\n"), "{}", fine.stderr);
    for path in [
        secret.display().to_string(),
        "link/secret".into(),
        "../out/secret".into(),
        format!("/proc/self/root{}", secret.display()),
    ] {
        let denied = exec(&url, &w, &["/bin/cat", &path]);
        assert!(denied.code == 1 && denied.out().is_empty(), "{path}: {denied:?}");
    }
    let outside = exec(&url, &w, &["/bin/sh", "-c", "echo x > ../out/new"]);
    assert!(outside.code != 0 && !dir.path().join("out/new").exists());
    assert_eq!(listener.stop().code, 0);
}

#[test]
fn file_methods_keep_to_the_roots() {
    let dir = place();
    let base = dir.path().canonicalize().unwrap();
    let (w, out) = (base.join("w"), base.join("out"));
    symlink(&out, w.join("link")).unwrap();
    symlink(out.join("secret"), w.join("file")).unwrap();
    std::fs::write(w.join("mine"), "mine").unwrap();
    let file = write(&base, &roots(&base));
    let mut executor = Executor::with(&["--policy", file.to_str().unwrap()]);
    let read = executor.call("fs/readFile", json!({"path": w.join("mine")}));
    assert_eq!(read["result"]["dataBase64"], "bWluZQ==", "{read}");
    let proc = |path: &Path| PathBuf::from(format!("/proc/self/root{}", path.display()));
    let outside = [
        out.join("secret"),
        w.join("link/secret"),
        w.join("file"),
        w.join("../out/secret"),
        proc(&out.join("secret")),
        file.clone(),
    ];
    for path in &outside {
        for (method, params) in [
            ("fs/readFile", json!({"path": path})),
            ("fs/getMetadata", json!({"path": path})),
            ("fs/writeFile", json!({"path": path, "dataBase64": "eA=="})),
            ("fs/open", json!({"path": path, "handleId": "h", "mode": "read"})),
            ("fs/copy", json!({"sourcePath": path, "destinationPath": w.join("copied"), "recursive": false})),
            ("fs/copy", json!({"sourcePath": w.join("mine"), "destinationPath": path, "recursive": false})),
        ] {
            // A look at what a link is, and a copy of the link itself, stay within.
            let itself = *path == w.join("file") && (method == "fs/copy" && params["sourcePath"] == json!(path));
            let answer = executor.call(method, params);
            assert!(itself || answer["error"].is_object(), "{method} {}: {answer}", path.display());
        }
    }
    for path in [out.join("secret"), w.join("link/secret"), w.join("../out"), w.clone()] {
        let removed = executor.call("fs/remove", json!({"path": path, "recursive": true, "force": false}));
        assert!(removed["error"].is_object(), "{}: {removed}", path.display());
    }
    assert_eq!(std::fs::read_to_string(out.join("secret")).unwrap(), "secret");
    assert_eq!(std::fs::read_to_string(w.join("mine")).unwrap(), "mine");
    assert_eq!(std::fs::read_dir(&out).unwrap().count(), 1);
}

#[test]
fn nothing_is_changed_where_all_is_for_reading() {
    let dir = place();
    let file = write(dir.path(), "read_only = true\n");
    let path = dir.path().join("w/x");
    let mut executor = Executor::with(&["--policy", file.to_str().unwrap()]);
    for (method, params) in [
        ("process/start", json!({"processId": "p", "argv": ["touch", path], "cwd": "/", "env": {}, "tty": false})),
        ("process/write", json!({"processId": "p", "chunk": "eA==", "writeId": "w"})),
        ("fs/writeFile", json!({"path": path, "dataBase64": "eA=="})),
        ("fs/createDirectory", json!({"path": path, "recursive": false})),
        ("fs/remove", json!({"path": dir.path().join("out"), "recursive": true, "force": false})),
        ("fs/copy", json!({"sourcePath": dir.path().join("out"), "destinationPath": path, "recursive": true})),
        ("fs/open", json!({"path": path, "handleId": "h", "mode": "replace"})),
        ("fs/writeBlock", json!({"handleId": "h", "offset": 0, "chunk": "eA=="})),
        ("http/request", json!({"requestId": "r", "method": "POST", "url": "http://127.0.0.1:1/"})),
    ] {
        let answer = executor.call(method, params);
        let text = format!("policy: read_only: {method} could change something");
        assert_eq!(answer["error"]["message"], text.as_str(), "{answer}");
    }
    let read = executor.call("fs/readFile", json!({"path": dir.path().join("out/secret")}));
    assert!(read["result"].is_object() && !path.exists(), "{read}");
}

#[test]
fn the_file_is_read_again_on_a_hangup_and_a_bad_one_changes_nothing() {
    let dir = place();
    let file = write(dir.path(), "[[commands]]\npath = \"/bin/echo\"\n");
    let (listener, url) = listener(&file);
    let w = dir.path().join("w");
    let echo = || exec(&url, &w, &["/bin/echo", "here"]);
    assert_eq!(echo().out(), "here\n");
    let refused = exec(&url, &w, &["/bin/cat", "/dev/null"]);
    assert!(refused.code == 255 && refused.stderr.contains("policy: commands: "), "{}", refused.stderr);
    assert!(listener.stderr_line("refused by the owner's policy").contains("process/start"));
    write(dir.path(), "read_only = maybe\n");
    listener.signal("HUP");
    listener.stderr_line("the policy stays as it was");
    assert_eq!(echo().out(), "here\n");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).unwrap();
    listener.signal("HUP");
    assert!(listener.stderr_line("the policy stays as it was").contains("others may write it"));
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    write(dir.path(), "read_only = true\n");
    listener.signal("HUP");
    listener.stderr_line("a new policy is in force");
    let refused = echo();
    assert!(refused.code == 255 && refused.stderr.contains("policy: read_only: "), "{}", refused.stderr);
    assert_eq!(listener.stop().code, 0);
}

/// Without user namespaces Landlock is left, which does not keep a loader from programs that are not listed.
#[test]
fn a_list_that_cannot_bind_descendants_starts_nothing() {
    let dir = place();
    let w = dir.path().join("w");
    let without = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\"";
    let within = |args: &[&str]| {
        let mut command = std::process::Command::new("unshare");
        command.args(["-Ur", "sh", "-c", without, "sh"]).args(args);
        command.stdin(std::process::Stdio::null());
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        command
    };
    // Where that is not to be arranged there is nothing to try.
    if run(&mut within(&["true"])).code != 0 {
        return;
    }
    let list = "[[commands]]\npath = \"/bin/echo\"\n";
    let started = |text: &str| {
        let file = write(dir.path(), text);
        let exedra = env!("CARGO_BIN_EXE_exedra");
        let listener = Running::start(&mut within(&[exedra, "exec-server", "--policy", file.to_str().unwrap()]));
        let url = listener.line();
        let done = exec(&url, &w, &["/bin/echo", "here"]);
        assert_eq!(listener.stop().code, 0);
        done
    };
    let refused = started(list);
    assert!(refused.code == 255 && refused.stderr.contains("policy: descendants: "), "{}", refused.stderr);
    let free = started(&format!("{list}[descendants]\nbound = false\n"));
    assert_eq!((free.code, free.out()), (0, "here\n"), "{}", free.stderr);
    let alone = started("[sandbox]\nnetwork = \"restricted\"\n");
    assert_eq!((alone.code, alone.out()), (0, "here\n"), "Landlock and the filter are enough: {}", alone.stderr);
}

#[test]
fn a_policy_that_cannot_be_used_starts_nothing() {
    let dir = place();
    let file = write(dir.path(), "read_only = true\n");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).unwrap();
    let start = || run(&mut exedra(&["exec-server", "--policy", file.to_str().unwrap()]));
    let writable = start();
    assert_eq!((writable.code, writable.out()), (255, ""));
    assert!(
        writable.stderr.contains("others may write it") && writable.stderr.contains("hint: "),
        "{}",
        writable.stderr
    );
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    write(dir.path(), "readonly = true\n");
    let unknown = start();
    assert!(unknown.code == 255 && unknown.stderr.contains("unknown field `readonly`"), "{}", unknown.stderr);
}

#[test]
fn decisions_are_explained() {
    let dir = place();
    let text = "[[commands]]\npath = \"/bin/echo\"\nargs = [\"a\", \"*\"]\n[[commands]]\npath = \"/bin/sh\"\n";
    let file = write(dir.path(), text);
    let check = |args: &[&str]| run(&mut exedra(&[&["policy", "check", file.to_str().unwrap()], args].concat()));
    let allowed = check(&["--", "echo", "a", "b"]);
    assert_eq!(allowed.code, 0, "{}", allowed.stderr);
    assert!(allowed.out().starts_with("allowed by commands[0]: ") && allowed.out().contains("held by descendants"));
    assert!(allowed.stderr.contains("warning: commands: `/bin/sh` runs whatever it is told"), "{}", allowed.stderr);
    let refused = check(&["--json", "--", "echo", "b"]);
    let json: Value = serde_json::from_str(refused.out()).unwrap();
    assert_eq!((refused.code, &json["decision"]["allowed"]), (1, &Value::Bool(false)), "{json}");
    assert!(json["decision"]["why"].as_str().unwrap().contains("do not fit `/bin/echo a *`"), "{json}");
    let warned = json["warnings"].as_array().unwrap();
    assert!(warned.len() == 2 && warned[0].as_str().unwrap().starts_with("roots: there are none"), "{json}");
    assert_eq!(check(&[]).out(), "the policy can be used\n");
    assert_eq!(run(&mut exedra(&["policy", "check", "/nope", "--", "x"])).code, 255);
}

/// Within a sandbox the processes are in a namespace of their own, which ends with its first process.
#[test]
fn of_a_sandbox_nothing_outlives_an_executor_that_is_killed() {
    let dir = place();
    let text = format!("{}[sandbox]\n", roots(dir.path()));
    let (listener, url) = listener(&write(dir.path(), &text));
    let w = dir.path().join("w");
    let mark = format!("3{:07}.25", std::process::id());
    let script = format!("setsid sleep {mark} & setsid sh -c 'sleep {mark} & wait' & echo started; wait");
    let argv =
        ["exec", "--url", &url, "--reconnect", "0s", "--cwd", w.to_str().unwrap(), "--", "/bin/sh", "-c", &script];
    let running = Running::start(&mut exedra(&argv));
    assert_eq!(running.line(), "started");
    let wanted = format!("sleep\0{mark}\0").into_bytes();
    let sleeping = || {
        let all = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
        all.filter(|entry| std::fs::read(entry.path().join("cmdline")).is_ok_and(|argv| argv == wanted)).count()
    };
    until("both sleep", || sleeping() == 2);
    listener.signal("KILL");
    until("all are gone", || sleeping() == 0);
    assert_eq!(running.finish().code, 255);
}

#[test]
fn up_keeps_to_a_policy() {
    let dir = place();
    let file = write(dir.path(), "[[commands]]\npath = \"/bin/echo\"\n");
    let up = |argv: &[&str]| run(&mut exedra(&[&["up", "--policy", file.to_str().unwrap(), "--"], argv].concat()));
    assert_eq!(up(&["/bin/echo", "x"]).out(), "x\n");
    let refused = up(&["/bin/cat", "/etc/passwd"]);
    assert!(refused.code == 255 && refused.stderr.contains("policy: commands"), "{refused:?}");
}

#[test]
fn the_audit_says_which_policy_is_in_force() {
    let dir = place();
    let file = write(dir.path(), "read_only = true\n");
    let log = dir.path().join("log");
    let args = ["exec-server", "--policy", file.to_str().unwrap(), "--audit", log.to_str().unwrap()];
    let listener = Running::start(exedra(&args).env("XDG_STATE_HOME", dir.path()));
    listener.line();
    write(dir.path(), "# nothing\n");
    listener.signal("HUP");
    let records = || -> Vec<Value> {
        let files =
            std::fs::read_dir(&log).unwrap().map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap());
        let text: String = files.collect();
        let records = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        records.filter(|record| record["kind"] == "policy").collect()
    };
    until("both are written down", || records().len() == 2);
    let digests: Vec<Value> = records().into_iter().map(|record| record["sha256"].clone()).collect();
    let known = [
        "e33896389a491d40cb82f6b29682ce08bd9fa27a9f49f975f38ce7aa5921eafb",
        "5e49ea838dc30f3eeacf6ca7815f6e3adcf77f467a970d978676790fd90377e1",
    ];
    assert_eq!(digests, known);
    assert_eq!(listener.stop().code, 0);
}
