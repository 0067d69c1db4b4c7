//! Our clients: one that has its lines echoed for the whole run, and newcomers with a short command.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use exedra_client::connect::Server;
use exedra_client::process::{Command, Event};
use exedra_proto::ids::ExecutorId;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Bytes;

/// For a first connection.
const CONNECT: Duration = Duration::from_secs(60);
/// Between two lines of a client.
const PAUSE: Duration = Duration::from_millis(250);

/// Has lines echoed until it `is_over`, and checks every byte: how many lines.
pub(super) async fn echo(server: &Server, id: &str, is_over: watch::Receiver<bool>) -> Result<u64> {
    let executor = server.executor(&ExecutorId::parse(id)?, CONNECT, |_, _| {}).await?;
    let mut command = Command::new(["cat"]);
    command.stdin = true;
    let mut process = executor.start(&command).await?;
    let controls = process.controls();
    let (lines, source) = mpsc::channel(1);
    let ask = async {
        let mut number = 0_u64;
        while !*is_over.borrow() {
            if lines.send(Bytes::from(format!("{number}\n"))).await.is_err() {
                break;
            }
            number += 1;
            sleep(PAUSE.mul_f64(0.5 + fastrand::f64())).await;
        }
        drop(lines);
        number
    };
    let hear = async {
        let (mut next, mut held) = (0_u64, Vec::new());
        while let Some(event) = process.next().await? {
            let Event::Output { bytes, .. } = event else { continue };
            held.extend_from_slice(&bytes);
            while let Some(end) = held.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = held.drain(..=end).collect();
                ensure!(line == format!("{next}\n").as_bytes(), "line {next} came back as {line:?}");
                next += 1;
            }
        }
        ensure!(held.is_empty(), "half a line at the end");
        ensure!(process.exit_code() == Some(0), "it ended with {:?}", process.exit_code());
        Ok(next)
    };
    let feed = async {
        controls.feed(source).await?;
        controls.close_stdin().await
    };
    let (asked, fed, heard) = tokio::join!(ask, feed, hear);
    fed?;
    let heard = heard?;
    ensure!(asked == heard, "{heard} of {asked} lines came back");
    executor.close().await;
    Ok(heard)
}

/// Runs a short command on one of `executors` for streams after the other, each over a connection of its own.
pub(super) async fn newcomers(
    server: Server,
    executors: usize,
    stop: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
) -> Result<()> {
    while !stop.load(Ordering::Relaxed) {
        let id = format!("relay-{}", fastrand::usize(..executors));
        let newcomer = async {
            let executor = server.executor(&ExecutorId::parse(&id)?, CONNECT, |_, _| {}).await?;
            let mut process = executor.start(&Command::new(["true"])).await?;
            while process.next().await?.is_some() {}
            ensure!(process.exit_code() == Some(0), "it ended with {:?}", process.exit_code());
            executor.close().await;
            anyhow::Ok(())
        };
        timeout(2 * CONNECT, newcomer)
            .await
            .context("it does not end")
            .flatten()
            .with_context(|| format!("newcomer at {id}"))?;
        served.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
