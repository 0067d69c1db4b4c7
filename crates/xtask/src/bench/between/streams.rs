//! Many streams of one executor beside one: what all clients together receive of it, in relay frames.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use exedra_proto::frame::{Body, Frame, StreamId};
use exedra_proto::registry::Transport;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Bytes;

use super::{connect, register};
use crate::bench::ends::End;
use crate::bench::figures::{median, rate};
use crate::bench::{Goal, Row, Table};
use crate::plane::Plane;

/// Streams at the same time.
const MANY: usize = 64;
/// Blocks in which one stream and many take turns, and what part of a long transfer each passes on: one that meets a busy
/// moment has to be one of few.
const BLOCKS: usize = 15;
const PART: usize = 2;
/// Payload of a relay frame, in bytes.
const PAYLOAD: usize = 32 * 1024;

pub(super) async fn run(plane: &Plane, bytes: usize, table: &mut Table) -> Result<()> {
    let what = "64 streams of one executor, beside one stream";
    let (mut many, mut one) = (Vec::new(), Vec::new());
    for _ in 0..BLOCKS {
        for (streams, samples) in [(1, &mut one), (MANY, &mut many)] {
            match throughput(plane, streams, bytes / PART).await {
                Ok(sample) => samples.push(sample),
                Err(why) => return table.lacks(what, &why),
            }
        }
    }
    let theirs = Some((median(one), Some("one")));
    table.add(&Row { what, ours: median(many), theirs, unit: rate, goal: Goal::RatioAtLeast(0.8) })
}

/// Bytes per second that all clients together receive.
async fn throughput(plane: &Plane, streams: usize, bytes: usize) -> Result<f64> {
    let id = format!("streams-{}", fastrand::u64(..));
    let mut executor = End::follow(plane, &register(plane, &id, Transport::Relay).await?.url).await?;
    let (mut clients, mut frames) = (Vec::new(), Vec::new());
    for _ in 0..streams {
        let mut client = End::follow(plane, &connect(plane, &id).await?.url).await?;
        let stream = StreamId::fresh();
        let hello = Frame { stream: stream.clone(), body: Body::Data { seq: 0, payload: Bytes::from_static(b"hi") } };
        let hello = hello.encode();
        client.send(&client.frame(&hello)).await?;
        // Behind it the stream is this client's.
        executor.expect(hello.len()).await?;
        let body = Body::Data { seq: 0, payload: Bytes::from(vec![7; PAYLOAD]) };
        frames.push(executor.frame(&Frame { stream, body }.encode()));
        clients.push(client);
    }
    let rounds = bytes / PAYLOAD / streams;
    ensure!(rounds > 0, "too few bytes");
    let begin = Instant::now();
    let (mut sender, mut receivers) = (JoinSet::new(), JoinSet::new());
    sender.spawn(async move {
        for _ in 0..rounds {
            for frame in &frames {
                executor.send(frame).await?;
            }
        }
        anyhow::Ok(executor)
    });
    for mut client in clients {
        receivers.spawn(async move {
            client.discard(rounds * PAYLOAD).await?;
            anyhow::Ok(client)
        });
    }
    while let Some(received) = receivers.join_next().await {
        received??;
    }
    let seconds = begin.elapsed().as_secs_f64();
    sender.join_next().await.context("no sender")???;
    Ok((rounds * streams * PAYLOAD) as f64 / seconds)
}
