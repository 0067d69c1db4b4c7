//! A session over a link that is cut again and again: every byte comes once and in order, in both directions, every exit
//! code is right, and no process is left. By the rules for stock executors, and with output that is confirmed.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use exedra_client::connect::{Options, listener_with};
use exedra_client::process::{Command, Event, Process};
use exedra_executor::listen::{ListenOptions, ListenUrl, Listener};
use exedra_executor::{Executor, ExecutorConfig};
use exedra_testkit::faults::{Faults, FaultyLink};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Processes that write, and as many that echo.
const EACH: u64 = 8;
/// Length of a line that a writer writes.
const LINE: u64 = 8;

/// How much is done.
#[derive(Clone, Copy, Debug)]
struct Measure {
    seeds: u64,
    cuts: usize,
    /// What each writer writes.
    output: u64,
    /// What each echo is given and gives back.
    echo: u64,
}

impl Measure {
    /// A little on every day; 20 seeds with 50 cuts each, and 64 MiB of output, in `cargo xtask soak`.
    fn of_the_day() -> Self {
        let number = |name: &str| std::env::var(name).ok().and_then(|n| n.parse::<u64>().ok());
        if number("EXEDRA_SOAK") == Some(1) {
            let seeds = number("EXEDRA_CASES").unwrap_or(20).min(20);
            return Self { seeds, cuts: 50, output: 8 << 20, echo: 1 << 20 };
        }
        Self { seeds: 1, cuts: 6, output: 512 << 10, echo: 64 << 10 }
    }
}

/// An executor that listens, and the link before it.
struct Rig {
    link: FaultyLink,
    cancel: CancellationToken,
    tasks: JoinSet<()>,
}

impl Rig {
    async fn start() -> Self {
        let executor = Arc::new(Executor::new(ExecutorConfig::default()).unwrap());
        let url = ListenUrl::parse("ws://127.0.0.1:0").unwrap();
        let listener = Listener::bind(&url, ListenOptions::default()).await.unwrap();
        let address: SocketAddr = listener.url().to_string().trim_start_matches("ws://").parse().unwrap();
        let (cancel, mut tasks) = (CancellationToken::new(), JoinSet::new());
        let stop = cancel.clone();
        tasks.spawn(async move { drop(listener.run(executor, stop).await) });
        Self { link: FaultyLink::start(address, Faults::none()).await.unwrap(), cancel, tasks }
    }

    async fn stop(mut self) {
        self.cancel.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Follows a writer to its end: lines that count up from `from`.
async fn follow_writer(mut process: Process, from: u64, count: u64, received: Arc<AtomicU64>) -> i32 {
    let mut expected = (from..from + count).flat_map(|n| format!("{n}\n").into_bytes());
    while let Some(event) = process.next().await.unwrap() {
        let Event::Output { bytes, .. } = event else { continue };
        assert!(bytes.iter().all(|byte| expected.next() == Some(*byte)), "writer {from}: lost, doubled or misplaced");
        received.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    }
    assert_eq!(expected.next(), None, "writer {from}: the end is missing");
    process.exit_code().unwrap()
}

/// Follows an echo to its end, and feeds it meanwhile.
async fn follow_echo(mut process: Process, seed: u64, size: u64, received: Arc<AtomicU64>) -> i32 {
    let whole: Vec<u8> = {
        let mut random = fastrand::Rng::with_seed(seed);
        std::iter::repeat_with(|| random.u8(..)).take(usize::try_from(size).unwrap()).collect()
    };
    let (queue, source) = mpsc::channel(4);
    let controls = process.controls();
    let pieces = async {
        let mut random = fastrand::Rng::with_seed(!seed);
        let mut rest = Bytes::from(whole.clone());
        while !rest.is_empty() {
            let piece = rest.split_to(random.usize(1..=16 * 1024).min(rest.len()));
            queue.send(piece).await.unwrap();
        }
        drop(queue);
    };
    let follow = async {
        let mut echoed = Vec::new();
        while let Some(event) = process.next().await.unwrap() {
            let Event::Output { bytes, .. } = event else { continue };
            received.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            echoed.extend_from_slice(&bytes);
        }
        assert!(echoed == whole, "echo {seed}: {} bytes came back", echoed.len());
        process.exit_code().unwrap()
    };
    let (code, (), fed) = tokio::join!(follow, pieces, controls.feed(source));
    fed.unwrap();
    code
}

/// Cuts the link at places of the whole transfer that the seed chooses.
async fn cut(link: &FaultyLink, seed: u64, cuts: usize, total: u64, received: &AtomicU64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut places: Vec<u64> = std::iter::repeat_with(|| random.u64(0..total)).take(cuts).collect();
    places.sort_unstable();
    for place in places {
        while received.load(Ordering::Relaxed) < place {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // Sometimes while the next connection is still being made.
        tokio::time::sleep(Duration::from_millis(random.u64(0..20))).await;
        link.cut();
    }
}

/// Pids of what runs with `mark` in its environment.
fn left(mark: &str) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok());
    let marked = |pid: &String| {
        std::fs::read(format!("/proc/{pid}/environ"))
            .is_ok_and(|environ| environ.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes()))
    };
    processes.filter_map(|entry| entry.file_name().into_string().ok()).filter(marked).collect()
}

async fn run(seed: u64, measure: Measure, options: Options) {
    let rig = Rig::start().await;
    let url = format!("ws://{}", rig.link.address);
    let executor = listener_with(options, &url, None, Duration::from_secs(30), |_, _| {}).await.unwrap();
    let mark = format!("{}-{seed}-{}", std::process::id(), rig.link.address.port());
    let received = Arc::new(AtomicU64::new(0));
    let mut followers: JoinSet<(i32, i32)> = JoinSet::new();
    for n in 0..EACH {
        let (from, count) = (1_000_000 + n * 7, measure.output / LINE);
        let writer = format!("seq {from} {}; exit {}", from + count - 1, 10 + n);
        let echo = format!("head -c {}; exit {}", measure.echo, 30 + n);
        let command = |script: &str, stdin| {
            let mut command = Command::new(["sh", "-c", script]);
            command.env.insert("EXEDRA_CUTS".to_owned(), mark.clone());
            command.stdin = stdin;
            command
        };
        let (code, received_too) = (i32::try_from(n).unwrap(), Arc::clone(&received));
        let process = executor.start(&command(&writer, false)).await.unwrap();
        followers.spawn(async move { (10 + code, follow_writer(process, from, count, received_too).await) });
        let received_too = Arc::clone(&received);
        let process = executor.start(&command(&echo, true)).await.unwrap();
        let (size, seed) = (measure.echo, seed * 100 + n);
        followers.spawn(async move { (30 + code, follow_echo(process, seed, size, received_too).await) });
    }
    let total = EACH * (measure.output + measure.echo);
    let began = Instant::now();
    let follow = async {
        while let Some(codes) = followers.join_next().await {
            let (expected, code) = codes.unwrap();
            assert_eq!(code, expected, "seed {seed}");
        }
    };
    let limit = Duration::from_secs(600);
    let cut = cut(&rig.link, seed, measure.cuts, total, &received);
    let done = tokio::time::timeout(limit, async { tokio::join!(follow, cut) }).await;
    assert!(done.is_ok(), "seed {seed}: {} of {total} bytes in {limit:?}", received.load(Ordering::Relaxed));
    assert_eq!(received.load(Ordering::Relaxed), total, "seed {seed}");
    tracing::info!(seed, cuts = measure.cuts, bytes = total, took = ?began.elapsed(), "whole");
    assert_eq!(left(&format!("EXEDRA_CUTS={mark}")), Vec::<String>::new(), "seed {seed}");
    executor.close().await;
    rig.stop().await;
}

async fn all_seeds(options: Options) {
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_test_writer()
        .try_init();
    let measure = Measure::of_the_day();
    for seed in 0..measure.seeds {
        run(seed, measure, options).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_the_rules_for_stock_executors() {
    all_seeds(Options { offer: None, ..Options::default() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_output_that_is_confirmed() {
    all_seeds(Options::default()).await;
}
