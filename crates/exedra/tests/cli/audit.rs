//! `exec-server --audit` and `audit`: a run is written down, verified, shown; what was altered is found.

use std::path::Path;

use crate::program::{Finished, Running, exedra, run};

fn audit(args: &[&str]) -> Finished {
    run(&mut exedra(&[&["audit"], args].concat()))
}

/// One command on a listener with an audit in `dir`.
fn write(dir: &Path) {
    let (log, identity) = (dir.join("log"), dir.join("identity"));
    let log = ["--audit", log.to_str().unwrap(), "--identity", identity.to_str().unwrap(), "--audit-output"];
    let listener = Running::start(&mut exedra(&[&["exec-server"], &log[..]].concat()));
    let url = listener.line();
    let done = run(&mut exedra(&["exec", "--url", &url, "--", "sh", "-c", "echo here; exit 3"]));
    assert_eq!((done.code, done.out()), (3, "here\n"), "{}", done.stderr);
    assert_eq!(listener.stop().code, 0);
}

#[test]
fn a_run_is_written_down_verified_and_shown() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path());
    write(dir.path());
    let log = dir.path().join("log");
    let log = log.to_str().unwrap();
    let key = audit(&["key", "--identity", dir.path().join("identity").to_str().unwrap()]);
    assert_eq!((key.code, key.out().trim().len()), (0, 64), "{}", key.stderr);
    let sound = audit(&["verify", log, "--key", key.out().trim()]);
    assert_eq!(sound.code, 0, "{}", sound.stderr);
    assert!(sound.out().starts_with("sound: lines 0 to ") && sound.out().contains(key.out().trim()), "{}", sound.out());
    let json: serde_json::Value = serde_json::from_str(audit(&["verify", log, "--json"]).out()).unwrap();
    assert_eq!((&json["sound"], &json["findings"]["unsigned"]), (&true.into(), &0.into()));
    let shown = audit(&["show", log, "--kind", "exit", "--kind", "output", "--since", "1h"]);
    assert_eq!(shown.out().lines().count(), 4, "{}", shown.out());
    assert!(shown.out().contains("code=3") && shown.out().contains("text=\"here\\n\""), "{}", shown.out());
    assert_eq!(audit(&["show", log, "--session", "nobody"]).out(), "");
    let other = audit(&["verify", log, "--key", &"0".repeat(64)]);
    assert!(other.code == 1 && other.out().starts_with("NOT sound: line 0 is signed with the key"), "{}", other.out());
}

#[test]
fn what_was_altered_or_cut_is_found() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path());
    let log = dir.path().join("log");
    let head = dir.path().join("head-kept-elsewhere");
    std::fs::copy(log.join("head"), &head).unwrap();
    let segment = log.join("audit-00000001.jsonl");
    let text = std::fs::read_to_string(&segment).unwrap();
    std::fs::write(&segment, text.replace("\"code\":3", "\"code\":0")).unwrap();
    let faulty = audit(&["verify", log.to_str().unwrap()]);
    assert_eq!(faulty.code, 1);
    assert!(faulty.out().starts_with("NOT sound: line ") && faulty.out().contains(" was changed"), "{}", faulty.out());
    let refused = run(&mut exedra(&[
        "exec-server",
        "--audit",
        log.to_str().unwrap(),
        "--identity",
        dir.path().join("identity").to_str().unwrap(),
    ]));
    assert_eq!(refused.code, 255);
    assert!(refused.stderr.contains("is damaged") && refused.stderr.contains("hint: "), "{}", refused.stderr);

    let cut: String = text.lines().take(3).map(|line| format!("{line}\n")).collect();
    std::fs::write(&segment, cut).unwrap();
    let identity = dir.path().join("identity");
    let args = ["exec-server", "--audit", log.to_str().unwrap(), "--identity", identity.to_str().unwrap()];
    let refused = run(&mut exedra(&args));
    assert_eq!(refused.code, 255, "a start would cover it up");
    assert!(refused.stderr.contains("the log was cut off") && refused.stderr.contains("hint: "), "{}", refused.stderr);
    assert_eq!(std::fs::read(log.join("head")).unwrap(), std::fs::read(&head).unwrap());
    assert_eq!(audit(&["verify", log.to_str().unwrap()]).code, 1);
    std::fs::remove_file(log.join("head")).unwrap();
    let args = ["verify", log.to_str().unwrap(), "--json", "--head", head.to_str().unwrap()];
    let json: serde_json::Value = serde_json::from_str(audit(&args).out()).unwrap();
    assert!(json["fault"].as_str().unwrap().contains("the log was cut off"), "{json}");
}

#[test]
fn an_audit_that_cannot_be_written_starts_no_executor() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let identity = dir.path().join("identity");
    let args = ["exec-server", "--audit", file.to_str().unwrap(), "--identity", identity.to_str().unwrap()];
    let failed = run(&mut exedra(&args));
    assert_eq!(failed.code, 255);
    assert!(failed.stderr.contains("cannot use the audit"), "{}", failed.stderr);
    std::fs::write(&identity, "something else").unwrap();
    let log = dir.path().join("log");
    let args = ["exec-server", "--audit", log.to_str().unwrap(), "--identity", identity.to_str().unwrap()];
    let failed = run(&mut exedra(&args));
    assert!(failed.stderr.contains("identity") && failed.stderr.contains("hint: "), "{}", failed.stderr);
    assert_eq!(std::fs::read_to_string(&identity).unwrap(), "something else", "never a new key");
}
