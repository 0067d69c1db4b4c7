//! A client that asks for much and reads nothing: answers are not made before there is room for them, so the executor's
//! memory stays bounded.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::program::{LIMIT, exedra};

#[test]
fn output_is_not_made_an_answer_for_who_does_not_read() {
    let mut client = Client::connect();
    let argv = ["head", "-c", "1048000", "/dev/zero"];
    let start = json!({"processId": "p", "argv": argv, "cwd": "/", "env": {}, "tty": false});
    client.ask("process/start", &start, 1);
    while !client.line().contains("process/closed") {}
    // All answers together take more than 1 GB.
    client.ask("process/read", &json!({"processId": "p"}), 800);
    client.is_bounded_by(400);
    assert!(client.line().len() > 1_300_000, "they are made for who reads");
}

#[test]
fn directories_are_not_listed_for_who_does_not_read() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..1_500 {
        std::fs::write(dir.path().join(format!("{n:0250}")), "").unwrap();
    }
    let mut client = Client::connect();
    client.ask("fs/readDirectory", &json!({"path": dir.path()}), 300);
    client.is_bounded_by(180);
    assert!(client.line().len() > 400_000, "they are listed for who reads");
}

/// An executor on a pipe that is read when the test says so.
struct Client {
    executor: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Client {
    fn connect() -> Self {
        let mut executor = exedra(&["exec-server", "--listen", "stdio"]).stdin(Stdio::piped()).spawn().unwrap();
        let (stdin, stdout) = (executor.stdin.take().unwrap(), BufReader::new(executor.stdout.take().unwrap()));
        let mut client = Self { executor, stdin, stdout };
        client.ask("initialize", &json!({"clientName": "t"}), 1);
        assert!(client.line().contains("sessionId"));
        client.stdin.write_all(b"{\"method\":\"initialized\"}\n").unwrap();
        client
    }

    fn ask(&mut self, method: &str, params: &Value, times: usize) {
        let request = json!({"id": 1, "method": method, "params": params});
        self.stdin.write_all(format!("{request}\n").repeat(times).as_bytes()).unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        assert_ne!(self.stdout.read_line(&mut line).unwrap(), 0, "the executor has ended");
        line
    }

    /// Waits until the executor takes no processor time, and looks at the most memory that it ever had.
    fn is_bounded_by(&self, mebibytes: u64) {
        let times = || {
            let stat = self.proc("stat");
            stat.rsplit(')').next().unwrap().split(' ').skip(12).take(2).map(Into::into).collect::<Vec<String>>()
        };
        let (give_up, mut last, mut same) = (Instant::now() + LIMIT, times(), 0);
        while same < 3 {
            assert!(Instant::now() < give_up, "it does not come to rest");
            std::thread::sleep(Duration::from_millis(100));
            let now = times();
            same = if last == now { same + 1 } else { 0 };
            last = now;
        }
        let status = self.proc("status");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
        assert!(peak < mebibytes * 1024, "{peak} KiB");
    }

    fn proc(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.executor.id())).unwrap()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.executor.kill();
        let _ = self.executor.wait();
    }
}
