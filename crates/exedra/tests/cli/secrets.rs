//! At trace level, with everything running, no secret is in any output.

use std::collections::BTreeSet;
use std::path::Path;

use crate::plane::Server;
use crate::program::{Running, run, run_with_input};

/// All secrets of a data directory and the tokens that were made: whatever must not be said.
fn secrets(server: &Server, tokens: &[&str]) -> BTreeSet<String> {
    let mut secrets: BTreeSet<String> = tokens.iter().map(|token| (*token).to_owned()).collect();
    let keys = std::fs::read_to_string(server.data_dir().join("signing-keys.json")).unwrap();
    let keys: serde_json::Value = serde_json::from_str(&keys).unwrap();
    collect(&keys, &mut secrets);
    assert!(secrets.len() > tokens.len(), "the signing keys hold secrets");
    secrets
}

fn collect(value: &serde_json::Value, into: &mut BTreeSet<String>) {
    match value {
        serde_json::Value::Object(members) => {
            for (name, value) in members {
                match value.as_str() {
                    Some(text) if name == "secret" => drop(into.insert(text.to_owned())),
                    _ => collect(value, into),
                }
            }
        }
        serde_json::Value::Array(values) => values.iter().for_each(|value| collect(value, into)),
        _ => {}
    }
}

#[test]
fn nothing_secret_is_said_at_trace_level() {
    let mut server = Server::start_with(&[("EXEDRA_LOG", "trace")]);
    let token = server.token(&["--role", "executor"]);
    let executor =
        Running::start(server.executor_command("box").env("EXEDRA_TOKEN", &token).env("EXEDRA_LOG", "trace"));
    executor.stderr_line("registered with executor_id");
    let done = run_with_input(server.exec(&["-i", "box", "--", "cat"]).env("EXEDRA_LOG", "trace"), b"x");
    assert_eq!((done.code, done.out()), (0, "x"), "{}", done.stderr);
    let environment = run(server.exec(&["box", "--", "env"]).env("EXEDRA_LOG", "trace"));
    let failed = run(server.exec(&["--wait", "0", "none", "--", "true"]).env("EXEDRA_LOG", "trace"));
    assert_eq!(failed.code, 255);
    let secrets = secrets(&server, &[&token, &server.client_token.clone()]);
    let (executor, serve) = (executor.stop(), server.stop());
    assert!(serve.stderr.contains("DEBUG") && executor.stderr.contains("TRACE"), "trace was on");
    for said in [&done, &environment, &failed, &executor, &serve] {
        let all = format!("{}{}", String::from_utf8_lossy(&said.stdout), said.stderr);
        for secret in &secrets {
            assert!(!all.contains(secret.as_str()), "{secret} in {all}");
        }
        // Tickets are URLs that let their holder in.
        assert!(!all.contains("sig="), "{all}");
    }
}

#[test]
fn the_records_hold_no_token() {
    let server = Server::start();
    let tokens = [server.client_token.clone(), server.token(&["--role", "admin"])];
    let mut seen = 0;
    for entry in walk(&server.data_dir()) {
        let bytes = std::fs::read(&entry).unwrap_or_default();
        seen += bytes.len();
        for token in &tokens {
            let found = bytes.windows(token.len()).any(|window| window == token.as_bytes());
            assert!(!found, "{} holds a token", entry.display());
        }
    }
    assert!(seen > 4_096, "there are records: {seen} bytes");
}

fn walk(dir: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}
