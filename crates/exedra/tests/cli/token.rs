//! `token`: made, listed, revoked; never shown twice.

use serde_json::Value;

use crate::plane::Server;
use crate::program::{exedra, run};

#[test]
fn a_token_is_printed_alone_and_once() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    let data_dir = data_dir.to_str().unwrap();
    let made = run(&mut exedra(&[
        "token",
        "create",
        "--role",
        "client",
        "--name",
        "laptop",
        "--expires",
        "30d",
        "--data-dir",
        data_dir,
    ]));
    assert_eq!((made.code, made.stderr.as_str()), (0, ""));
    let token = made.out().trim_end();
    assert!(token.starts_with("exedra_c_") && !token.contains(char::is_whitespace), "{token}");
    let listed = run(&mut exedra(&["token", "list", "--json", "--data-dir", data_dir]));
    let list: Value = serde_json::from_str(listed.out()).unwrap();
    let entry = &list[0];
    assert_eq!(
        (&entry["role"], &entry["name"], &entry["executors"]),
        (&"client".into(), &"laptop".into(), &"*".into()),
        "{list}"
    );
    assert!(entry["expires_at"].is_u64(), "{list}");
    assert!(!listed.out().contains(token));
    let table = run(&mut exedra(&["token", "list", "--data-dir", data_dir]));
    assert!(table.out().contains("laptop") && !table.out().contains(token), "{}", table.out());
}

#[test]
fn a_revoked_token_is_worth_nothing_at_once_while_the_server_runs() {
    let server = Server::start();
    let _executor = server.executor("box");
    let data_dir = server.data_dir();
    let data_dir = data_dir.to_str().unwrap();
    assert_eq!(run(&mut server.exec(&["box", "--", "true"])).code, 0);
    let listed = run(&mut exedra(&["token", "list", "--json", "--data-dir", data_dir]));
    let list: Vec<Value> = serde_json::from_str(listed.out()).unwrap();
    let client = list.iter().find(|entry| entry["role"] == "client").unwrap();
    let id = client["id"].as_str().unwrap();
    let revoked = run(&mut exedra(&["token", "revoke", id, "--data-dir", data_dir]));
    assert_eq!(revoked.code, 0, "{}", revoked.stderr);
    let refused = run(&mut server.exec(&["box", "--", "true"]));
    assert_eq!(refused.code, 255);
    assert!(refused.stderr.contains("the registry refused the token"), "{}", refused.stderr);
}

#[test]
fn what_makes_no_sense_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    let data_dir = data_dir.to_str().unwrap();
    let made = run(&mut exedra(&["token", "create", "--role", "client", "--data-dir", data_dir]));
    assert_eq!(made.code, 0, "{}", made.stderr);
    let unknown = run(&mut exedra(&["token", "revoke", "tok-0000000000000000", "--data-dir", data_dir]));
    assert_eq!(unknown.code, 255);
    assert!(unknown.stderr.contains("no token") && unknown.stderr.contains("hint: "), "{}", unknown.stderr);
    for bad in [&["--executor", "a b"][..], &["--expires", "never"], &["--expires", "0"]] {
        let wrong = run(exedra(&["token", "create", "--role", "client", "--data-dir", data_dir]).args(bad));
        assert_eq!(wrong.code, 2, "{bad:?}: {}", wrong.stderr);
    }
}

#[test]
fn a_mistyped_directory_is_told_and_not_made() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("typo");
    let missing = missing.to_str().unwrap();
    for args in [&["list"][..], &["list", "--json"], &["revoke", "tok-1"]] {
        let done = run(exedra(&["token"]).args(args).args(["--data-dir", missing]));
        assert_eq!((done.code, done.out()), (2, ""));
        assert!(done.stderr.contains("there is no data directory"), "{}", done.stderr);
    }
    assert!(!std::path::Path::new(missing).exists());
}
