//! `serve`: one line, one holder of a data directory, a clean end, and executors that come back.

use std::io::{Read as _, Write as _};

use serde_json::Value;

use crate::plane::Server;
use crate::program::{Running, exedra, run, until};

#[test]
fn the_url_is_the_one_line_and_the_end_is_clean() {
    let mut server = Server::start();
    assert!(server.url.starts_with("http://127.0.0.1:"), "{}", server.url);
    let url = server.url.clone();
    let stopped = server.stop();
    assert_eq!((stopped.code, stopped.out()), (0, format!("{url}\n").as_str()), "{}", stopped.stderr);
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    let serve = Running::start(&mut exedra(&[
        "serve",
        "--json",
        "--listen",
        "127.0.0.1:0",
        "--data-dir",
        data_dir.to_str().unwrap(),
    ]));
    let line: Value = serde_json::from_str(&serve.line()).unwrap();
    assert!(line["server"].as_str().unwrap().starts_with("http://127.0.0.1:"), "{line}");
    serve.signal("INT");
    assert_eq!(serve.finish().code, 0);
}

#[test]
fn a_public_url_is_the_one_that_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    let serve = Running::start(&mut exedra(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--public-url",
        "https://exedra.example/",
        "--data-dir",
        data_dir.to_str().unwrap(),
    ]));
    assert_eq!(serve.line(), "https://exedra.example");
    assert_eq!(serve.stop().code, 0);
    let wrong =
        run(&mut exedra(&["serve", "--public-url", "exedra.example", "--data-dir", data_dir.to_str().unwrap()]));
    assert_eq!(wrong.code, 2, "{}", wrong.stderr);
}

#[test]
fn behind_a_proxy_a_url_of_this_machine_alone_is_warned_of() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    let args = ["serve", "--listen", "127.0.0.1:0", "--trusted-proxy", "10.0.0.0/8"];
    let serve =
        |more: &[&str]| Running::start(exedra(&args).args(["--data-dir", data_dir.to_str().unwrap()]).args(more));
    let bare = serve(&[]);
    let told = bare.stderr_line("--public-url");
    assert!(told.contains(&bare.line()), "{told}");
    assert_eq!(bare.stop().code, 0);
    let named = serve(&["--public-url", "https://exedra.example"]);
    named.line();
    let stopped = named.stop();
    assert!(!stopped.stderr.contains("--public-url"), "{}", stopped.stderr);
}

#[test]
fn a_hangup_ends_no_server() {
    let mut server = Server::start();
    for _ in 0..2 {
        server.serving().signal("HUP");
        server.log_line("read again");
    }
    assert_eq!(run(&mut server.exec(&["nobody", "--wait", "0s", "--", "true"])).code, 255, "it answers");
    assert_eq!(server.stop().code, 0);
}

#[test]
fn a_port_in_use_is_told() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    let address = taken.local_addr().unwrap().to_string();
    let failed = run(&mut exedra(&["serve", "--listen", &address, "--data-dir", data_dir.to_str().unwrap()]));
    assert_eq!(failed.code, 255);
    assert!(failed.stderr.contains(&address) && failed.stderr.contains("in use"), "{}", failed.stderr);
    assert!(failed.stderr.contains("hint: "), "{}", failed.stderr);
}

#[test]
fn a_second_server_on_the_same_data_is_told_who_has_it() {
    let server = Server::start();
    let data_dir = server.data_dir();
    let second = run(&mut exedra(&["serve", "--listen", "127.0.0.1:0", "--data-dir", data_dir.to_str().unwrap()]));
    assert_eq!(second.code, 255);
    assert!(second.stderr.contains("in use by process") && second.stderr.contains("exedra serve"), "{}", second.stderr);
}

#[test]
fn an_executor_works_again_after_the_server_was_away() {
    let mut server = Server::start();
    let _executor = server.executor("box");
    assert_eq!(run(&mut server.exec(&["box", "--", "true"])).code, 0);
    let address = server.url.trim_start_matches("http://").to_owned();
    assert_eq!(server.stop().code, 0);
    server.restart(&address);
    let done = run(&mut server.exec(&["--wait", "60s", "box", "--", "echo", "again"]));
    assert_eq!((done.code, done.out()), (0, "again\n"), "{}", done.stderr);
}

#[test]
fn the_log_is_json_where_that_is_asked_for_and_tells_requests_apart() {
    let server = Server::start_with(&[("EXEDRA_LOG_FORMAT", "json")]);
    let _executor = server.executor("box");
    assert_eq!(run(&mut server.exec(&["box", "--", "true"])).code, 0);
    let line = server.log_line("/v1/executors/box/connect");
    let entry: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&entry["message"], &entry["status"]), (&"answered".into(), &200.into()), "{entry}");
    let span = &entry["span"];
    assert_eq!(span["client"], "127.0.0.1", "{entry}");
    let length = |member: &str| span[member].as_str().map(str::len);
    assert_eq!((length("id"), length("trace")), (Some(32), Some(32)), "{entry}");
    let wrong = run(exedra(&["serve"]).env("EXEDRA_LOG_FORMAT", "xml"));
    assert_eq!(wrong.code, 2, "{}", wrong.stderr);
    assert!(wrong.stderr.contains("text or json"), "{}", wrong.stderr);
}

#[test]
fn a_server_restored_from_a_backup_knows_its_tokens() {
    let server = Server::start();
    let _executor = server.executor("box");
    let (saved, restored) = (server.dir.path().join("saved"), server.dir.path().join("restored"));
    let (saved, restored) = (saved.to_str().unwrap(), restored.to_str().unwrap());
    let backup = run(&mut exedra(&["backup", "--data-dir", server.data_dir().to_str().unwrap(), saved]));
    assert_eq!(backup.code, 0, "{}", backup.stderr);
    let again = run(&mut exedra(&["backup", "--data-dir", server.data_dir().to_str().unwrap(), saved]));
    assert_eq!(again.code, 255);
    assert!(again.stderr.contains("there already") && again.stderr.contains("hint: "), "{}", again.stderr);
    let restore = run(&mut exedra(&["restore", "--json", "--data-dir", restored, saved]));
    assert_eq!(restore.code, 0, "{}", restore.stderr);
    let told: serde_json::Value = serde_json::from_slice(&restore.stdout).unwrap();
    assert_eq!(told["files"][0]["name"], "registry.db", "{told}");
    let other = Running::start(&mut exedra(&["serve", "--listen", "127.0.0.1:0", "--data-dir", restored]));
    let url = other.line();
    let away = run(server.exec(&["--wait", "0s", "box", "--", "true"]).env("EXEDRA_SERVER", &url));
    assert_eq!(away.code, 255);
    assert!(
        away.stderr.contains("executor `box` is offline"),
        "the token is good, and the executor is known: {}",
        away.stderr
    );
}

#[test]
fn metrics_count_what_happens_and_name_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    let args = ["serve", "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--data-dir"];
    let serve = Running::start(exedra(&args).arg(&data_dir));
    let (line, url) = (serve.stderr_line("metrics are to be had"), serve.line());
    let address = line.split("address=").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    let page = || get(&address, "/metrics", "");
    assert!(page().contains("\nexedra_connections{role=\"executor\"} 0\n"), "{}", page());
    let server = url.trim_start_matches("http://");
    get(server, "/v1/executors/some-box/connect", "Authorization: Bearer nonsense\r\n");
    post(server, "/v1/executors/some-box/connect", "Authorization: Bearer nonsense\r\n");
    let stranger = "/rendezvous/r?role=harness";
    let upgrade = "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
    get(server, stranger, upgrade);
    get(server, "/what/ever", "");
    let text = page();
    let route = "/v1/executors/{id}/connect";
    for line in [
        format!("exedra_http_requests_total{{method=\"POST\",route=\"{route}\",status=\"401\"}} 1"),
        "exedra_tokens_refused_total{reason=\"unknown\"} 1".to_owned(),
        "exedra_store_up 1".to_owned(),
        "exedra_queued_bytes 0".to_owned(),
        "exedra_clients_stalled_total 0".to_owned(),
        "exedra_clients_stalled_seconds_total 0.0".to_owned(),
    ] {
        assert!(text.contains(&line), "{line} is missing: {text}");
    }
    assert!(text.contains("exedra_tickets_refused_total{reason="), "{text}");
    for operation in ["read", "write"] {
        let count = format!("exedra_store_seconds_count{{operation=\"{operation}\"}} ");
        let count = text.lines().find_map(|line| line.strip_prefix(&*count)?.parse::<u64>().ok());
        assert!(count.is_some_and(|count| count > 0), "{operation}: {text}");
    }
    assert!(text.contains("exedra_store_seconds_bucket{le=\"0.0005\",operation=\"read\"}"), "{text}");
    assert!(text.matches("\nexedra_store_seconds").count() <= 32, "few lines: {text}");
    assert!(!text.contains("some-box") && !text.contains("ever"), "{text}");
    assert_eq!(serve.stop().code, 0);
}

#[test]
fn strangers_at_the_same_address_lock_no_executor_out() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    let data_dir = data_dir.to_str().unwrap();
    let args = ["serve", "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--data-dir", data_dir];
    let serve = Running::start(exedra(&args).args(["--rate-per-address", "1"]));
    let (line, url) = (serve.stderr_line("metrics are to be had"), serve.line());
    let metrics = line.split("address=").nth(1).unwrap().split_whitespace().next().unwrap();
    let address = url.trim_start_matches("http://");
    let flood = || post(address, "/cloud/executor/box/register", "Authorization: Bearer nonsense\r\n");
    until("too many bad tokens", || flood().starts_with("HTTP/1.1 429 "));
    let upgrade = "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
    let ticket = |role: &str| get(address, &format!("/rendezvous/r?role={role}"), upgrade);
    until("too many bad tickets", || ticket("harness") == "HTTP/1.1 429");
    assert_eq!(ticket("executor"), "HTTP/1.1 401", "it is told the truth");
    let token = |role: &str| {
        let made = run(&mut exedra(&["token", "create", "--role", role, "--data-dir", data_dir]));
        made.out().trim_end().to_owned()
    };
    let mut executor = exedra(&["exec-server", "--remote", &url, "--executor-id", "box"]);
    let executor = Running::start(executor.env("EXEDRA_TOKEN", token("executor")));
    executor.stderr_line("registered with executor_id");
    let mut exec = exedra(&["exec", "box", "--", "echo", "here"]);
    let done = run(exec.env("EXEDRA_SERVER", &url).env("EXEDRA_TOKEN", token("client")));
    assert_eq!((done.code, done.out()), (0, "here\n"), "{}", done.stderr);
    let refused = flood();
    assert!(refused.contains("429") || refused.contains("401"), "{refused}");
    let text = get(metrics, "/metrics", "");
    assert!(text.contains("exedra_rates_refused_total{reason=\"address\"}"), "{text}");
}

fn get(address: &str, path: &str, headers: &str) -> String {
    ask(address, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n{headers}"))
}

fn post(address: &str, path: &str, headers: &str) -> String {
    ask(address, &format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n{headers}"))
}

fn ask(address: &str, head: &str) -> String {
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let close = if head.contains("Connection:") { "" } else { "Connection: close\r\n" };
    stream.write_all(format!("{head}{close}\r\n").as_bytes()).unwrap();
    if !close.is_empty() {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        return answer;
    }
    let mut first = [0; 12];
    stream.read_exact(&mut first).unwrap();
    String::from_utf8_lossy(&first).into_owned()
}
