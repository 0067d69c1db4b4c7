//! `serve` hands over to a new process of itself on SIGUSR2: nobody is refused, nothing stops, and a new process that does
//! not come up changes nothing.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use serde_json::Value;

use crate::plane::Server;
use crate::program::{LIMIT, Running, exedra, is_alive, kill, run, until};
use crate::systemd::Manager;

/// A server whose process may change; the last one is ended with it.
struct Generations {
    server: Server,
    lock: PathBuf,
}

impl Generations {
    fn start() -> Self {
        let server = Server::start();
        let lock = server.data_dir().join("lock");
        Self { server, lock }
    }

    /// A `cat` on the executor `box` that has answered, run with these flags, and its stdin.
    fn cat(&self, flags: &[&str]) -> (Running, ChildStdin) {
        let args = [flags, &["-i", "box", "--", "cat"]].concat();
        let mut cat = Running::start(self.server.exec(&args).stdin(Stdio::piped()));
        let mut stdin = cat.stdin();
        stdin.write_all(b"one\n").unwrap();
        assert_eq!(cat.line(), "one");
        (cat, stdin)
    }

    /// Revokes the token of the server's clients.
    fn revoke_client(&self) {
        let data_dir = self.server.data_dir();
        let data_dir = data_dir.to_str().unwrap();
        let list = run(&mut exedra(&["token", "list", "--json", "--data-dir", data_dir]));
        let list: Value = serde_json::from_str(list.out()).unwrap();
        let client = list.as_array().unwrap().iter().find(|token| token["role"] == "client").unwrap();
        let revoke = ["token", "revoke", client["id"].as_str().unwrap(), "--data-dir", data_dir];
        assert_eq!(run(&mut exedra(&revoke)).code, 0);
    }

    /// The process that holds the data directory.
    fn pid(&self) -> Option<i32> {
        let holder: Value = serde_json::from_str(&std::fs::read_to_string(&self.lock).ok()?).ok()?;
        i32::try_from(holder["pid"].as_i64()?).ok()
    }

    /// Hands over, and returns when the new process accepts. Says which process was before.
    fn hand_over(&self) -> i32 {
        let before = self.pid().expect("a holder");
        kill(before, "USR2");
        until("a new holder", || self.pid().is_some_and(|pid| pid != before));
        until("the old one lets go", || !listens(before));
        before
    }
}

impl Drop for Generations {
    fn drop(&mut self) {
        if let Some(pid) = self.pid() {
            kill(pid, "TERM");
            until("the end", || !is_alive(pid));
        }
    }
}

/// Whether the process has a listening socket.
fn listens(pid: i32) -> bool {
    let Ok(tcp) = std::fs::read_to_string(format!("/proc/{pid}/net/tcp")) else { return false };
    // The fourth field is the state, 0A for LISTEN; the tenth is the inode.
    let listening = tcp.lines().filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        (fields.get(3) == Some(&"0A")).then(|| format!("socket:[{}]", fields[9]))
    });
    let listening: Vec<_> = listening.collect();
    let Ok(open) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    let mut open = open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    open.any(|target| listening.iter().any(|socket| Path::new(socket) == target))
}

/// Asks whether the server is alive, over a connection of its own.
fn ask(address: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("nobody is refused");
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn nobody_is_refused_and_idle_executors_follow() {
    let it = Generations::start();
    let _executor = it.server.executor("box");
    let address = it.server.url.trim_start_matches("http://").to_owned();
    let (done, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let asking = {
        let (done, asked, address) = (Arc::clone(&done), Arc::clone(&asked), address);
        thread::spawn(move || {
            while !done.load(Ordering::Relaxed) {
                let answer = ask(&address);
                assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
                asked.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    let mut before = Vec::new();
    for _ in 0..3 {
        before.push(it.hand_over());
        let ran = run(&mut it.server.exec(&["--wait", "60s", "box", "--", "echo", "here"]));
        assert_eq!((ran.code, ran.out()), (0, "here\n"), "{}", ran.stderr);
    }
    done.store(true, Ordering::Relaxed);
    asking.join().unwrap();
    assert!(asked.load(Ordering::Relaxed) > 3);
    for pid in before {
        until("the end of those before", || !is_alive(pid));
    }
    assert_eq!(run(&mut it.server.exec(&["box", "--", "true"])).code, 0);
}

#[test]
fn a_command_in_use_is_not_interrupted_and_of_the_old_processes_its_own_alone_stays() {
    let it = Generations::start();
    let _executor = it.server.executor("box");
    let (cat, mut stdin) = it.cat(&[]);
    let first = it.hand_over();
    for _ in 0..4 {
        let before = it.hand_over();
        until("the end of one with nobody", || !is_alive(before));
    }
    // Two more at once: the second is to let go of the first before that one has.
    let (sixth, seventh) = (it.hand_over(), it.hand_over());
    until("the end of both", || !is_alive(sixth) && !is_alive(seventh));
    stdin.write_all(b"two\n").unwrap();
    assert_eq!(cat.line(), "two");
    assert!(is_alive(first), "it stays for it");
    drop(stdin);
    let ended = cat.finish();
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "and nothing was said");
    until("the old one has ended", || !is_alive(first));
    assert_eq!(run(&mut it.server.exec(&["--wait", "60s", "box", "--", "true"])).code, 0);
}

#[test]
fn each_of_several_with_somebody_stays_and_hears_of_what_is_revoked() {
    let it = Generations::start();
    let (_box, _other) = (it.server.executor("box"), it.server.executor("other"));
    let (cat, stdin) = it.cat(&["--reconnect", "0s"]);
    let first = it.hand_over();
    assert_eq!(run(&mut it.server.exec(&["--wait", "60s", "other", "--", "true"])).code, 0);
    let mut held = Running::start(it.server.exec(&["-i", "other", "--", "cat"]).stdin(Stdio::piped()));
    let mut held_stdin = held.stdin();
    held_stdin.write_all(b"here\n").unwrap();
    assert_eq!(held.line(), "here");
    let second = it.hand_over();
    let third = it.hand_over();
    until("the end of one with nobody", || !is_alive(third));
    assert!(is_alive(first) && is_alive(second), "they stay");
    drop(held_stdin);
    assert_eq!(held.wait(), 0);
    until("the end of the one between", || !is_alive(second));
    assert!(is_alive(first));
    it.revoke_client();
    let ended = cat.finish();
    assert!(ended.code == 255, "{}", ended.stderr);
    drop(stdin);
    until("the end of the first", || !is_alive(first));
}

#[test]
fn an_executor_in_use_is_given_up_when_somebody_else_asks_for_it_and_nothing_is_lost() {
    let it = Generations::start();
    let _executor = it.server.executor("box");
    let (cat, mut stdin) = it.cat(&[]);
    let first = it.hand_over();
    let other = run(&mut it.server.exec(&["--wait", "60s", "box", "--", "echo", "other"]));
    assert_eq!((other.code, other.out()), (0, "other\n"), "{}", other.stderr);
    until("the old one has nobody left", || !is_alive(first));
    stdin.write_all(b"two\n").unwrap();
    assert_eq!(cat.line(), "two");
    drop(stdin);
    let ended = cat.finish();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
}

#[test]
fn what_is_revoked_afterwards_is_cut_in_the_old_process_too() {
    let it = Generations::start();
    let _executor = it.server.executor("box");
    let (cat, stdin) = it.cat(&["--reconnect", "0s"]);
    let first = it.hand_over();
    assert!(is_alive(first));
    it.revoke_client();
    let ended = cat.finish();
    assert_eq!(ended.code, 255, "{}", ended.stderr);
    drop(stdin);
}

#[test]
fn a_key_that_is_revoked_afterwards_is_cut_in_the_old_process_too() {
    let it = Generations::start();
    let _executor = it.server.executor("box");
    let (cat, stdin) = it.cat(&["--reconnect", "0s"]);
    let first = it.hand_over();
    assert!(is_alive(first));
    let admin = it.server.token(&["--role", "admin"]);
    let keys = |args: &[&str]| {
        let mut keys = exedra(&["keys"]);
        run(keys.args(args).args(["--json", "--server", &it.server.url]).env("EXEDRA_TOKEN", &admin))
    };
    let list: Value = serde_json::from_str(keys(&["list"]).out()).unwrap();
    let revoked = keys(&["revoke", list[0]["id"].as_str().unwrap()]);
    assert_eq!(revoked.code, 0, "{}", revoked.stderr);
    let ended = cat.finish();
    assert!(ended.code == 255 && ended.stderr.contains("the key of the ticket was revoked"), "{}", ended.stderr);
    drop(stdin);
    until("the old one has nobody left", || !is_alive(first));
    let back = run(&mut it.server.exec(&["--wait", "60s", "box", "--", "echo", "back"]));
    assert_eq!((back.code, back.out()), (0, "back\n"), "{}", back.stderr);
}

#[test]
fn the_new_process_alone_says_that_it_lives_though_the_old_one_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Manager::new(dir.path());
    // As systemd starts it: the watchdog is for this process.
    let program = dir.path().join("started");
    let text = format!("#!/bin/sh\nWATCHDOG_PID=$$ exec {} \"$@\"\n", env!("CARGO_BIN_EXE_exedra"));
    std::fs::write(&program, text).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let socket: &'static str = manager.path.to_str().unwrap().to_owned().leak();
    let server = Server::start_program(&program, &[("NOTIFY_SOCKET", socket), ("WATCHDOG_USEC", "20000")]);
    let lock = server.data_dir().join("lock");
    let it = Generations { server, lock };
    let first = it.pid().unwrap();
    assert_eq!(manager.told(), (format!("MAINPID={first}\nREADY=1\n"), first));
    assert_eq!(manager.told(), ("WATCHDOG=1\n".to_owned(), first));
    let _executor = it.server.executor("box");
    let (mut cat, mut stdin) = it.cat(&[]);
    it.hand_over();
    let next = it.pid().unwrap();
    // Signs of life of the old one end; were they to go on, a new one that hangs would be taken for alive.
    let (mut in_a_row, mut heard) = (0, 0);
    while in_a_row < 20 {
        let (text, sender) = manager.told();
        heard += 1;
        assert!(heard < 200, "both say that they live");
        assert!(text != "STOPPING=1\n", "the service goes on");
        in_a_row = if (text.as_str(), sender) == ("WATCHDOG=1\n", next) { in_a_row + 1 } else { 0 };
    }
    assert!(is_alive(first), "it stays for whoever is there");
    stdin.write_all(b"two\n").unwrap();
    assert_eq!(cat.line(), "two");
    drop(stdin);
    assert_eq!(cat.wait(), 0);
}

#[test]
fn a_new_process_that_does_not_come_up_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("exedra");
    std::fs::copy(env!("CARGO_BIN_EXE_exedra"), &program).unwrap();
    let server = Server::start_program(&program, &[]);
    let it = Generations { lock: server.data_dir().join("lock"), server };
    let _executor = it.server.executor("box");
    let next = dir.path().join("next");
    std::fs::write(&next, "#!/bin/sh\necho 'not today' >&2\nexit 3\n").unwrap();
    std::fs::set_permissions(&next, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::rename(&next, &program).unwrap();
    let before = it.pid();
    kill(before.unwrap(), "USR2");
    it.server.serving().stderr_line("not handed over; this server goes on");
    assert_eq!(it.pid(), before);
    assert_eq!(run(&mut it.server.exec(&["box", "--", "true"])).code, 0);
}
