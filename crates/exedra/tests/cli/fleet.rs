//! `ls`, `show`, `drain`, `events`, `access-log` against a server that runs.

use serde_json::Value;

use crate::plane::Server;
use crate::program::{Finished, Running, exedra, run, until};

fn ask(server: &Server, token: &str, args: &[&str]) -> Finished {
    run(exedra(args).env("EXEDRA_SERVER", &server.url).env("EXEDRA_TOKEN", token))
}

#[test]
fn executors_are_listed_shown_and_drained() {
    let server = Server::start();
    let _executor = server.executor("box");
    let admin = server.token(&["--role", "admin"]);
    let listed = ask(&server, &server.client_token, &["ls"]);
    assert!(listed.out().contains("box") && listed.out().contains("STATE"), "{} {}", listed.out(), listed.stderr);
    let listed: Vec<Value> = serde_json::from_str(ask(&server, &admin, &["ls", "--json"]).out()).unwrap();
    assert_eq!((listed.len(), &listed[0]["id"]), (1, &"box".into()));
    assert_eq!(ask(&server, &admin, &["ls", "--label", "team=a", "--json"]).out(), "[]\n");
    assert_eq!(ask(&server, &admin, &["ls", "--state", "gone"]).code, 255);
    let exec = Running::start(&mut server.exec(&["box", "--", "sh", "-c", "echo begun; sleep 600"]));
    assert_eq!(exec.line(), "begun");
    let shown: Value = serde_json::from_str(ask(&server, &admin, &["show", "box", "--json"]).out()).unwrap();
    let sides: Vec<_> =
        shown["connections"].as_array().unwrap().iter().map(|one| one["side"].as_str().unwrap()).collect();
    assert!(sides.contains(&"executor") && sides.contains(&"client"), "{shown}");
    assert!(ask(&server, &admin, &["show", "box"]).out().contains("registration_id"));
    assert_eq!(ask(&server, &admin, &["show", "none"]).code, 255);
    assert_eq!(ask(&server, &server.client_token, &["drain", "box"]).code, 255, "a client does not govern");
    assert_eq!(ask(&server, &admin, &["drain", "box"]).code, 0);
    let refused = run(&mut server.exec(&["box", "--", "true"]));
    assert!(refused.code == 255 && refused.stderr.contains("no new client"), "{}", refused.stderr);
    assert_eq!(ask(&server, &admin, &["drain", "box", "--undo"]).code, 0);
    assert_eq!(run(&mut server.exec(&["box", "--", "true"])).code, 0);
    exec.stop();
}

#[test]
fn an_executor_that_is_gone_is_forgotten_and_one_that_is_there_only_by_force() {
    let server = Server::start();
    let executor = server.executor("box");
    let admin = server.token(&["--role", "admin"]);
    let state = || {
        let shown = ask(&server, &admin, &["show", "box", "--json"]);
        let shown: Value = serde_json::from_str(shown.out()).unwrap_or_default();
        shown["executor"]["state"].as_str().unwrap_or("unknown").to_owned()
    };
    until("it is online", || state() == "online");
    let refused = ask(&server, &admin, &["forget", "box"]);
    assert_eq!(refused.code, 255);
    assert!(refused.stderr.contains("is connected") && refused.stderr.contains("--force"), "{}", refused.stderr);
    assert_eq!(state(), "online", "nothing was done to it");
    assert_eq!(ask(&server, &server.client_token, &["forget", "--force", "box"]).code, 255, "a client does not govern");
    assert_eq!(executor.stop().code, 0);
    until("it is away", || state() == "away");
    let forgotten = ask(&server, &admin, &["forget", "box", "--json"]);
    let forgotten: Value = serde_json::from_str(forgotten.out()).unwrap();
    assert_eq!((&forgotten["id"], &forgotten["state"]), (&"box".into(), &"away".into()));
    assert_eq!(state(), "unknown");
    let again = ask(&server, &admin, &["forget", "box"]);
    assert_eq!((again.code, again.out()), (255, ""));
    assert!(again.stderr.contains("no executor") || again.stderr.contains("unknown"), "{}", again.stderr);
    // By force, one that is there goes too; with a good token it comes back as a new one.
    let _executor = server.executor("box");
    until("it is online", || state() == "online");
    assert_eq!(ask(&server, &admin, &["forget", "--force", "box"]).code, 0);
    assert!(ask(&server, &admin, &["events"]).out().matches("executor_forgotten box").count() == 2);
    until("it is back", || state() == "online");
}

#[test]
fn events_and_requests_are_told() {
    let server = Server::start();
    let _executor = server.executor("box");
    let admin = server.token(&["--role", "admin"]);
    let mut follow = exedra(&["events", "--follow", "--json"]);
    let follow = Running::start(follow.env("EXEDRA_SERVER", &server.url).env("EXEDRA_TOKEN", &admin));
    let first: Value = serde_json::from_str(&follow.line()).unwrap();
    assert_eq!(first["kind"], "token_created");
    assert_eq!(ask(&server, &admin, &["drain", "box"]).code, 0);
    while !follow.line().contains("executor_draining") {}
    follow.stop();
    assert!(ask(&server, &admin, &["events"]).out().contains("executor_draining box"));
    assert_eq!(
        ask(&server, &server.client_token, &["events", "--json"]).out().lines().count(),
        1,
        "its executors' alone"
    );
    let (all, beyond) = (ask(&server, &admin, &["events"]), ask(&server, &admin, &["events", "--after", "999999"]));
    assert!(!all.stderr.contains("note:"), "{}", all.stderr);
    assert_eq!(beyond.out().lines().count(), all.out().lines().count());
    assert!(beyond.stderr.contains("note: there is no event 999999 in this journal"), "{}", beyond.stderr);
    let log = ask(&server, &admin, &["access-log"]);
    assert!(log.out().contains("POST /v1/executors/{id}/drain box"), "{}", log.out());
    assert_eq!(ask(&server, &server.client_token, &["access-log"]).code, 255);
}
