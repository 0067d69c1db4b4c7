//! `token`: made, listed, revoked; never shown twice.

use serde_json::Value;

use crate::plane::Server;
use crate::program::{Running, exedra, run};

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
    assert_eq!(made.code, 0, "{}", made.stderr);
    assert!(made.stderr.contains(&format!("no records in {data_dir}")), "{}", made.stderr);
    let again = run(&mut exedra(&["token", "create", "--role", "admin", "--data-dir", data_dir]));
    assert_eq!((again.code, again.stderr.as_str()), (0, ""), "they are there now");
    let token = made.out().trim_end();
    assert!(token.starts_with("exedra_c_") && !token.contains(char::is_whitespace), "{token}");
    let listed = run(&mut exedra(&["token", "list", "--json", "--data-dir", data_dir]));
    let list: Value = serde_json::from_str(listed.out()).unwrap();
    let entry = list.as_array().unwrap().iter().find(|entry| entry["role"] == "client").unwrap();
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
fn another_secret_cuts_what_the_old_one_opened_and_the_rightful_come_back() {
    let server = Server::start();
    let data_dir = server.data_dir();
    let data_dir = data_dir.to_str().unwrap();
    let token = |args: &[&str]| -> Value {
        let done = run(exedra(&["token"]).args(args).args(["--json", "--data-dir", data_dir]));
        serde_json::from_str(done.out()).unwrap()
    };
    let executor = token(&["create", "--role", "executor"]);
    let file = server.data_dir().join("executor-token");
    std::fs::write(&file, executor["token"].as_str().unwrap()).unwrap();
    let mut command = server.executor_command("box");
    let command = command.env_remove("EXEDRA_TOKEN").arg("--token-file").arg(&file);
    let daemon = Running::start(command);
    daemon.stderr_line("registered with executor_id box");
    let begun = |secret: &Value, reconnect: &str| {
        let argv = ["--wait", "60s", "--reconnect", reconnect, "box", "--", "sh", "-c", "echo begun; sleep 600"];
        let exec = Running::start(server.exec(&argv).env("EXEDRA_TOKEN", secret.as_str().unwrap()));
        assert_eq!(exec.line(), "begun");
        exec
    };
    let client = token(&["create", "--role", "client"]);
    let (open, seeks) = (begun(&client["token"], "0s"), begun(&client["token"], "60s"));
    let next = token(&["rotate", client["id"].as_str().unwrap()]);
    let ended = open.finish();
    assert!(ended.code == 255 && ended.stderr.contains("its token has another secret"), "{}", ended.stderr);
    let ended = seeks.finish();
    assert!(ended.code == 255 && ended.stderr.contains("the token is not known here"), "{}", ended.stderr);
    let open = begun(&next["token"], "0s");
    let rotated = token(&["rotate", executor["id"].as_str().unwrap()]);
    daemon.stderr_line("its token has another secret");
    daemon.stderr_line("the token is not known here");
    std::fs::write(&file, rotated["token"].as_str().unwrap()).unwrap();
    assert_eq!(open.finish().code, 255);
    let argv = ["--wait", "60s", "box", "--", "echo", "back"];
    let back = run(server.exec(&argv).env("EXEDRA_TOKEN", next["token"].as_str().unwrap()));
    assert_eq!((back.code, back.out()), (0, "back\n"), "{}", back.stderr);
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

#[test]
fn a_token_is_shown_and_renewed() {
    let server = Server::start();
    let _executor = server.executor("box");
    let data_dir = server.data_dir();
    let data_dir = data_dir.to_str().unwrap();
    let token = |args: &[&str]| run(exedra(&["token"]).args(args).args(["--data-dir", data_dir]));
    let labels = ["--label", "team=a", "--client-label", "who=me", "--client-label", "ci="];
    let made = token(&[&["create", "--role", "client", "--executor", "b*", "--json"], &labels[..]].concat());
    let made: Value = serde_json::from_str(made.out()).unwrap();
    let id = made["id"].as_str().unwrap();
    assert_eq!((&made["labels"]["team"], &made["rights"][3]), (&"a".into(), &"pty".into()), "{made}");
    assert_eq!(made["client_labels"], serde_json::json!({"who": "me", "ci": ""}), "{made}");
    for role in ["executor", "join"] {
        let refused = token(&["create", "--role", role, "--client-label", "who=me"]);
        assert!(refused.code == 2 && refused.stderr.contains("--client-label is for clients"), "{}", refused.stderr);
    }
    let exec = |token: &Value| run(server.exec(&["box", "--", "true"]).env("EXEDRA_TOKEN", token.as_str().unwrap()));
    let refused = exec(&made["token"]);
    assert!(refused.code == 255 && refused.stderr.contains("other labels"), "{}", refused.stderr);
    let renewed = token(&["rotate", id, "--json"]);
    let renewed: Value = serde_json::from_str(renewed.out()).unwrap();
    assert_eq!(renewed["id"], made["id"]);
    assert!(exec(&made["token"]).stderr.contains("refused the token"), "the old secret is worth nothing");
    assert!(exec(&renewed["token"]).stderr.contains("other labels"));
    let shown = token(&["show", id]);
    assert!(shown.out().contains("team=a") && shown.out().contains("exec,files,http,pty"), "{}", shown.out());
    assert!(shown.out().contains("client labels") && shown.out().contains("ci= who=me"), "{}", shown.out());
    assert!(!shown.out().contains("exedra_c_"));
    let shown: Value = serde_json::from_str(token(&["show", id, "--json"]).out()).unwrap();
    assert_eq!(shown["executors"], "b*");
    assert_eq!(token(&["show", "tok-0123456789abcdef"]).code, 255);
    let revoked: Value = serde_json::from_str(token(&["revoke", id, "--json"]).out()).unwrap();
    assert!(revoked["revoked_at"].is_u64());
    assert_eq!(token(&["rotate", id]).code, 255, "it has ended");
}

#[test]
fn a_token_with_fewer_rights_than_all_does_what_these_give() {
    let server = Server::start();
    let executor = server.executor("box");
    let data_dir = server.data_dir();
    let data_dir = data_dir.to_str().unwrap();
    let token = |rights: &str, name: &str| {
        let args = ["token", "create", "--role", "client", "--data-dir", data_dir, "--rights", rights, "--name", name];
        let made = run(&mut exedra(&args));
        assert!(made.stderr.contains("hold clients to their rights"), "{}", made.stderr);
        made.out().trim_end().to_owned()
    };
    let (exec, files) = (token("exec", "runs things"), token("files", "copies things"));
    assert_eq!(run(server.exec(&["box", "--", "true"]).env("EXEDRA_TOKEN", &exec)).code, 0);
    let refused = run(server.exec(&["box", "--", "true"]).env("EXEDRA_TOKEN", &files));
    let text = "rights: process/start needs the right exec; the client's token gives files alone";
    assert!(refused.code == 255 && refused.stderr.contains(text), "{}", refused.stderr);
    let terminal = run(server.exec(&["-t", "box", "--", "true"]).env("EXEDRA_TOKEN", &exec));
    let text = "rights: process/start on a terminal needs the right pty";
    assert!(terminal.code == 255 && terminal.stderr.contains(text), "{}", terminal.stderr);
    let ended = executor.stop();
    for part in ["runs things", "copies things", "refused for want of a right"] {
        assert!(ended.stderr.contains(part), "no {part:?} in {}", ended.stderr);
    }
}

#[test]
fn what_is_open_with_a_token_ends_when_another_process_revokes_it() {
    let server = Server::start();
    let _executor = server.executor("box");
    let data_dir = server.data_dir();
    let data_dir = data_dir.to_str().unwrap();
    let made = run(&mut exedra(&["token", "create", "--role", "client", "--json", "--data-dir", data_dir]));
    let made: Value = serde_json::from_str(made.out()).unwrap();
    let token = made["token"].as_str().unwrap();
    let argv = ["--reconnect", "0s", "box", "--", "sh", "-c", "echo begun; sleep 600"];
    let exec = Running::start(server.exec(&argv).env("EXEDRA_TOKEN", token));
    assert_eq!(exec.line(), "begun");
    let revoked = run(&mut exedra(&["token", "revoke", made["id"].as_str().unwrap(), "--data-dir", data_dir]));
    assert_eq!(revoked.code, 0, "{}", revoked.stderr);
    let ended = exec.finish();
    assert_eq!(ended.code, 255);
    assert!(ended.stderr.contains("no longer valid"), "{}", ended.stderr);
}

#[test]
fn the_aws_pair_of_a_token_is_always_the_same() {
    let server = Server::start();
    let data_dir = server.data_dir();
    let data_dir = data_dir.to_str().unwrap();
    let listed = run(&mut exedra(&["token", "list", "--json", "--data-dir", data_dir]));
    let list: Vec<Value> = serde_json::from_str(listed.out()).unwrap();
    let id = list[0]["id"].as_str().unwrap();
    let shown = run(&mut exedra(&["token", "aws", id, "--data-dir", data_dir]));
    assert_eq!((shown.code, shown.stderr.as_str()), (0, ""));
    let again = run(&mut exedra(&["token", "aws", id, "--json", "--data-dir", data_dir]));
    let pair: Value = serde_json::from_str(again.out()).unwrap();
    let (key, secret) = (pair["access_key_id"].as_str().unwrap(), pair["secret_access_key"].as_str().unwrap());
    assert_eq!(shown.out(), format!("AWS_ACCESS_KEY_ID={key}\nAWS_SECRET_ACCESS_KEY={secret}\n"));
    assert!(key.len() == 20 && secret.len() == 43, "{key} {secret}");
    let unknown = run(&mut exedra(&["token", "aws", "tok-0000000000000000", "--data-dir", data_dir]));
    assert_eq!(unknown.code, 255);
}
