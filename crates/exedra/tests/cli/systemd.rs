//! `serve` under a manager of services: the socket that is held for it, and what it tells.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::program::{LIMIT, Running, exedra, run};

/// Starts `serve` as systemd does with `ListenStream=`: the socket is descriptor 3, and the variables say so.
fn serve_on(listener: &TcpListener, data_dir: &Path) -> Command {
    let serve = exedra(&["serve", "--data-dir", data_dir.to_str().unwrap()]);
    let mut command = Command::new("sh");
    command.args(["-c", "exec 3<&0 </dev/null; export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$0\" \"$@\""]);
    command.arg(serve.get_program()).args(serve.get_args()).env("HOME", "/nowhere");
    let socket: OwnedFd = listener.try_clone().unwrap().into();
    command.stdin(Stdio::from(socket)).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn ready(stream: &mut TcpStream) -> String {
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_socket_that_is_held_outside_refuses_nobody_while_the_server_is_away() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    let serve = Running::start(&mut serve_on(&listener, &data_dir));
    assert_eq!(serve.line(), format!("http://{address}"), "the port of --listen is not used");
    serve.signal("KILL");
    serve.finish();
    let mut waiting = TcpStream::connect(address).expect("nobody is refused");
    waiting.write_all(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let serve = Running::start(&mut serve_on(&listener, &data_dir));
    let answer = ready(&mut waiting);
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(serve.stop().code, 0);
    TcpStream::connect(address).expect("and nobody after a stop in good order");
}

#[test]
fn sockets_that_are_none_of_ours_are_refused_with_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let mut command = serve_on(&listener, &data_dir);
    let failed = run(command.stdin(Stdio::from(OwnedFd::from(stream))));
    assert_eq!(failed.code, 2, "{}", failed.stderr);
    assert!(failed.stderr.contains("hint: ") && failed.stderr.contains("ListenStream="), "{}", failed.stderr);
}

#[test]
fn the_manager_is_told_when_it_serves_that_it_lives_and_when_it_stops() {
    let dir = tempfile::tempdir().unwrap();
    let (data_dir, socket) = (dir.path().join("data"), dir.path().join("notify"));
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(LIMIT)).unwrap();
    let told = || {
        let mut text = [0; 512];
        let length = manager.recv(&mut text).unwrap();
        String::from_utf8(text[..length].to_vec()).unwrap()
    };
    let mut command = exedra(&["serve", "--listen", "127.0.0.1:0", "--data-dir", data_dir.to_str().unwrap()]);
    let serve = Running::start(command.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "20000"));
    let first = told();
    assert!(first.starts_with("MAINPID=") && first.ends_with("READY=1\n"), "{first}");
    for _ in 0..3 {
        assert_eq!(told(), "WATCHDOG=1\n");
    }
    let stopped = serve.stop();
    let mut last = told();
    while last == "WATCHDOG=1\n" {
        last = told();
    }
    assert_eq!((last.as_str(), stopped.code), ("STOPPING=1\n", 0), "{}", stopped.stderr);
}
