//! `exec`: streams, exit codes, stdin, directories, variables, terminals; and what it says when it cannot.

use std::fmt::Write as _;
use std::process::Stdio;

use crate::plane::{Listener, Server};
use crate::program::{Running, exedra, run, run_with_input};

/// Bytes that no text holds, by a fixed rule.
fn binary(len: usize) -> Vec<u8> {
    (0..len as u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

#[test]
fn streams_stay_apart_and_the_exit_code_comes_through() {
    let listener = Listener::start();
    let done = run(&mut listener.exec(&["--", "sh", "-c", "echo out; echo err >&2; exit 7"]));
    assert_eq!((done.code, done.out(), done.stderr.as_str()), (7, "out\n", "err\n"));
    let killed = run(&mut listener.exec(&["--", "sh", "-c", "kill -TERM $$"]));
    assert_eq!(killed.code, 143);
    let silent = run(&mut listener.exec(&["--", "true"]));
    assert_eq!((silent.code, silent.out(), silent.stderr.as_str()), (0, "", ""));
}

#[test]
fn bytes_pass_unchanged_both_ways_and_stdin_ends() {
    let listener = Listener::start();
    let bytes = binary(3_000_000);
    let echoed = run_with_input(&mut listener.exec(&["-i", "--", "cat"]), &bytes);
    assert_eq!(echoed.code, 0, "{}", echoed.stderr);
    assert!(echoed.stdout == bytes, "{} bytes came back of {}", echoed.stdout.len(), bytes.len());
    assert_eq!(echoed.stderr, "");
}

#[test]
fn an_archive_goes_over() {
    let listener = Listener::start();
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::create_dir(from.path().join("d")).unwrap();
    std::fs::write(from.path().join("d/f"), binary(300_000)).unwrap();
    let packed = run(std::process::Command::new("tar")
        .args(["c", "-C"])
        .arg(from.path())
        .arg(".")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped()));
    let mut command = listener.exec(&["-i", "--cwd", to.path().to_str().unwrap(), "--", "tar", "x"]);
    let unpacked = run_with_input(&mut command, &packed.stdout);
    assert_eq!(unpacked.code, 0, "{}", unpacked.stderr);
    assert!(std::fs::read(to.path().join("d/f")).unwrap() == binary(300_000));
}

#[test]
fn without_i_stdin_is_empty() {
    let listener = Listener::start();
    let done = run_with_input(&mut listener.exec(&["--", "wc", "-c"]), b"not for you");
    assert_eq!((done.code, done.out().trim()), (0, "0"), "{}", done.stderr);
}

#[test]
fn a_command_that_reads_no_more_does_not_hold_up_its_end() {
    let listener = Listener::start();
    let done = run_with_input(&mut listener.exec(&["-i", "--", "head", "-c", "5"]), &binary(2_000_000));
    assert_eq!((done.code, done.stdout.len()), (0, 5), "{}", done.stderr);
}

#[test]
fn directory_and_variables() {
    let listener = Listener::start();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().canonicalize().unwrap();
    let args = [
        "--cwd",
        path.to_str().unwrap(),
        "--env",
        "A=b c",
        "--env",
        "E=",
        "--",
        "sh",
        "-c",
        "pwd; echo \"$A:$E:${PATH:+path}\"",
    ];
    let done = run(&mut listener.exec(&args));
    assert_eq!(done.out(), format!("{}\nb c::path\n", path.display()), "{}", done.stderr);
}

#[test]
fn a_terminal_is_one_stream() {
    let listener = Listener::start();
    let done = run(listener
        .exec(&["-t", "--", "sh", "-c", "test -t 0 && test -t 1 && echo $TERM; echo err >&2; exit 4"])
        .env("TERM", "vt100"));
    assert_eq!((done.code, done.out(), done.stderr.as_str()), (4, "vt100\r\nerr\r\n", ""));
    let typed = run_with_input(&mut listener.exec(&["-t", "-i", "--", "sh", "-c", "read x; echo got:$x"]), b"hello\n");
    assert!(typed.out().contains("got:hello"), "{}", typed.out());
}

#[test]
fn what_cannot_be_started_is_255_with_a_reason() {
    let listener = Listener::start();
    let missing = run(&mut listener.exec(&["--", "no-such-program"]));
    assert_eq!(missing.code, 255);
    assert!(missing.stderr.starts_with("Error: cannot start `no-such-program`\n"), "{}", missing.stderr);
    assert!(missing.stderr.contains("No such file or directory") && missing.stderr.contains("\nhint: "));
    let nowhere = run(&mut listener.exec(&["--cwd", "/nowhere", "--", "true"]));
    assert_eq!(nowhere.code, 255);
}

#[test]
fn much_output_is_all_there() {
    let listener = Listener::start();
    let done = run(&mut listener.exec(&["--", "seq", "1", "500000"]));
    let expected = (1..=500_000).fold(String::new(), |mut text, n| {
        let _ = writeln!(text, "{n}");
        text
    });
    assert!(done.out() == expected, "{} bytes of {}", done.stdout.len(), expected.len());
}

/// `exec … | head`: the remote command ends with its reader, and nobody complains.
#[test]
fn a_reader_that_leaves_ends_the_command_quietly() {
    let listener = Listener::start();
    let dir = tempfile::tempdir().unwrap();
    let pid_file = dir.path().join("pid");
    let script = format!("echo $$ > {}; exec yes", pid_file.display());
    let mut child = listener.exec(&["--", "sh", "-c", &script]).spawn().unwrap();
    let pid: i32 = crate::program::line_in(&pid_file).parse().unwrap();
    drop(child.stdout.take());
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(0));
    let mut stderr = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut stderr).unwrap();
    assert_eq!(stderr, "");
    crate::program::until("the remote command ends", || !crate::program::is_alive(pid));
}

#[test]
fn through_the_server_one_after_another() {
    let server = Server::start();
    let _executor = server.executor("box");
    for n in 0..5 {
        let done = run(&mut server.exec(&["box", "--", "sh", "-c", &format!("echo {n}; echo e >&2; exit {n}")]));
        assert_eq!((done.code, done.out(), done.stderr.as_str()), (n, format!("{n}\n").as_str(), "e\n"));
    }
    let bytes = binary(1_000_000);
    let echoed = run_with_input(&mut server.exec(&["-i", "box", "--", "cat"]), &bytes);
    assert!(echoed.stdout == bytes && echoed.code == 0, "{}", echoed.stderr);
}

#[test]
fn an_unknown_executor_is_told_with_near_names() {
    let server = Server::start();
    let _executor = server.executor("build-box");
    let unknown = run(&mut server.exec(&["biuld-box", "--", "true"]));
    assert_eq!(unknown.code, 255);
    assert!(unknown.stderr.contains("`biuld-box`") && unknown.stderr.contains("build-box"), "{}", unknown.stderr);
}

#[test]
fn an_executor_that_is_away_is_told_or_waited_for() {
    let server = Server::start();
    server.executor("box").stop();
    let away = run(&mut server.exec(&["--wait", "0", "box", "--", "true"]));
    assert_eq!(away.code, 255);
    assert!(away.stderr.contains("offline") && away.stderr.contains("hint: "), "{}", away.stderr);
    let patient = Running::start(&mut server.exec(&["--wait", "60s", "box", "--", "echo", "back"]));
    patient.stderr_line("trying for");
    let _executor = server.executor("box");
    let done = patient.finish();
    assert_eq!((done.code, done.out()), (0, "back\n"), "{}", done.stderr);
}

#[test]
fn an_executor_that_serves_one_at_a_time_and_is_held_is_told_or_waited_for() {
    let server = Server::start();
    let token = server.token(&["--role", "executor"]);
    let executor =
        Running::start(server.executor_command("box").args(["--transport", "direct"]).env("EXEDRA_TOKEN", token));
    executor.stderr_line("registered with executor_id");
    let mut holder =
        Running::start(server.exec(&["-i", "box", "--", "sh", "-c", "echo held; cat"]).stdin(Stdio::piped()));
    assert_eq!(holder.line(), "held");
    let busy = run(&mut server.exec(&["--wait", "0", "box", "--", "true"]));
    assert_eq!(busy.code, 255);
    assert!(busy.stderr.contains("held by another client"), "{}", busy.stderr);
    let patient = Running::start(&mut server.exec(&["--wait", "60s", "box", "--", "echo", "mine"]));
    patient.stderr_line("trying for");
    drop(holder.stdin());
    assert_eq!(holder.finish().code, 0);
    let done = patient.finish();
    assert_eq!((done.code, done.out()), (0, "mine\n"), "{}", done.stderr);
}

#[test]
fn many_clients_work_on_one_executor_at_once() {
    let server = Server::start();
    let _executor = server.executor("box");
    let holders: Vec<_> = (0..3)
        .map(|_| Running::start(server.exec(&["-i", "box", "--", "sh", "-c", "echo there; cat"]).stdin(Stdio::piped())))
        .collect();
    for holder in &holders {
        assert_eq!(holder.line(), "there");
    }
    let more = run(&mut server.exec(&["--wait", "0", "box", "--", "echo", "too"]));
    assert_eq!((more.code, more.out()), (0, "too\n"), "{}", more.stderr);
    for mut holder in holders {
        drop(holder.stdin());
        assert_eq!(holder.finish().code, 0);
    }
}

/// Passes connections on to `to`; but the first is cut at once, and the second when the websocket is open.
fn moody_proxy(to: &str) -> std::net::SocketAddr {
    let (to, proxy) = (to.to_owned(), std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let address = proxy.local_addr().unwrap();
    std::thread::spawn(move || {
        for (n, client) in proxy.incoming().enumerate() {
            let (mut client, mut server) = (client.unwrap(), std::net::TcpStream::connect(&to).unwrap());
            if n == 0 {
                continue;
            }
            let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut from_client, &mut to_server));
            if n == 1 {
                let answered = std::io::Read::read(&mut server, &mut [0; 4096]).unwrap();
                assert!(answered > 0);
                let _ = client.shutdown(std::net::Shutdown::Both);
                continue;
            }
            std::thread::spawn(move || std::io::copy(&mut server, &mut client));
        }
    });
    address
}

#[test]
fn a_connection_that_is_lost_before_anything_was_done_is_tried_again() {
    let listener = Listener::start();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("runs");
    let proxy = moody_proxy(listener.url.trim_start_matches("ws://"));
    let script = format!("echo run >> {}; echo done", file.display());
    let done =
        run(&mut exedra(&["exec", "--url", &format!("ws://{proxy}"), "--wait", "60s", "--", "sh", "-c", &script]));
    assert_eq!((done.code, done.out()), (0, "done\n"), "{}", done.stderr);
    assert_eq!(std::fs::read_to_string(file).unwrap(), "run\n", "and runs once");
}

#[test]
fn a_token_that_is_not_good_is_told() {
    let server = Server::start();
    let _executor = server.executor("box");
    let foreign = server.token(&["--role", "executor"]);
    let elsewhere = server.token(&["--role", "client", "--executor", "other-*"]);
    for token in ["nonsense", "exedra_c_0000000000000000000000000000000000000000000000000", &foreign, &elsewhere] {
        let refused = run(server.exec(&["box", "--", "true"]).env("EXEDRA_TOKEN", token));
        assert_eq!(refused.code, 255);
        assert!(refused.stderr.contains("the registry refused the token"), "{}", refused.stderr);
        assert!(!refused.stderr.contains(token), "{}", refused.stderr);
    }
}

#[test]
fn a_server_that_is_not_there_is_told() {
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{server}");
    let failed = run(exedra(&["exec", "--server", &url, "--wait", "0", "box", "--", "true"]).env("EXEDRA_TOKEN", "t"));
    assert_eq!(failed.code, 255);
    assert!(failed.stderr.contains("cannot reach") && failed.stderr.contains("hint: "), "{}", failed.stderr);
}

#[test]
fn a_limit_that_was_passed_is_named() {
    let listener = Listener::start();
    let ended = run(&mut listener.exec(&["--limit-output", "5", "--", "sh", "-c", "printf 0123456789; sleep 60"]));
    assert_eq!((ended.code, ended.out()), (137, "01234"));
    assert!(ended.stderr.contains("it went beyond its limit of output"), "{}", ended.stderr);
    let wrong = run(&mut listener.exec(&["--limit-memory", "much", "--", "true"]));
    assert_eq!(wrong.code, 2);
}
