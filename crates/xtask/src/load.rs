//! Thousands of idle executors at one server: what they cost it, and how they come back when it is killed.
//!
//! In flows the release binary, out flow figures, histograms and the verdict on each. The server is a real process, the
//! executors are [`light`] ones in this process; each keeps a real websocket.

pub mod board;
pub mod light;
pub mod post;

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::task::JoinSet;
use tokio::time::sleep;

use self::board::{Board, Event, histogram};
use self::light::{Light, Manners};
use crate::plane::Plane;

/// Longest time until all are there for the first time.
const ARRIVE: Duration = Duration::from_secs(120);
/// Longest time until all are back.
const RETURN: Duration = Duration::from_secs(60);
/// Until memory is read: longer than an idle HTTP connection is kept, so that what registering needed is gone.
const CALM: Duration = Duration::from_secs(25);
/// Most memory of the server for an idle executor, in bytes.
const MEMORY: f64 = 16.0 * 1024.0;
/// Most of one processor that the server takes when all are idle.
const PROCESSOR: f64 = 0.03;
/// Descriptors for everything but the executors.
const RESERVE: u64 = 100;

/// What to do.
#[derive(Clone, Debug)]
pub struct Load {
    /// Our binary, as released.
    pub exedra: PathBuf,
    /// Where records and logs go.
    pub dir: PathBuf,
    /// How many executors.
    pub executors: usize,
    /// By whose rules they come back.
    pub manners: Manners,
    /// The listening socket outlives the server.
    pub held: bool,
    /// How long the server is watched while all are idle; not at all if zero.
    pub idle: Duration,
    /// How often the server is killed.
    pub kills: usize,
}

/// A server with executors.
struct Scene {
    plane: Plane,
    board: Arc<Board>,
    executors: usize,
    met: bool,
    _tasks: JoinSet<()>,
}

/// Runs it; tells whether every figure meets its target.
///
/// # Errors
/// The run itself could not go on.
pub async fn run(load: &Load) -> Result<bool> {
    take_descriptors(load.executors)?;
    let mut scene = Scene::start(load).await?;
    if !load.idle.is_zero() {
        scene.watch_idle(load.idle).await?;
    }
    for _ in 0..load.kills {
        scene.kill_and_return().await?;
    }
    scene.plane.stop().await?;
    Ok(scene.met)
}

/// As many descriptors as the executors need: the server takes all that it is granted by itself.
///
/// # Errors
/// The system grants fewer.
pub fn take_descriptors(executors: usize) -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    // The server keeps half of them for websockets.
    let needed = 2 * executors as u64 + RESERVE;
    let granted = limit.maximum.unwrap_or(u64::MAX);
    ensure!(
        granted >= needed,
        "{executors} executors need {needed} descriptors, and {granted} are granted (ulimit -Hn)"
    );
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).context("this needs many descriptors")
}

impl Scene {
    async fn start(load: &Load) -> Result<Self> {
        let plane = match load.held {
            true => Plane::start_held(&load.exedra, &load.dir, false).await?,
            false => Plane::start(&load.exedra, &load.dir, false).await?,
        };
        let (board, mut tasks) = (Arc::<Board>::default(), JoinSet::new());
        let (address, token): (Arc<str>, Arc<str>) = (plane.address()?.into(), plane.executor_token.as_str().into());
        let light = |number| Light {
            address: Arc::clone(&address),
            token: Arc::clone(&token),
            number,
            manners: load.manners,
            board: Arc::clone(&board),
        };
        // One alone first: what the server needs for the first of all is not what the others cost.
        tasks.spawn(light(0).run());
        board.until(|counts| counts.online == 1, ARRIVE).await?;
        sleep(CALM).await;
        let before = plane.server()?.resident()?;
        let begin = Instant::now();
        for number in 1..load.executors {
            tasks.spawn(light(number).run());
        }
        let mut scene = Self { plane, board, executors: load.executors, met: true, _tasks: tasks };
        let took = scene.board.until(|counts| counts.online == load.executors, ARRIVE).await?;
        scene.say(&format!("{} executors online after {:.1} s", load.executors, took.as_secs_f64()))?;
        scene.show("registered", Event::Registered, begin)?;
        sleep(CALM).await;
        let each = (scene.plane.server()?.resident()? - before) / (load.executors - 1).max(1) as f64;
        scene.judge(&format!("memory of the server for each: {:.0} B", each), each <= MEMORY, "16 KiB")?;
        Ok(scene)
    }

    async fn watch_idle(&mut self, time: Duration) -> Result<()> {
        let server = self.plane.server()?;
        let (begin, before) = (Instant::now(), server.processor_time()?);
        sleep(time).await;
        let used = (server.processor_time()? - before).as_secs_f64() / begin.elapsed().as_secs_f64();
        self.judge(&format!("processor while idle: {:.2} % of one", used * 100.0), used < PROCESSOR, "3 %")?;
        let online = self.board.counts().online;
        self.judge(&format!("still online: {online}"), online == self.executors, "all")
    }

    async fn kill_and_return(&mut self) -> Result<()> {
        let begin = Instant::now();
        self.plane.kill().await?;
        self.board.until(|counts| counts.online == 0, RETURN).await?;
        self.plane.start_again().await?;
        let up = begin.elapsed();
        let all = self.executors;
        let back = self.board.until(|counts| counts.online + counts.gave_up == all, RETURN).await;
        let (counts, took) = (self.board.counts(), begin.elapsed().as_secs_f64());
        self.say(&format!("killed, serving again after {:.1} s", up.as_secs_f64()))?;
        self.judge(
            &format!("back: {} of {all} after {took:.1} s, {} gave up", counts.online, counts.gave_up),
            back.is_ok() && counts.online == all,
            "all in 60 s",
        )?;
        self.show("online", Event::Online, begin)?;
        self.show("registered", Event::Registered, begin)?;
        for (what, event) in [("dials", Event::Undialled), ("registrations", Event::Unregistered)] {
            self.say(&format!("{what} that failed: {}", self.board.count(event, begin)))?;
        }
        Ok(())
    }

    fn show(&self, what: &str, event: Event, since: Instant) -> Result<()> {
        let seconds = self.board.per_second(event, since);
        self.say(&format!("{what} in each second:\n{}", histogram(&seconds).trim_end_matches('\n')))
    }

    fn judge(&mut self, what: &str, met: bool, target: &str) -> Result<()> {
        self.met &= met;
        self.say(&format!("{what} (target {target}): {}", if met { "ok" } else { "MISS" }))
    }

    fn say(&self, text: &str) -> Result<()> {
        writeln!(std::io::stdout(), "{text}")?;
        Ok(())
    }
}
