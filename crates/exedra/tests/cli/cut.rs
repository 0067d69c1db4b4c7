//! A command outlives the connection that it was started on: `exedra exec` goes on behind a link that is cut.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::thread;

use crate::plane::Listener;
use crate::program::Running;

/// A link to an executor; its threads end with the process of the tests.
struct Link {
    url: String,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Link {
    fn to(upstream: &str) -> Self {
        let upstream: SocketAddr = upstream.trim_start_matches("ws://").trim_end_matches('/').parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("ws://{}", listener.local_addr().unwrap());
        let open: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let sockets = Arc::clone(&open);
        thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(upstream)) else { continue };
                for (mut from, mut to) in [(&client, &server), (&server, &client)].map(|(from, to)| {
                    from.set_nodelay(true).unwrap();
                    (from.try_clone().unwrap(), to.try_clone().unwrap())
                }) {
                    thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut to);
                        let _ = to.shutdown(std::net::Shutdown::Both);
                    });
                }
                sockets.lock().unwrap().extend([client, server]);
            }
        });
        Self { url, open }
    }

    /// Cuts all connections.
    fn cut(&self) {
        for socket in self.open.lock().unwrap().drain(..) {
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
    }
}

#[test]
fn a_command_and_its_output_go_on_behind_a_link_that_is_cut() {
    let listener = Listener::start();
    let link = Link::to(&listener.url);
    let script = "while read line; do echo \"got $line\"; done; echo \"$line end\" >&2; exit 7";
    let mut command = crate::program::exedra(&["exec", "--url", &link.url, "-i", "--", "sh", "-c", script]);
    let mut running = Running::start(command.stdin(Stdio::piped()));
    let mut stdin = running.stdin();
    for n in 0..8 {
        writeln!(stdin, "{n}").unwrap();
        assert_eq!(running.line(), format!("got {n}"));
        link.cut();
    }
    drop(stdin);
    let finished = running.finish();
    let expected: String = (0..8).map(|n| format!("got {n}\n")).collect();
    assert_eq!((finished.code, finished.out(), finished.stderr.as_str()), (7, expected.as_str(), " end\n"));
}

#[test]
fn an_executor_that_does_not_come_back_is_given_up() {
    let listener = Listener::start();
    let link = Link::to(&listener.url);
    let args = ["exec", "--url", &link.url, "--reconnect", "300ms", "--", "sh", "-c", "echo ready; sleep 1000"];
    let running = Running::start(&mut crate::program::exedra(&args));
    assert_eq!(running.line(), "ready");
    drop(listener);
    let finished = running.finish();
    assert_eq!(finished.code, 255);
    let told = "the connection was lost while the command was running; it may still be running there";
    assert!(finished.stderr.contains(told), "{}", finished.stderr);
    assert!(finished.stderr.contains("could not be resumed"), "{}", finished.stderr);
}
