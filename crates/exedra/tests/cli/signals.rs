//! Ctrl-C and its kin: the remote command ends with us, or we end without it.

use std::path::Path;
use std::process::Command;

use crate::plane::{Listener, Server};
use crate::program::{Running, is_alive, line_in, until};

/// A command that says its process id in `file` and then waits; with a child that waits, too.
fn waiting(listener: &Listener, file: &Path) -> Command {
    let script = format!("sleep 1000 & echo $$ > {}; echo started; wait", file.display());
    listener.exec(&["--", "sh", "-c", &script])
}

#[test]
fn a_signal_ends_the_remote_command() {
    let listener = Listener::start();
    let dir = tempfile::tempdir().unwrap();
    for (signal, code) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        let file = dir.path().join(signal);
        let running = Running::start(&mut waiting(&listener, &file));
        assert_eq!(running.line(), "started");
        let remote: i32 = line_in(&file).parse().unwrap();
        assert!(is_alive(remote));
        running.signal(signal);
        let done = running.finish();
        assert_eq!((done.code, done.stderr.as_str()), (code, ""), "{signal}");
        until("the remote command ends", || !is_alive(remote));
    }
}

/// A paused reader of our output must not make us deaf.
#[test]
fn a_signal_is_heard_while_nobody_reads_our_output() {
    let listener = Listener::start();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pid");
    let script = format!("echo $$ > {}; exec yes", file.display());
    let mut child = listener.exec(&["--", "sh", "-c", &script]).spawn().unwrap();
    let remote: i32 = line_in(&file).parse().unwrap();
    // It writes all the time, and so it sleeps only where it has to wait for us.
    let mut asleep = 0;
    until("the remote command waits for us", || {
        let stat = std::fs::read_to_string(format!("/proc/{remote}/stat")).unwrap_or_default();
        asleep = if stat.contains(") S ") { asleep + 1 } else { 0 };
        asleep == 50
    });
    crate::program::kill(i32::try_from(child.id()).unwrap(), "INT");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    until("the remote command ends", || !is_alive(remote));
}

#[test]
fn a_signal_before_there_is_a_connection_ends_us_at_once() {
    // Accepts, and never says a word.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}", silent.local_addr().unwrap());
    let running = Running::start(&mut crate::program::exedra(&["exec", "--url", &url, "--", "true"]));
    let _connection = silent.accept().unwrap();
    running.signal("INT");
    assert_eq!(running.finish().code, 130);
}

#[test]
fn an_executor_that_stops_takes_its_commands_along() {
    let listener = Listener::start();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pid");
    let running = Running::start(&mut waiting(&listener, &file));
    assert_eq!(running.line(), "started");
    let remote: i32 = line_in(&file).parse().unwrap();
    assert_eq!(listener.running.stop().code, 0);
    assert!(!is_alive(remote));
    let done = running.finish();
    assert_eq!(done.code, 255);
    assert!(done.stderr.contains("the connection was lost while the command was running"), "{}", done.stderr);
}

/// What is promised of an executor that is killed: its commands die with it; what they started and let go of does not.
#[test]
fn an_executor_that_is_killed_takes_its_commands_along() {
    let listener = Listener::start();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pid");
    let running = Running::start(&mut waiting(&listener, &file));
    assert_eq!(running.line(), "started");
    let remote: i32 = line_in(&file).parse().unwrap();
    listener.running.signal("KILL");
    until("the command is gone", || !is_alive(remote));
    running.signal("INT");
    running.finish();
    let _ = std::process::Command::new("pkill").args(["-KILL", "-s", &remote.to_string()]).status();
}

#[test]
fn a_second_signal_ends_the_grace_of_an_executor_and_leaves_nothing_behind() {
    let listener = Listener::start();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pids");
    let script =
        format!("trap '' TERM; sleep 1000 & echo $$ $! > {}; echo started; while :; do wait; done", file.display());
    let client = Running::start(&mut listener.exec(&["--", "sh", "-c", &script]));
    assert_eq!(client.line(), "started");
    let pids: Vec<i32> = line_in(&file).split(' ').map(|pid| pid.parse().unwrap()).collect();
    listener.running.signal("TERM");
    listener.running.stderr_line("stopping");
    listener.running.signal("TERM");
    assert_eq!(listener.running.finish().code, 143);
    for pid in pids {
        until("what ignores SIGTERM is killed", || !is_alive(pid));
    }
}

#[test]
fn a_client_does_not_wait_for_an_executor_that_is_stopped() {
    let server = Server::start();
    let executor = server.executor("box");
    let running = Running::start(&mut server.exec(&["box", "--", "sh", "-c", "echo there; sleep 60"]));
    assert_eq!(running.line(), "there");
    executor.stop();
    let done = running.finish();
    assert_eq!(done.code, 255);
    assert!(done.stderr.contains("shutting down"), "{}", done.stderr);
    assert!(!done.stderr.contains("trying"), "{}", done.stderr);
}
