//! `exec-server`: what it prints, the order of its checks, and how it ends.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use crate::plane::Server;
use crate::program::{Running, exedra, run};

#[test]
fn the_first_line_is_the_url_and_commands_run_there() {
    let listener = Running::start(&mut exedra(&["exec-server"]));
    let url = listener.line();
    assert!(url.starts_with("ws://127.0.0.1:") && !url.ends_with(":0"), "{url}");
    let done = run(&mut exedra(&["exec", "--url", &url, "--", "sh", "-c", "echo here; exit 3"]));
    assert_eq!((done.code, done.out()), (3, "here\n"), "{}", done.stderr);
    let stopped = listener.stop();
    assert_eq!(stopped.code, 0, "{}", stopped.stderr);
    assert_eq!(stopped.out(), format!("{url}\n"), "and nothing else on stdout");
}

#[test]
fn a_socket_file_is_for_its_owner_and_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("exec.sock");
    let url = format!("unix://{}", path.display());
    let listener = Running::start(&mut exedra(&["exec-server", "--listen", &url]));
    assert_eq!(listener.line(), url);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let done = run(&mut exedra(&["exec", "--url", &url, "--", "echo", "here"]));
    assert_eq!((done.code, done.out()), (0, "here\n"), "{}", done.stderr);
    assert_eq!(listener.stop().code, 0);
    assert!(!path.exists());
}

#[test]
fn stdio_speaks_the_protocol_and_nothing_else_on_stdout() {
    let mut server = Running::start(exedra(&["exec-server", "--listen", "stdio"]).stdin(Stdio::piped()));
    let mut stdin = server.stdin();
    stdin.write_all(b"{\"id\":1,\"method\":\"initialize\",\"params\":{\"clientName\":\"t\"}}\n").unwrap();
    let answer = server.line();
    assert!(answer.starts_with("{\"id\":1,\"result\":{\"sessionId\":\""), "{answer}");
    drop(stdin);
    let done = server.finish();
    assert_eq!(done.code, 0, "the end of input is the end: {}", done.stderr);
    assert_eq!(done.out().lines().count(), 1);
}

#[test]
fn a_name_that_a_client_chose_makes_no_line_of_the_log() {
    let mut command = exedra(&["exec-server", "--listen", "stdio"]);
    let mut server = Running::start(command.env("EXEDRA_LOG", "trace").stdin(Stdio::piped()));
    let mut stdin = server.stdin();
    let forged = "x\\n2026-01-01T00:00:00.000000Z ERROR exedra: forged\\u001b[31m\\r\\u009b2J";
    let start = format!(
        "{{\"id\":2,\"method\":\"process/start\",\"params\":{{\"processId\":\"{forged}\",\"argv\":[\"true\"],\"cwd\":\"/\",\
         \"env\":{{}},\"tty\":false}}}}\n"
    );
    let hello = format!("{{\"id\":1,\"method\":\"initialize\",\"params\":{{\"clientName\":\"{forged}\"}}}}\n");
    stdin.write_all(hello.as_bytes()).unwrap();
    stdin.write_all(b"{\"method\":\"initialized\",\"params\":{}}\n").unwrap();
    stdin.write_all(start.as_bytes()).unwrap();
    stdin.write_all(format!("{{\"id\":3,\"method\":\"{forged}\"}}\n{{\"method\":\"{forged}\"}}\n").as_bytes()).unwrap();
    while !server.line().contains("process/closed") {}
    drop(stdin);
    let done = server.finish();
    assert_eq!(done.code, 0, "{}", done.stderr);
    let (mut lines, mut named) = (0, 0);
    for line in done.stderr.lines() {
        let starts = line.starts_with("20") && !line.starts_with("2026-01-01T00:00:00.000000Z");
        assert!(starts && !line.contains(char::is_control), "{line:?} in {}", done.stderr);
        (lines, named) = (lines + 1, named + usize::from(line.contains("forged")));
    }
    assert!(lines > 5 && named >= 3, "{}", done.stderr);
}

#[test]
fn a_port_in_use_is_told() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}", taken.local_addr().unwrap());
    let failed = run(&mut exedra(&["exec-server", "--listen", &url]));
    assert_eq!(failed.code, 255);
    assert!(failed.stderr.contains("in use") && failed.stderr.contains("hint: "), "{}", failed.stderr);
}

#[test]
fn a_place_for_output_that_others_can_get_at_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let failed = run(exedra(&["exec-server", "--spool"]).arg(dir.path()));
    assert_eq!(failed.code, 255);
    assert!(failed.stderr.contains("no access for others"), "{}", failed.stderr);
}

/// Token first, then id, then URL, each in upstream's words, and status 1.
#[test]
fn the_checks_come_in_order_and_in_upstreams_words() {
    let remote = |url: &str, id: &str, token: Option<&str>| {
        let mut command = exedra(&["exec-server", "--remote", url, "--executor-id", id]);
        if let Some(token) = token {
            command.env("CODEX_EXEC_SERVER_REMOTE_BEARER_TOKEN", token);
        }
        let failed = run(&mut command);
        assert_eq!(failed.code, 1, "{}", failed.stderr);
        failed.stderr.lines().find(|line| line.starts_with("Error: ")).expect("an error").to_owned()
    };
    assert_eq!(
        remote(" ", " ", None),
        "Error: executor registry authentication error: executor registry bearer token environment variable \
         `CODEX_EXEC_SERVER_REMOTE_BEARER_TOKEN` is not set"
    );
    assert_eq!(
        remote(" ", " ", Some(" ")),
        "Error: executor registry authentication error: executor registry bearer token environment variable \
         `CODEX_EXEC_SERVER_REMOTE_BEARER_TOKEN` is empty"
    );
    assert_eq!(
        remote(" ", " ", Some("t")),
        "Error: executor registry configuration error: executor id is required for remote exec-server registration"
    );
    assert_eq!(
        remote(" / ", "a", Some("t")),
        "Error: executor registry configuration error: executor registry base URL is required"
    );
}

/// Upstream's words name upstream's variable alone.
#[test]
fn without_a_token_the_hint_names_our_variable() {
    let failed = run(&mut exedra(&["exec-server", "--remote", "http://127.0.0.1:1", "--executor-id", "box"]));
    let hint = failed.stderr.lines().find(|line| line.starts_with("hint: ")).expect("a hint");
    assert!(hint.contains("EXEDRA_TOKEN") && hint.contains("--token-file"), "{hint}");
}

#[test]
fn each_registration_is_a_line_in_upstreams_words() {
    let server = Server::start();
    let token = server.token(&["--role", "executor"]);
    let file = server.dir.path().join("token");
    std::fs::write(&file, format!("{token}\n")).unwrap();
    let mut command = server.executor_command("box");
    let executor = Running::start(command.arg("--token-file").arg(&file).stdout(Stdio::piped()));
    let line = executor.stderr_line("registered with");
    assert!(line.starts_with("codex exec-server remote executor reg-"), "{line}");
    assert!(line.ends_with(" registered with executor_id box"), "{line}");
    let stopped = executor.stop();
    assert_eq!((stopped.code, stopped.out()), (0, ""), "{}", stopped.stderr);
}

#[test]
fn plain_http_to_elsewhere_needs_a_word() {
    let refused =
        run(exedra(&["exec-server", "--remote", "http://192.0.2.1:8900", "--executor-id", "a"])
            .env("EXEDRA_TOKEN", "t"));
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    assert!(refused.stderr.contains("insecure-http"), "{}", refused.stderr);
}

#[test]
fn a_listener_with_a_token_is_reached_with_it_and_not_without() {
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "s3cret-of-the-listener\n").unwrap();
    let token = token.to_str().unwrap();
    let guard = ["exec-server", "--ws-auth", "capability-token", "--ws-token-file", token, "--ws-auth-query"];
    let listener = Running::start(exedra(&guard).env("EXEDRA_LOG", "trace"));
    let url = listener.line();
    let none = run(&mut exedra(&["exec", "--wait", "0s", "--url", &url, "--", "echo", "here"]));
    assert_eq!((none.code, none.out()), (255, ""));
    assert!(none.stderr.contains("401"), "{}", none.stderr);
    let shown = run(&mut exedra(&["exec", "--url", &url, "--token-file", token, "--", "echo", "here"]));
    assert_eq!((shown.code, shown.out()), (0, "here\n"), "{}", shown.stderr);
    let with_query = format!("{url}/?token=s3cret-of-the-listener");
    let in_url = run(&mut exedra(&["exec", "--url", &with_query, "--", "echo", "here"]));
    assert_eq!((in_url.code, in_url.out()), (0, "here\n"), "{}", in_url.stderr);
    let log = listener.stop().stderr;
    assert!(log.contains("connected") && !log.contains("s3cret"), "{log}");
    // Nobody is there any more: the failure names the place, and not the token.
    let gone = run(&mut exedra(&["exec", "--wait", "0s", "--url", &with_query, "--", "true"]));
    assert!(gone.code == 255 && !gone.stderr.contains("s3cret"), "{}", gone.stderr);
    let open = ["exec", "--url", "ws://192.0.2.1:1", "--token-file", token, "--", "true"];
    let refused = run(&mut exedra(&open));
    assert!(refused.code == 2 && refused.stderr.contains("in the clear"), "{}", refused.stderr);
}

#[test]
fn another_address_needs_tokens_and_tls() {
    let open = run(&mut exedra(&["exec-server", "--listen", "ws://0.0.0.0:0"]));
    assert_eq!(open.code, 255);
    assert!(open.stderr.contains("refusing to listen") && open.stderr.contains("--insecure"), "{}", open.stderr);
    let half = run(&mut exedra(&["exec-server", "--ws-auth", "capability-token"]));
    assert!(half.code == 2 && half.stderr.contains("--ws-token-file"), "{}", half.stderr);
    let fixtures = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../link/tests/fixtures");
    let (cert, key) = (fixtures.join("localhost.cert.pem"), fixtures.join("localhost.key.pem"));
    let (cert, key) = (cert.to_str().unwrap(), key.to_str().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "tok").unwrap();
    let token = token.to_str().unwrap();
    let listener = Running::start(&mut exedra(&[
        "exec-server",
        "--ws-auth",
        "capability-token",
        "--ws-token-file",
        token,
        "--tls-cert",
        cert,
        "--tls-key",
        key,
    ]));
    let url = listener.line();
    assert!(url.starts_with("wss://127.0.0.1:"), "{url}");
    let url = url.replace("127.0.0.1", "localhost");
    let mut exec = exedra(&["exec", "--url", &url, "--token-file", token, "--", "echo", "here"]);
    let done = run(exec.env("SSL_CERT_FILE", cert));
    assert_eq!((done.code, done.out()), (0, "here\n"), "{}", done.stderr);
    let stranger = run(&mut exedra(&["exec", "--wait", "0s", "--url", &url, "--token-file", token, "--", "true"]));
    assert_eq!(stranger.code, 255, "a certificate that nobody vouches for");
    assert_eq!(listener.stop().code, 0);
}
