//! Nothing is left of many processes, connections and resumed sessions: descriptors, threads, children and memory are
//! those of the start again, and no control group stays.
//!
//! In a program of its own, since it counts what is open in the process. Over real sockets, with processes of every kind.
#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a test, and what it calls")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use exedra_executor::listen::{ListenOptions, ListenUrl, Listener};
use exedra_executor::{Executor, ExecutorConfig};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

/// Connections, of which every fourth resumes a session, at full length and every day.
const CONNECTIONS: [usize; 2] = [2000, 80];
/// Processes of each.
const STARTS: usize = 5;
/// Connections at a time.
const AT_ONCE: usize = 8;
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Figures {
    descriptors: usize,
    threads: usize,
    children: usize,
    resident_kib: u64,
}

impl Figures {
    fn now() -> Self {
        let count = |dir: &str| std::fs::read_dir(dir).unwrap().count();
        let children = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("children")).ok();
        let children: Vec<String> =
            std::fs::read_dir("/proc/self/task").unwrap().filter_map(|task| children(task.ok()?)).collect();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        Self {
            descriptors: count("/proc/self/fd"),
            threads: count("/proc/self/task"),
            children: children.iter().map(|line| line.split_whitespace().count()).sum(),
            resident_kib: resident.trim().trim_end_matches(" kB").parse().unwrap(),
        }
    }

    /// As calm as it gets: waits until nothing is going on any more, or until they are those of `start`.
    async fn calm(start: Option<Self>) -> Self {
        let began = Instant::now();
        loop {
            let now = Self::now();
            let back = start.is_none_or(|start| {
                now.descriptors <= start.descriptors && now.threads <= start.threads && now.children == 0
            });
            // Sessions end, and threads for blocking calls go, after an idle second.
            let settled = began.elapsed() > Duration::from_secs(3);
            if (settled && back) || began.elapsed() > PATIENCE {
                return now;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

struct Client {
    socket: WebSocketStream<TcpStream>,
    session: String,
    last_id: i64,
}

impl Client {
    async fn connect(address: &str, resume: Option<&str>) -> Self {
        loop {
            let stream = TcpStream::connect(address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let (socket, _) = tokio_tungstenite::client_async(format!("ws://{address}/"), stream).await.unwrap();
            let mut client = Self { socket, session: String::new(), last_id: 0 };
            let answer = client
                .call(
                    "initialize",
                    json!({"clientName": "x", "resumeSessionId": resume, "extensions": {"exedra/1": {"limits": true}}}),
                )
                .await;
            // The other end may not know yet that the first connection is gone.
            if answer["error"]["code"] == -32010 {
                continue;
            }
            client.session = answer["result"]["sessionId"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
            client.send(json!({"method": "initialized"})).await;
            return client;
        }
    }

    async fn send(&mut self, message: Value) {
        self.socket.send(Message::text(message.to_string())).await.unwrap();
    }

    async fn call(&mut self, method: &str, params: Value) -> Value {
        self.last_id += 1;
        let id = self.last_id;
        self.send(json!({"id": id, "method": method, "params": params})).await;
        self.until(|message| message["id"] == id).await
    }

    async fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        let work = async {
            loop {
                if let Message::Text(text) = self.socket.next().await.unwrap().unwrap() {
                    let message: Value = serde_json::from_str(&text).unwrap();
                    if wanted(&message) {
                        return message;
                    }
                }
            }
        };
        tokio::time::timeout(PATIENCE, work).await.unwrap()
    }

    /// Starts the `kind`th kind of process and sees it to its end.
    async fn run(&mut self, name: &str, kind: usize) {
        let runaway = "setsid sh -c 'sleep 0.05 & true' </dev/null >/dev/null 2>&1; echo done";
        let (argv, tty) = match kind {
            0 => (json!(["/bin/true"]), false),
            1 => (json!(["/bin/true"]), true),
            2 => (json!(["sh", "-c", runaway]), false),
            3 => (json!(["sleep", "600"]), false),
            _ => (json!(["head", "-c", "100000", "/dev/zero"]), false),
        };
        let limits = if kind == 4 { json!({"cpuSeconds": 60, "processes": 9, "bestEffort": true}) } else { json!({}) };
        let params = json!({"processId": name, "argv": argv, "cwd": "/", "env": {"PATH": "/usr/bin:/bin"}, "tty": tty,
            "limits": limits});
        let started = self.call("process/start", params).await;
        assert_eq!(started["result"]["processId"], name, "{started}");
        if kind == 3 {
            assert_eq!(self.call("process/terminate", json!({"processId": name})).await["result"]["running"], true);
        }
        let read = self.call("process/read", json!({"processId": name, "afterSeq": 1_000_000, "waitMs": 60_000})).await;
        let closed = read["result"]["closed"] == true;
        if !closed {
            self.until(|message| message["method"] == "process/closed" && message["params"]["processId"] == name).await;
        }
    }
}

/// One connection, and one more if it is a `number` that resumes.
async fn visit(address: String, number: usize) {
    let mut client = Client::connect(&address, None).await;
    let resumes = number.is_multiple_of(4);
    for kind in 0..STARTS {
        if resumes && kind == 2 {
            // It says more than is kept in memory, once nobody is there.
            let script = "read go; head -c 3000000 /dev/zero; cat";
            let params = json!({"processId": "kept", "argv": ["sh", "-c", script], "cwd": "/",
                "env": {"PATH": "/usr/bin:/bin"}, "tty": false, "pipeStdin": true});
            client.call("process/start", params).await;
            let go = json!({"processId": "kept", "chunk": "Z28K"});
            client.call("process/write", go).await;
            let session = client.session.clone();
            drop(client);
            client = Client::connect(&address, Some(&session)).await;
            assert_eq!(client.session, session);
            let ended = client.call("process/terminate", json!({"processId": "kept"})).await;
            assert_eq!(ended["result"]["running"], true, "{ended}");
        }
        client.run(&kind.to_string(), kind).await;
    }
    client.socket.close(None).await.unwrap();
}

async fn visits(address: &str, count: usize) {
    let mut running = JoinSet::new();
    for number in 0..count {
        if running.len() == AT_ONCE {
            running.join_next().await.unwrap().unwrap();
        }
        running.spawn(visit(address.to_owned(), number));
    }
    while let Some(done) = running.join_next().await {
        done.unwrap();
    }
}

fn groups() -> Vec<String> {
    let pattern = format!("*/exedra-*-{}-*", std::process::id());
    let found = std::process::Command::new("find").args(["/sys/fs/cgroup", "-path", &pattern, "-type", "d"]).output();
    String::from_utf8(found.unwrap().stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn nothing_is_left() {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(2).enable_all().thread_keep_alive(Duration::from_secs(1));
    runtime.build().unwrap().block_on(come_and_go());
}

async fn come_and_go() {
    let full = std::env::var("EXEDRA_SOAK").is_ok_and(|soak| soak == "1");
    let count = CONNECTIONS[usize::from(!full)];
    let short = Duration::from_secs(1);
    let dir = tempfile::tempdir().unwrap();
    let mut config =
        ExecutorConfig { session_ttl: short, grace: Duration::from_millis(200), ..ExecutorConfig::default() };
    config.host.spool = Some(dir.path().join("spool"));
    let executor = Arc::new(Executor::new(config).unwrap());
    let listener =
        Listener::bind(&ListenUrl::parse("ws://127.0.0.1:0").unwrap(), ListenOptions::default()).await.unwrap();
    let address = listener.url().to_string().trim_start_matches("ws://").trim_end_matches('/').to_owned();
    let cancel = CancellationToken::new();
    let mut task = JoinSet::new();
    task.spawn(listener.run(Arc::clone(&executor), cancel.clone()));

    // What is made once is made before the first look, and the allocator has met as much as it will: three times as many
    // starts leave no more behind than these do.
    visits(&address, count).await;
    let start = Figures::calm(None).await;
    let began = Instant::now();
    visits(&address, count).await;
    let took = began.elapsed();
    let end = Figures::calm(Some(start)).await;
    let (starts, resumed) = (count * STARTS, count.div_ceil(4));
    eprintln!("{starts} starts, {} connections, {resumed} resumed in {took:?}: {start:?}, {end:?}", count + resumed);
    assert!(end.descriptors <= start.descriptors && end.threads <= start.threads, "{start:?} became {end:?}");
    assert_eq!(end.children, 0);
    assert_eq!(std::fs::read_dir(dir.path().join("spool")).unwrap().count(), 0);
    let most = start.resident_kib + start.resident_kib / 10;
    // Of a few connections, the first use of each part of the allocator is more than that.
    assert!(!full || end.resident_kib <= most, "{start:?} became {end:?}");
    assert!(groups().len() <= 4 + 32, "more than the spare ones: {:?}", groups());
    cancel.cancel();
    task.join_next().await.unwrap().unwrap();
    executor.shutdown().await;
    drop(executor);
    let began = Instant::now();
    while !groups().is_empty() {
        assert!(began.elapsed() < PATIENCE, "{:?}", groups());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
