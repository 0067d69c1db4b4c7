//! `exec-server --join`: a join token is used up for a credential that the executor keeps.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::plane::Server;
use crate::program::{Running, exedra, run};

/// An executor that has its state below `home`.
fn executor(server: &Server, home: &Path, id: &str) -> Command {
    let mut command = server.executor_command(id);
    command.env("HOME", home);
    command
}

fn credential(home: &Path) -> PathBuf {
    let dir = home.join(".local/state/exedra/credentials");
    let entries: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(entries.len(), 1, "{entries:?}");
    entries[0].clone()
}

fn tokens(server: &Server) -> Vec<Value> {
    let data_dir = server.data_dir();
    let listed = run(&mut exedra(&["token", "list", "--json", "--data-dir", data_dir.to_str().unwrap()]));
    serde_json::from_str(listed.out()).unwrap()
}

#[test]
fn an_executor_joins_once_and_comes_back_with_what_it_kept() {
    let server = Server::start_with(&[("EXEDRA_LOG", "trace")]);
    let home = tempfile::tempdir().unwrap();
    let join = server.token(&["--role", "join", "--executor", "box"]);
    let first =
        Running::start(executor(&server, home.path(), "box").args(["--join", &join]).env("EXEDRA_LOG", "trace"));
    first.stderr_line("registered with executor_id box");
    let done = run(&mut server.exec(&["box", "--", "echo", "here"]));
    assert_eq!((done.code, done.out()), (0, "here\n"), "{}", done.stderr);
    let inherited = run(&mut server.exec(&["box", "--", "env"]));
    assert!(!inherited.out().contains("exedra_"), "{}", inherited.out());
    let log = first.stop().stderr;
    let file = credential(home.path());
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let kept = std::fs::read_to_string(&file).unwrap();
    let secret = kept.split(' ').nth(1).unwrap();
    assert!(secret.starts_with("exedra_x_"));
    assert!(log.contains("TRACE") && !log.contains(secret) && !log.contains(&join), "{log}");
    let all = tokens(&server);
    let (join_token, own) = (&all[1], &all[2]);
    assert_eq!((&join_token["role"], &join_token["uses_left"]), (&"join".into(), &0.into()));
    assert_eq!(
        (&own["role"], &own["executors"], &own["joined_with"]),
        (&"executor".into(), &"box".into(), &join_token["id"])
    );
    let data_dir = server.data_dir();
    let table = run(&mut exedra(&["token", "list", "--data-dir", data_dir.to_str().unwrap()]));
    assert!(table.out().contains("used up") && table.out().contains("FROM"), "{}", table.out());
    let shown = exedra(&["token", "show", own["id"].as_str().unwrap(), "--data-dir", data_dir.to_str().unwrap()]);
    let shown = run(&mut { shown });
    assert!(shown.out().contains("joined with") && shown.out().contains(join_token["id"].as_str().unwrap()));

    // With the join token, which is used up, and without; and its file may be gone.
    let gone = home.path().join("gone");
    for args in [&["--join", &join][..], &[], &["--join-file", gone.to_str().unwrap()]] {
        let again = Running::start(executor(&server, home.path(), "box").args(args));
        again.stderr_line("registered with executor_id box");
        assert_eq!(again.stop().code, 0);
    }
    assert_eq!(tokens(&server).len(), 3);

    // Revoked, it is not replaced by chance.
    let id = own["id"].as_str().unwrap();
    assert_eq!(run(&mut exedra(&["token", "revoke", id, "--data-dir", data_dir.to_str().unwrap()])).code, 0);
    let other = server.token(&["--role", "join"]);
    let refused = Running::start(executor(&server, home.path(), "box").args(["--join", &other]));
    refused.stderr_line("revoked");
    refused.stop();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), kept);
    assert_eq!(tokens(&server).last().unwrap()["uses_left"], 1);
}

#[test]
fn a_join_token_comes_from_a_file_or_the_environment_and_one_alone_is_enough_for_a_few() {
    let server = Server::start();
    let home = tempfile::tempdir().unwrap();
    let join = server.token(&["--role", "join", "--executor", "lab-*", "--uses", "2", "--expires", "5m"]);
    let file = home.path().join("join");
    std::fs::write(&file, format!("{join}\n")).unwrap();
    let first = Running::start(executor(&server, home.path(), "lab-1").arg("--join-file").arg(&file));
    first.stderr_line("registered with executor_id lab-1");
    let second = Running::start(executor(&server, home.path(), "lab-2").env("EXEDRA_JOIN_TOKEN", &join));
    second.stderr_line("registered with executor_id lab-2");
    for (id, word) in [("lab-3", "used up"), ("other", "other names")] {
        let refused = run(executor(&server, home.path(), id).env("EXEDRA_JOIN_TOKEN", &join));
        assert_eq!(refused.code, 1, "{}", refused.stderr);
        assert!(refused.stderr.contains("not joined") && refused.stderr.contains(word), "{}", refused.stderr);
        assert!(!refused.stderr.contains(&join));
    }
    let elsewhere = tempfile::tempdir().unwrap();
    let spare = server.token(&["--role", "join"]);
    let taken = run(executor(&server, elsewhere.path(), "lab-1").args(["--join", &spare]));
    assert_eq!(taken.code, 1);
    assert!(taken.stderr.contains("executor_exists") && taken.stderr.contains("hint: "), "{}", taken.stderr);
    let (first, second) = (first.stop(), second.stop());
    assert_eq!((first.code, second.code), (0, 0));
}

#[test]
fn what_cannot_be_used_is_told_and_replaced_by_nothing() {
    let server = Server::start();
    let home = tempfile::tempdir().unwrap();
    let client = server.client_token.clone();
    for wrong in ["nonsense", client.as_str(), " "] {
        let refused = run(executor(&server, home.path(), "box").args(["--join", wrong]));
        assert_eq!(refused.code, 2, "{}", refused.stderr);
        assert!(refused.stderr.contains("no join token") && !refused.stderr.contains(&client), "{}", refused.stderr);
    }
    let missing = run(executor(&server, home.path(), "box").args(["--join-file", "/nowhere/join"]));
    assert!(missing.code == 255 && missing.stderr.contains("/nowhere/join"), "{}", missing.stderr);
    assert!(!home.path().join(".local/state/exedra/credentials").exists(), "nothing was made");
    let join = server.token(&["--role", "join"]);
    let first = Running::start(executor(&server, home.path(), "box").args(["--join", &join]));
    first.stderr_line("registered with executor_id box");
    first.stop();
    let file = credential(home.path());
    let kept = std::fs::read_to_string(&file).unwrap();
    let mode = |mode| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
    mode(0o644);
    let refused = |word: &str| {
        let refused = run(executor(&server, home.path(), "box").args(["--join", &join]));
        assert_eq!(refused.code, 1, "{}", refused.stderr);
        assert!(refused.stderr.contains(word) && refused.stderr.contains("hint: "), "{}", refused.stderr);
    };
    refused("mode 0600");
    mode(0o600);
    std::fs::write(&file, &kept[..40]).unwrap();
    refused("damaged");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), kept[..40]);
    let nowhere = run(server.executor_command("box").args(["--join", &join]).env_remove("HOME"));
    assert!(nowhere.code == 2 && nowhere.stderr.contains("XDG_STATE_HOME"), "{}", nowhere.stderr);
    let both = run(executor(&server, home.path(), "box").args(["--join", &join, "--token-file", "x"]));
    assert_eq!(both.code, 2);
    let unmade = home.path().join("unmade");
    let create = ["token", "create", "--role", "client", "--uses", "2", "--data-dir", unmade.to_str().unwrap()];
    let uses = run(&mut exedra(&create));
    assert!(uses.code == 2 && uses.stderr.contains("--uses"), "{}", uses.stderr);
    assert!(!unmade.exists());
}

/// Registers as a stock executor does that has a key: the status of the answer.
fn keyed(server: &Server, token: &str, seed: u8) -> String {
    let part = |bytes| STANDARD.encode(vec![seed; bytes]);
    let body = serde_json::json!({"security_profile": "noise_hybrid_ik_v1", "executor_public_key": {
        "suite": "Noise_hybridIK_X25519+MLKEM768_AESGCM_SHA256",
        "x25519_public_key": part(32), "mlkem768_public_key": part(1_184),
    }});
    let (body, address) = (body.to_string(), server.url.trim_start_matches("http://"));
    let head = format!(
        "POST /cloud/environment/box/register HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.lines().next().unwrap_or_default().to_owned()
}

#[test]
fn a_name_that_is_bound_to_a_key_is_for_no_other_until_the_key_is_forgotten() {
    let server = Server::start_bound();
    let token = server.token(&["--role", "executor", "--executor", "box"]);
    assert_eq!(keyed(&server, &token, 1), "HTTP/1.1 200 OK");
    assert_eq!(keyed(&server, &token, 2), "HTTP/1.1 403 Forbidden", "a stock one has another key at each start");
    let home = tempfile::tempdir().unwrap();
    let refused = run(executor(&server, home.path(), "box").env("EXEDRA_TOKEN", &token));
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    for part in ["bound to a key", "hint: ", "exedra forget-key ID", "take another id"] {
        assert!(refused.stderr.contains(part), "no {part:?} in {}", refused.stderr);
    }
    let data_dir = server.data_dir();
    let forget = || run(&mut exedra(&["forget-key", "box", "--data-dir", data_dir.to_str().unwrap()]));
    assert_eq!(forget().code, 0);
    assert_eq!(forget().code, 2, "it is bound to none");
    let first = Running::start(executor(&server, home.path(), "box").env("EXEDRA_TOKEN", &token));
    first.stderr_line("registered with executor_id box");
    assert_eq!(first.stop().code, 0);
    let admin = server.token(&["--role", "admin"]);
    let mut events = exedra(&["events", "--json"]);
    let events = run(events.env("EXEDRA_SERVER", &server.url).env("EXEDRA_TOKEN", admin));
    for kind in ["executor_key_bound", "executor_key_refused", "executor_key_forgotten"] {
        assert_eq!(events.out().matches(kind).count(), 1, "{kind}: {}", events.out());
    }
}

#[test]
fn a_server_that_is_away_is_waited_for() {
    let mut server = Server::start();
    let home = tempfile::tempdir().unwrap();
    let join = server.token(&["--role", "join"]);
    let listen = server.url.strip_prefix("http://").unwrap().to_owned();
    server.stop();
    let executor = Running::start(executor(&server, home.path(), "box").args(["--join", &join]));
    executor.stderr_line("not joined");
    server.restart(&listen);
    executor.stderr_line("registered with executor_id box");
    assert_eq!(executor.stop().code, 0);
}
