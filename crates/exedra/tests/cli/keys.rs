//! `keys`: what a revoked key signed is cut, and comes back with other tickets.

use serde_json::Value;

use crate::plane::Server;
use crate::program::{Running, exedra, run};

/// `exedra keys … --json`, as an administrator.
fn keys(server: &Server, admin: &str, args: &[&str]) -> Vec<Value> {
    let mut command = exedra(&["keys"]);
    command.args(args).arg("--json").env("EXEDRA_SERVER", &server.url).env("EXEDRA_TOKEN", admin);
    let done = run(&mut command);
    assert_eq!(done.code, 0, "{}", done.stderr);
    serde_json::from_str(done.out()).unwrap()
}

/// A command that waits for a line, begun.
fn begun(server: &Server, reconnect: &str) -> Running {
    let argv = ["--reconnect", reconnect, "box", "--", "sh", "-c", "echo begun; sleep 600"];
    let exec = Running::start(&mut server.exec(&argv));
    assert_eq!(exec.line(), "begun");
    exec
}

#[test]
fn a_revoked_key_cuts_what_it_signed_and_executors_come_back() {
    let server = Server::start();
    let admin = server.token(&["--role", "admin"]);
    let executor = server.executor("box");
    let before = keys(&server, &admin, &["list"]);
    assert_eq!(before.len(), 1);
    let old = before[0]["id"].as_str().unwrap();
    let exec = begun(&server, "0s");
    let after = keys(&server, &admin, &["revoke", old]);
    assert!(after.len() == 1 && after[0]["id"] != old && after[0]["signs"] == true, "{after:?}");
    let ended = exec.finish();
    assert_eq!(ended.code, 255);
    assert!(ended.stderr.contains("the key of the ticket was revoked"), "{}", ended.stderr);
    executor.stderr_line("the key of the ticket was revoked");
    executor.stderr_line("registered with executor_id box");
    let done = run(&mut server.exec(&["--wait", "60s", "box", "--", "echo", "back"]));
    assert_eq!((done.code, done.out()), (0, "back\n"), "{}", done.stderr);
    let refused =
        run(exedra(&["keys", "list"]).env("EXEDRA_SERVER", &server.url).env("EXEDRA_TOKEN", &server.client_token));
    assert_eq!(refused.code, 255);
    let mut unknown = exedra(&["keys", "revoke", old]);
    let unknown = run(unknown.env("EXEDRA_SERVER", &server.url).env("EXEDRA_TOKEN", &admin));
    assert!(unknown.code == 255 && unknown.stderr.contains("key_unknown"), "{}", unknown.stderr);
    let rotated = keys(&server, &admin, &["rotate"]);
    assert_eq!(rotated.len(), 2);
    assert_eq!(run(&mut server.exec(&["box", "--", "true"])).code, 0, "open tickets stay good");
}

#[test]
fn a_command_runs_on_over_a_revoked_key() {
    let server = Server::start();
    let admin = server.token(&["--role", "admin"]);
    let _executor = server.executor("box");
    let script = "echo begun; read line; echo \"got $line\"; exit 3";
    let mut command = server.exec(&["-i", "--reconnect", "60s", "box", "--", "sh", "-c", script]);
    let mut exec = Running::start(command.stdin(std::process::Stdio::piped()));
    assert_eq!(exec.line(), "begun");
    let key = keys(&server, &admin, &["list"])[0]["id"].as_str().unwrap().to_owned();
    keys(&server, &admin, &["revoke", &key]);
    std::io::Write::write_all(&mut exec.stdin(), b"it\n").unwrap();
    assert_eq!(exec.line(), "got it");
    assert_eq!(exec.finish().code, 3);
}
