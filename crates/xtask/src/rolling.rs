//! Restarts of a server under load: nobody is refused, no executor is lost, every client completes.
//!
//! In flows the binary, out flow PASS and FAIL lines. The server is a real process; executors and clients are our own,
//! in this process, and follow the rules that ours follow anywhere. Each client has a `cat` over there that gives back
//! all that it is given, once and in order, over all restarts; newcomers run a short command meanwhile, and a prober
//! connects all the time.

mod client;
mod executor;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use exedra_client::connect::Server;
use exedra_proto::registry::Transport;
use exedra_proto::secret::Secret;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use self::executor::Fleet;
use crate::load::take_descriptors;
use crate::plane::Plane;
use crate::report::Report;

/// Between two connects of the prober.
const PROBE: Duration = Duration::from_millis(5);
/// For all to be there, and for all to complete.
const PATIENCE: Duration = Duration::from_secs(180);

/// How much is done.
#[derive(Clone, Debug)]
pub struct Rolling {
    /// Our binary.
    pub exedra: PathBuf,
    /// Executors that serve one client at a time, each with its client.
    pub pairs: usize,
    /// Executors that serve many, each with a client.
    pub streams: usize,
    /// Restarts of each kind.
    pub restarts: usize,
    /// Traffic between two restarts.
    pub between: Duration,
}

/// How the server is restarted.
#[derive(Clone, Copy, Debug)]
enum How {
    /// SIGTERM, and again on the socket that was held meanwhile.
    Held,
    /// SIGUSR2.
    HandOver,
}

/// What the prober saw.
#[derive(Debug, Default)]
struct Probes {
    answered: AtomicUsize,
    refused: AtomicUsize,
}

impl Rolling {
    /// What has to go well before a release.
    pub fn full(exedra: PathBuf) -> Self {
        Self { exedra, pairs: 200, streams: 50, restarts: 10, between: Duration::from_secs(3) }
    }

    /// A little of it.
    pub fn quick(exedra: PathBuf) -> Self {
        Self { exedra, pairs: 8, streams: 4, restarts: 2, between: Duration::from_millis(300) }
    }
}

/// Runs both kinds; tells whether all went well.
///
/// # Errors
/// The run itself could not go on.
pub async fn run(rolling: &Rolling, dir: &Path) -> Result<bool> {
    let report = Report::default();
    take_descriptors(2 * (rolling.pairs + rolling.streams))?;
    for (how, name) in [(How::Held, "a held socket"), (How::HandOver, "SIGUSR2")] {
        let (restarts, clients) = (rolling.restarts, rolling.pairs + rolling.streams);
        let name = format!("{restarts} restarts by {name} under {clients} executors with traffic");
        if let Some(found) = report.check(&name, kind(rolling, how, &dir.join(format!("{how:?}")))).await? {
            report.note(&found)?;
        }
    }
    report.finish()
}

async fn kind(rolling: &Rolling, how: How, dir: &Path) -> Result<String> {
    std::fs::create_dir_all(dir)?;
    let mut plane = match how {
        How::Held => Plane::start_held(&rolling.exedra, dir, false).await?,
        How::HandOver => Plane::start(&rolling.exedra, dir, false).await?,
    };
    let mut fleet = Fleet::default();
    for (transport, count) in [(Transport::Direct, rolling.pairs), (Transport::Relay, rolling.streams)] {
        for number in 0..count {
            fleet.add(&plane, format!("{}-{number}", transport.name()), transport)?;
        }
    }
    fleet.online(PATIENCE).await?;

    let server = Server::new(&plane.url, &Secret::new(plane.client_token.as_str()), false)?;
    let (over, is_over) = watch::channel(false);
    let mut clients = JoinSet::new();
    for id in fleet.ids() {
        let (server, is_over) = (server.clone(), is_over.clone());
        clients.spawn(async move {
            let echoed = client::echo(&server, &id, is_over).await.with_context(|| format!("client of {id}"))?;
            anyhow::Ok((id, echoed))
        });
    }
    let (probes, stop) = (Arc::<Probes>::default(), Arc::<AtomicBool>::default());
    let mut others = JoinSet::new();
    others.spawn(probe(plane.address()?.to_owned(), Arc::clone(&probes), Arc::clone(&stop)));
    let newcomers = Arc::<AtomicUsize>::default();
    let mut coming = JoinSet::new();
    if rolling.streams > 0 {
        coming.spawn(client::newcomers(server, rolling.streams, Arc::clone(&stop), Arc::clone(&newcomers)));
    }

    for restart in 0..rolling.restarts {
        sleep(rolling.between).await;
        match how {
            How::Held => {
                plane.stop().await?;
                plane.start_again().await?;
            }
            How::HandOver => plane.hand_over().await.with_context(|| format!("hand-over {restart}"))?,
        }
    }
    sleep(rolling.between).await;
    over.send_replace(true);
    let (mut echoed, mut left) = (0, fleet.ids());
    let all = async {
        while let Some(client) = clients.join_next().await {
            let (id, lines) = client??;
            echoed += lines;
            left.retain(|other| *other != id);
        }
        anyhow::Ok(())
    };
    let ended = timeout(PATIENCE, all).await;
    ended.with_context(|| format!("the clients of {left:?} do not complete"))??;
    stop.store(true, Ordering::Relaxed);
    while let Some(newcomer) = timeout(PATIENCE, coming.join_next()).await.context("a newcomer does not complete")? {
        newcomer??;
    }
    while others.join_next().await.is_some() {}
    let (answered, refused) = (probes.answered.load(Ordering::Relaxed), probes.refused.load(Ordering::Relaxed));
    ensure!(refused == 0, "{refused} of {} connects were refused", answered + refused);
    fleet.online(PATIENCE).await.context("after the last restart")?;
    ensure!(fleet.lost() == 0, "{} executors gave up", fleet.lost());
    let refusals = fleet.refusals();
    ensure!(refusals == 0, "executors met {refusals} refused connects");
    plane.stop().await?;
    let newcomers = newcomers.load(Ordering::Relaxed);
    Ok(format!("{echoed} lines echoed, {newcomers} newcomers served, {answered} connects and none refused"))
}

/// Connects again and again, and says nothing.
async fn probe(address: String, probes: Arc<Probes>, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        let count = match TcpStream::connect(&address).await {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => &probes.refused,
            _ => &probes.answered,
        };
        count.fetch_add(1, Ordering::Relaxed);
        sleep(PROBE).await;
    }
}
