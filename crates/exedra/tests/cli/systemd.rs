//! `serve` under a manager of services: the socket that is held for it, and what it tells.

use std::io::{IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use rustix::cmsg_space;
use rustix::net::sockopt::set_socket_passcred;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

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

/// A service manager, as far as it listens: it reads at once whatever it is told.
pub struct Manager {
    heard: Receiver<(String, i32)>,
    pub path: PathBuf,
}

impl Manager {
    pub fn new(dir: &Path) -> Self {
        let path = dir.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        set_socket_passcred(&socket, true).unwrap();
        let (tell, heard) = channel();
        thread::spawn(move || while tell.send(hear(&socket)).is_ok() {});
        Self { heard, path }
    }

    /// What it is told next, and by which process.
    pub fn told(&self) -> (String, i32) {
        self.heard.recv_timeout(LIMIT).expect("something is told")
    }
}

fn hear(socket: &UnixDatagram) -> (String, i32) {
    let (mut text, mut space) = ([0; 512], [MaybeUninit::uninit(); cmsg_space!(ScmCredentials(1))]);
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let slices = &mut [IoSliceMut::new(&mut text)];
    let length = recvmsg(socket, slices, &mut ancillary, RecvFlags::empty()).unwrap().bytes;
    let sender = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmCredentials(sender) => Some(sender.pid.as_raw_nonzero().get()),
        _ => None,
    });
    (String::from_utf8(text[..length].to_vec()).unwrap(), sender.unwrap())
}

#[test]
fn the_manager_is_told_when_it_serves_that_it_lives_and_when_it_stops() {
    let dir = tempfile::tempdir().unwrap();
    let (data_dir, manager) = (dir.path().join("data"), Manager::new(dir.path()));
    let told = || manager.told().0;
    let mut command = exedra(&["serve", "--listen", "127.0.0.1:0", "--data-dir", data_dir.to_str().unwrap()]);
    let serve = Running::start(command.env("NOTIFY_SOCKET", &manager.path).env("WATCHDOG_USEC", "20000"));
    let first = told();
    assert_eq!(first, format!("MAINPID={}\nREADY=1\n", serve.pid()));
    let mut asked = TcpStream::connect(serve.line().trim_start_matches("http://")).unwrap();
    asked.write_all(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    assert!(ready(&mut asked).starts_with("HTTP/1.1 200 "), "it says so when it serves, and not before");
    for _ in 0..3 {
        assert_eq!(told(), "WATCHDOG=1\n");
    }
    let stopped = serve.stop();
    let mut last = told();
    while last == "WATCHDOG=1\n" {
        last = told();
    }
    assert_eq!((last.as_str(), stopped.code), ("STOPPING=1\n", 0), "{}", stopped.stderr);

    // Who does not come up says nothing, and the variables of another process are none of ours.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let mut command = exedra(&["serve", "--listen", &listen, "--data-dir", data_dir.to_str().unwrap()]);
    assert_eq!(run(command.env("NOTIFY_SOCKET", &manager.path)).code, 255);
    let mut command = exedra(&["serve", "--listen", "127.0.0.1:0", "--data-dir", data_dir.to_str().unwrap()]);
    let watched = [("WATCHDOG_USEC", "20000"), ("WATCHDOG_PID", "1")];
    let serve = Running::start(command.env("NOTIFY_SOCKET", &manager.path).envs(watched));
    assert_eq!(told(), format!("MAINPID={}\nREADY=1\n", serve.pid()));
    assert_eq!(serve.stop().code, 0);
    assert_eq!(told(), "STOPPING=1\n");
}
