//! What stands between two ends: our rendezvous beside nginx (as a proxy for websockets) and haproxy (for TCP).
//!
//! The two ends are the same bare ones for all, in this process; through ours both dial, through a proxy one listens.
//! All take turns in short blocks, each on connections of its own, so that no ping of ours falls into one.

mod connects;
mod proxy;
mod streams;

use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use exedra_proto::registry::{ConnectReply, RegisterReply, RegisterRequest, Transport};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::try_join;

use self::proxy::Proxy;
use super::ends::End;
use super::figures::{median, rate, time};
use super::{Arena, Goal, Part, Row, Table};
use crate::load::post::post;
use crate::plane::Plane;

/// Blocks in which all take turns.
const BLOCKS: usize = 5;
/// The same for latency, where little is compared with little: short ones, so that a busy moment hits all alike.
const SHORT_BLOCKS: usize = 40;
/// Messages to and fro in such a block.
const ROUNDS: usize = 250;
/// Size of such a message, in bytes.
const SMALL: usize = 64;
/// Size of a message of a long transfer, in bytes.
const LARGE: usize = 64 * 1024;
/// What is transferred in a block, in bytes.
const TRANSFER: usize = 256 << 20;

/// Everything that can stand in between.
struct Between {
    plane: Plane,
    backend: TcpListener,
    nginx: Result<Proxy>,
    haproxy: Result<Proxy>,
}

/// What a message passes.
#[derive(Clone, Copy, Debug)]
enum Way {
    Nothing,
    Ours,
    Nginx,
    Haproxy,
}

pub(super) async fn run(arena: &Arena, table: &mut Table) -> Result<()> {
    let dir = arena.dir.join("between");
    std::fs::create_dir_all(&dir)?;
    let backend = TcpListener::bind("127.0.0.1:0").await?;
    let port = backend.local_addr()?.port();
    let between = Between {
        plane: Plane::start(&arena.exedra, &dir, false).await?,
        nginx: Proxy::nginx(port, &dir).await,
        haproxy: Proxy::haproxy(port, &dir).await,
        backend,
    };
    let bytes = if arena.quick { TRANSFER / 8 } else { TRANSFER };
    if arena.wants(Part::Latency) {
        between.added(if arena.quick { ROUNDS / 5 } else { ROUNDS }, table).await?;
    }
    if arena.wants(Part::Transfer) {
        between.throughput(bytes, table).await?;
    }
    if arena.wants(Part::Streams) {
        streams::run(&between.plane, bytes, table).await?;
    }
    if arena.wants(Part::Connects) {
        connects::run(&between.plane, if arena.quick { 400 } else { 4_000 }, table).await?;
    }
    Ok(())
}

impl Between {
    /// A pair of ends with `way` between them: the one that asks, and the one that serves.
    async fn open(&self, way: Way) -> Result<(End, End)> {
        let address = match way {
            Way::Ours => return self.open_ours().await,
            Way::Nothing => self.backend.local_addr()?.to_string(),
            Way::Nginx => proxy(&self.nginx)?.address.clone(),
            Way::Haproxy => proxy(&self.haproxy)?.address.clone(),
        };
        try_join!(End::dial(&address, "/"), End::accept(&self.backend))
    }

    async fn open_ours(&self) -> Result<(End, End)> {
        let executor = format!("pair-{}", fastrand::u64(..));
        let serves = End::follow(&self.plane, &register(&self.plane, &executor, Transport::Direct).await?.url).await?;
        let asks = End::follow(&self.plane, &connect(&self.plane, &executor).await?.url).await?;
        Ok((asks, serves))
    }

    fn ways(&self) -> Vec<Way> {
        let mut ways = vec![Way::Nothing, Way::Ours];
        ways.extend(self.nginx.is_ok().then_some(Way::Nginx));
        ways.extend(self.haproxy.is_ok().then_some(Way::Haproxy));
        ways
    }

    async fn added(&self, rounds: usize, table: &mut Table) -> Result<()> {
        let what = "added by what is between, there and back, p50";
        match self.latency(rounds).await {
            Ok((ours, Some(nginx))) => {
                let theirs = Some((nginx, Some("nginx")));
                table.add(&Row { what, ours, theirs, unit: time, goal: Goal::RatioAtMost(1.0) })
            }
            Ok((_, None)) => self.missing(&self.nginx, what, table),
            Err(why) => table.lacks(what, &why),
        }
    }

    /// What ours and nginx add to the time of a message there and back.
    async fn latency(&self, rounds: usize) -> Result<(f64, Option<f64>)> {
        let mut samples = [const { Vec::new() }; 4];
        for _ in 0..SHORT_BLOCKS {
            for way in self.ways() {
                let (asks, serves) = self.open(way).await?;
                let block = to_and_fro(asks, serves, rounds).await.with_context(|| format!("through {way:?}"))?;
                if let Some(samples) = samples.get_mut(way as usize) {
                    samples.extend(block);
                }
            }
        }
        let [nothing, ours, nginx, _] = samples.map(median);
        Ok((ours - nothing, self.nginx.is_ok().then_some(nginx - nothing)))
    }

    async fn throughput(&self, bytes: usize, table: &mut Table) -> Result<()> {
        let mut samples = [const { Vec::new() }; 4];
        for _ in 0..BLOCKS {
            for way in self.ways() {
                let (asks, serves) = self.open(way).await?;
                let block = transfer(asks, serves, bytes).await.with_context(|| format!("through {way:?}"))?;
                if let Some(samples) = samples.get_mut(way as usize) {
                    samples.push(block);
                }
            }
        }
        let [_, ours, nginx, haproxy] = samples.map(median);
        let rows = [
            ("a pair's throughput, beside nginx", nginx, &self.nginx, "nginx", 1.5),
            ("a pair's throughput, beside haproxy", haproxy, &self.haproxy, "haproxy", 0.7),
        ];
        for (what, theirs, proxy, who, least) in rows {
            if proxy.is_ok() {
                let (theirs, goal) = (Some((theirs, Some(who))), Goal::RatioAtLeast(least));
                table.add(&Row { what, ours, theirs, unit: rate, goal })?;
            } else {
                self.missing(proxy, what, table)?;
            }
        }
        Ok(())
    }

    fn missing(&self, proxy: &Result<Proxy>, what: &str, table: &Table) -> Result<()> {
        let why = proxy.as_ref().err().map(|why| format!("{why:#}")).unwrap_or_default();
        table.not_here(what, &why)
    }
}

fn proxy(proxy: &Result<Proxy>) -> Result<&Proxy> {
    match proxy {
        Ok(proxy) => Ok(proxy),
        Err(why) => bail!("{why:#}"),
    }
}

/// Registers an executor that offers one transport.
async fn register(plane: &Plane, executor: &str, transport: Transport) -> Result<RegisterReply> {
    let request = RegisterRequest {
        idempotency_id: executor.to_owned(),
        executor_id: executor.to_owned(),
        name: None,
        labels: [].into(),
        metadata: json!({}),
        transports: vec![transport.name().to_owned()],
        security_profile: None,
        executor_public_key: None,
    };
    let path = format!("/cloud/executor/{executor}/register");
    let answer = post(plane.address()?, &path, &plane.executor_token, &serde_json::to_vec(&request)?).await?;
    ensure!(answer.status == 200, "a registration is answered {}", answer.status);
    Ok(serde_json::from_slice(&answer.body)?)
}

/// Asks for a client's ticket.
async fn connect(plane: &Plane, executor: &str) -> Result<ConnectReply> {
    let path = format!("/v1/executors/{executor}/connect");
    let answer = post(plane.address()?, &path, &plane.client_token, br#"{"wait_ms":10000}"#).await?;
    ensure!(answer.status == 200, "a connect is answered {}", answer.status);
    Ok(serde_json::from_slice(&answer.body)?)
}

/// How long each of so many small messages takes there and back.
async fn to_and_fro(mut asks: End, mut serves: End, rounds: usize) -> Result<Vec<f64>> {
    let payload = [7; SMALL];
    let (question, answer) = (asks.frame(&payload), serves.frame(&payload));
    let mut samples = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let begin = Instant::now();
        asks.send(&question).await?;
        serves.expect(SMALL).await?;
        serves.send(&answer).await?;
        asks.expect(SMALL).await?;
        samples.push(begin.elapsed().as_secs_f64());
    }
    Ok(samples)
}

/// Bytes per second from the one that serves to the one that asks.
async fn transfer(mut asks: End, mut serves: End, bytes: usize) -> Result<f64> {
    let mut sender = JoinSet::new();
    let begin = Instant::now();
    sender.spawn(async move {
        let frame = serves.frame(&vec![7; LARGE]);
        for _ in 0..bytes / LARGE {
            serves.send(&frame).await?;
        }
        anyhow::Ok(serves)
    });
    asks.discard(bytes).await?;
    let seconds = begin.elapsed().as_secs_f64();
    sender.join_next().await.context("no sender")???;
    Ok(bytes as f64 / seconds)
}
