//! The server's memory under all that strangers and bad guests can do at once: slow heads, bodies that do not end, idle
//! sockets beyond the limits, answers and events that nobody reads, meetings whose reader stands still, bad tickets.
//!
//! What `docs/operate.md` says of memory is the bound, computed from what this server may have and what the guests hold.
//! `EXEDRA_SOAK=1` (`cargo xtask soak memory`) is a larger server in `EXEDRA_CASES` rounds, after each of which memory has to come
//! back; that takes minutes. Without it one round of a smaller one shows the bound.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::process::Stdio;
use std::time::{Duration, Instant};

use exedra_proto::frame::{Body, Frame, StreamId};
use serde_json::{Value, json};

use crate::program::{Running, exedra, run, until};
use crate::siege::{Guests, call, message, says, until_stuck, upgrade, websocket};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
/// What docs/operate.md says of memory.
const HTTP: usize = 144 * KIB;
const WEBSOCKET: usize = 80 * KIB;
const EXECUTOR: usize = 4 * MIB;
const EVENTS: usize = 256 * KIB;
/// Beyond what it had at first, a server at rest has at most this.
const KEPT: usize = 24 * MIB;
/// How long memory may take to come back: the server looks every 12 s whether a rush is over.
const REST: Duration = Duration::from_secs(120);
/// Followers that a token may have, and all together.
const FOLLOWERS: [usize; 2] = [8, 64];

/// How much of everything.
struct Size {
    descriptors: usize,
    pairs: usize,
    halls: usize,
    rounds: u64,
    /// Memory is waited for, until it comes back.
    comes_back: bool,
}

impl Size {
    fn new() -> Self {
        let rounds = std::env::var("EXEDRA_CASES").ok().and_then(|cases| cases.parse().ok());
        if std::env::var_os("EXEDRA_SOAK").is_some_and(|soak| soak == "1") {
            let rounds = rounds.unwrap_or(3);
            return Self { descriptors: 4_096, pairs: 24, halls: 12, rounds, comes_back: true };
        }
        Self { descriptors: 1_024, pairs: 2, halls: 1, rounds: 1, comes_back: false }
    }

    /// Connections that may speak HTTP.
    fn http(&self) -> usize {
        (self.descriptors - 64) / 4
    }

    /// What the server may need beyond what it has at rest.
    fn bound(&self) -> usize {
        let websockets = 2 * self.pairs + self.halls * (1 + CLIENTS) + 4;
        self.http() * HTTP + websockets * WEBSOCKET + (self.halls + 1) * EXECUTOR + FOLLOWERS[1] * EVENTS
    }
}

/// Clients of one executor with streams: as many as fill its queue.
const CLIENTS: usize = 5;

/// A server that may have few descriptors, and who has to do with it.
struct Scene {
    serve: Running,
    address: SocketAddr,
    metrics: String,
    admins: Vec<String>,
    client: String,
    executor: String,
    _dir: tempfile::TempDir,
}

#[test]
fn memory_stays_within_its_bound_whatever_guests_do_and_comes_back() {
    let size = Size::new();
    let scene = Scene::start(&size);
    let _executor = scene.spawn_executor();
    if size.comes_back {
        // What the first of everything needs is not the guests'.
        scene.siege(&Size { descriptors: 80, pairs: 1, halls: 1, ..size }, "warm").lift();
    }
    let mut healthy = Healthy::start(&scene);
    healthy.works();
    let start = if size.comes_back { scene.calm(usize::MAX) } else { scene.resident("VmRSS:") };
    healthy.works();
    for round in 0..size.rounds {
        scene.forget_peak();
        let began = Instant::now();
        let siege = scene.siege(&size, &format!("r{round}"));
        println!("all guests are there after {} s", began.elapsed().as_secs());
        healthy.works();
        // A newcomer is served, too.
        let done = run(&mut scene.exec(&["--wait", "60s", "box", "--", "echo", "here"]));
        assert_eq!((done.code, done.out()), (0, "here\n"), "{}", done.stderr);
        healthy.works();
        let (peak, most) = (scene.resident("VmHWM:"), start + size.bound());
        println!("round {round}: {} MiB at rest, at most {} MiB, bound {}", start / MIB, peak / MIB, most / MIB);
        assert!(peak <= most, "{peak} bytes were resident, the bound is {most}");
        siege.lift();
        healthy.works();
        if !size.comes_back {
            continue;
        }
        let rest = scene.calm(start + KEPT);
        println!("afterwards {} MiB", rest / MIB);
        assert!(rest <= start + KEPT, "{rest} bytes stayed resident, {start} were at first");
    }
}

/// Somebody who has work to do.
struct Healthy {
    exec: Option<Running>,
    stdin: std::process::ChildStdin,
    lines: u64,
}

impl Healthy {
    fn start(scene: &Scene) -> Self {
        let mut exec = Running::start(scene.exec(&["-i", "box", "--", "cat"]).stdin(Stdio::piped()));
        let stdin = exec.stdin();
        Self { exec: Some(exec), stdin, lines: 0 }
    }

    fn works(&mut self) {
        self.lines += 1;
        let line = format!("line {}", self.lines);
        let written = writeln!(self.stdin, "{line}");
        let came = self.exec.as_ref().and_then(Running::try_line);
        if written.is_err() || came.as_ref() != Some(&line) {
            panic!("{came:?} came in place of {line}, and then: {:?}", self.exec.take().map(Running::finish));
        }
    }
}

/// All guests at once.
struct Siege<'s> {
    scene: &'s Scene,
    _guests: Vec<Guests>,
    _sockets: Vec<TcpStream>,
}

impl Siege<'_> {
    /// Sends all of them away.
    fn lift(self) {
        let scene = self.scene;
        drop(self);
        until("the guests' websockets are gone", || scene.metric("exedra_connections{role=\"client\"}") <= 1);
    }
}

impl Scene {
    fn start(size: &Size) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let data = data.to_str().unwrap();
        let limit = format!("--nofile={0}:{0}", size.descriptors);
        let mut command = std::process::Command::new("prlimit");
        command.args([&limit, env!("CARGO_BIN_EXE_exedra"), "serve", "--listen", "127.0.0.1:0", "--data-dir", data]);
        command
            .args(["--metrics", "127.0.0.1:0", "--rate-per-token", "0"])
            .env("EXEDRA_LOG", "info,exedra_registry=warn");
        let serve = Running::start(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
        let line = serve.stderr_line("metrics are to be had");
        let metrics = line.split("address=").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
        let address = serve.line().trim_start_matches("http://").parse().unwrap();
        let token = |role: &str| {
            let made = run(&mut exedra(&["token", "create", "--role", role, "--data-dir", data]));
            made.out().trim_end().to_owned()
        };
        let admins = (0..FOLLOWERS[1] / FOLLOWERS[0] + 1).map(|_| token("admin")).collect();
        let (client, executor) = (token("client"), token("executor"));
        Self { serve, address, metrics, admins, client, executor, _dir: dir }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn spawn_executor(&self) -> Running {
        let url = self.url();
        let mut command = exedra(&["exec-server", "--remote", &url, "--executor-id", "box"]);
        let executor = Running::start(command.env("EXEDRA_TOKEN", &self.executor));
        executor.stderr_line("registered with executor_id");
        executor
    }

    fn exec(&self, args: &[&str]) -> std::process::Command {
        let mut command = exedra(&["exec"]);
        command.args(args).env("EXEDRA_SERVER", self.url()).env("EXEDRA_TOKEN", &self.client);
        command
    }

    /// Bytes of that line in the process's status.
    fn resident(&self, line: &str) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.serve.pid())).unwrap();
        let line = status.lines().find_map(|text| text.strip_prefix(line)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * KIB
    }

    fn forget_peak(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.serve.pid()), "5").unwrap();
    }

    /// What is resident once it does not fall any more, or is at most `wanted`.
    fn calm(&self, wanted: usize) -> usize {
        let began = Instant::now();
        let (mut least, mut since) = (usize::MAX, Instant::now());
        loop {
            let now = self.resident("VmRSS:");
            if now + MIB < least {
                (least, since) = (now, Instant::now());
            }
            let is_calm = if wanted == usize::MAX { since.elapsed() > REST / 8 } else { now <= wanted };
            if is_calm || began.elapsed() > REST {
                return now;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// The value of a line of the metrics.
    fn metric(&self, name: &str) -> u64 {
        let address = self.metrics.parse().unwrap();
        let mut stream = says(address, b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut stream, &mut text).unwrap();
        let values = text.lines().filter_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
        values.sum()
    }

    /// The answer to a call that is made until it succeeds.
    fn call(&self, method: &str, path: &str, token: &str, body: &Value) -> Value {
        let mut found = Value::Null;
        until(&format!("{method} {path} is answered"), || {
            let (status, body) = call(self.address, method, path, token, body);
            found = body;
            status == 200
        });
        found
    }

    fn registered(&self, id: &str, transport: &str) -> TcpStream {
        let body = json!({"executor_id": id, "idempotency_id": id, "name": id, "labels": {}, "metadata": {}, "transports": [transport]});
        let reply = self.call("POST", &format!("/cloud/executor/{id}/register"), &self.executor, &body);
        websocket(reply["url"].as_str().unwrap())
    }

    fn connected(&self, id: &str, transport: &str) -> TcpStream {
        let body = json!({"public_key": null, "transports": [transport], "wait_ms": 20_000});
        let reply = self.call("POST", &format!("/v1/executors/{id}/connect"), &self.client, &body);
        websocket(reply["url"].as_str().unwrap())
    }

    /// Lets all guests in, and returns when they have what they can get.
    fn siege(&self, size: &Size, name: &str) -> Siege<'_> {
        let mut sockets = Vec::new();
        self.fill_journal();
        for number in 0..size.pairs {
            sockets.extend(self.stalled_pair(&format!("pair-{name}-{number}")));
        }
        for number in 0..size.halls {
            sockets.extend(self.stalled_hall(&format!("hall-{name}-{number}")));
        }
        let mut guests = vec![self.followers()];
        if size.descriptors > 80 {
            until("event streams are all taken", || self.metric("exedra_event_streams") == FOLLOWERS[1] as u64);
        }
        guests.extend(self.requests(size));
        if size.descriptors > 80 {
            let cut = self.metric("exedra_http_connections_cut_total");
            until("silent guests are cut", || self.metric("exedra_http_connections_cut_total") > cut + 50);
            until("bad tokens and tickets are refused", || {
                let refused =
                    ["tickets_refused_total{reason=\"missing_role\"}", "rates_refused_total{reason=\"address\"}"];
                refused.iter().map(|name| self.metric(&format!("exedra_{name}"))).sum::<u64>() > 100
            });
        }
        Siege { scene: self, _guests: guests, _sockets: sockets }
    }

    /// Two ends of a pair, neither of which reads.
    fn stalled_pair(&self, id: &str) -> Vec<TcpStream> {
        let mut executor = self.registered(id, "direct");
        let mut client = self.connected(id, "direct");
        let piece = vec![b'x'; 256 * KIB];
        for end in [&mut executor, &mut client] {
            until_stuck(end, || Some(message(&piece, piece.len())));
        }
        vec![executor, client]
    }

    /// An executor with streams that neither it nor its clients read.
    fn stalled_hall(&self, id: &str) -> Vec<TcpStream> {
        let mut executor = self.registered(id, "relay");
        let frame = |stream: &StreamId, seq, bytes| {
            let payload = vec![b'x'; bytes].into();
            Frame { stream: stream.clone(), body: Body::Data { seq, payload } }.encode()
        };
        let streams: Vec<StreamId> = (0..CLIENTS).map(|_| StreamId::fresh()).collect();
        let mut clients: Vec<TcpStream> = streams.iter().map(|_| self.connected(id, "relay")).collect();
        for (stream, client) in streams.iter().zip(&mut clients) {
            let first = frame(stream, 0, 16);
            client.write_all(&message(&first, first.len())).unwrap();
        }
        let mut seen = Vec::new();
        until("the executor hears of all streams", || {
            let mut piece = [0; 4096];
            let read = std::io::Read::read(&mut executor, &mut piece).unwrap();
            seen.extend_from_slice(&piece[..read]);
            let text = String::from_utf8_lossy(&seen);
            streams.iter().all(|stream| text.contains(stream.as_str()))
        });
        let mut seq = 0;
        until_stuck(&mut executor, || {
            let (stream, number) = (&streams[seq % CLIENTS], u32::try_from(seq / CLIENTS).unwrap());
            seq += 1;
            let frame = frame(stream, number, 32 * KIB);
            Some(message(&frame, frame.len()))
        });
        // Messages without an end, in the other direction.
        for (stream, client) in streams.iter().zip(&mut clients) {
            let piece = frame(stream, 1, 16 * MIB);
            let mut parts =
                [message(&piece[..MIB], piece.len())].into_iter().chain(piece[MIB..].chunks(MIB).map(<[u8]>::to_vec));
            until_stuck(client, || parts.next());
        }
        clients.push(executor);
        clients
    }

    /// Those that speak HTTP, or do not.
    fn requests(&self, size: &Size) -> Vec<Guests> {
        let (address, http) = (self.address, size.http());
        let head = format!("GET /healthz HTTP/1.1\r\nHost: x\r\nX-Long: {}", "x".repeat(30 * KIB));
        let body = format!(
            "POST /v1/executors/box/connect HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Length: {}\r\n\r\n{}",
            self.client,
            64 * KIB,
            "x".repeat(63 * KIB)
        );
        let many = "GET /v1/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n".repeat(200);
        let token = "GET /v1/status HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer none\r\nConnection: close\r\n\r\n";
        vec![
            Guests::keep(http / 4, move |_| says(address, head.as_bytes()), |guest| drop(guest.write_all(b"x"))),
            Guests::keep(http / 6, move |_| says(address, body.as_bytes()), |_| ()),
            Guests::keep(http / 6, move |_| says(address, many.as_bytes()), |_| ()),
            Guests::keep(http, move |_| says(address, b""), |_| ()),
            Guests::keep(http / 8, move |_| says(address, &upgrade("/rendezvous/reg-1?sig=none")), |_| ()),
            Guests::keep(http / 8, move |_| says(address, token.as_bytes()), |_| ()),
        ]
    }

    /// Large events, for those who follow them.
    fn fill_journal(&self) {
        let labels: serde_json::Map<_, _> =
            (0..16).map(|n| (format!("{n}-{}", "l".repeat(60)), Value::from("v".repeat(63)))).collect();
        for _ in 0..100 {
            self.call("PUT", "/v1/executors/box/labels", &self.admins[0], &json!({"labels": labels}));
        }
    }

    /// Those that follow events, more than may, and do not read.
    fn followers(&self) -> Guests {
        let (address, admins) = (self.address, self.admins.clone());
        let come = move |number: usize| {
            let admin = &admins[number % admins.len()];
            let head = format!("GET /v1/events/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {admin}\r\n\r\n");
            says(address, head.as_bytes())
        };
        Guests::keep(FOLLOWERS[1] + FOLLOWERS[0], come, |_| ())
    }
}
