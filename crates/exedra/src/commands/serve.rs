//! `exedra serve`: registry and rendezvous until somebody stops them.
//!
//! In flow the flags, out flows the server's URL on stdout, and then nothing but the log.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use exedra_executor::listen::tls::Tls;
use exedra_registry::{PublicUrl, RateLimits};
use serde::Serialize;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::filter::LevelFilter;

use crate::cli::ServeArgs;
use crate::exit::{Exit, Failure};
use crate::plane::{Front, Listen, Plane, PlaneConfig, Predecessor, Program, Proxies};
use crate::signals::{Signals, Stop};
use crate::{log, output, runtime, settings, systemd};

/// Over how long connections are closed at the end, so that not all come back at once.
const DRAIN_WINDOW: Duration = Duration::from_secs(2);

/// One day.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What `--json` prints.
#[derive(Serialize)]
struct Serving<'a> {
    server: &'a str,
    pid: u32,
}

/// Serves until a signal.
///
/// # Errors
/// It could not start.
pub fn run(args: ServeArgs) -> Result<Exit, Failure> {
    log::init(LevelFilter::INFO)?;
    let public_url = match args.public_url.as_deref().map(PublicUrl::parse).transpose() {
        Ok(url) => url,
        Err(error) => {
            return Err(Failure::usage(error.to_string(), "write it as https://HOST or http://HOST:PORT"));
        }
    };
    let tls = match (args.tls_cert, args.tls_key) {
        (Some(certificate), Some(key)) => Some(Arc::new(Tls::load(certificate, key)?)),
        _ => None,
    };
    let config = PlaneConfig {
        listen: listen(args.listen)?,
        data_dir: settings::data_dir(args.data_dir)?,
        public_url,
        purpose: "exedra serve",
        bind_keys: args.bind_key,
        rates: RateLimits {
            per_token: NonZeroU32::new(args.rate_per_token),
            per_address: NonZeroU32::new(args.rate_per_address),
        },
        aws_region: Some(args.aws_region),
        access_keep: DAY * args.access_log_keep,
        drain_window: DRAIN_WINDOW,
        metrics: args.metrics,
        workloads: args.workloads,
        otlp: args.otlp,
        front: Front {
            tls,
            proxies: Proxies { networks: args.trusted_proxy, header: args.proxy_header },
            connections_each: args.max_connections_per_address.map(|each| usize::try_from(each).unwrap_or(usize::MAX)),
            ..Front::default()
        },
    };
    runtime::full(serve(config, args.json))
}

/// Where to serve: in the place of the server that started us, or at the socket that was opened for us, or where we were
/// told.
fn listen(address: SocketAddr) -> Result<Listen, Failure> {
    if let Some(predecessor) = Predecessor::find()? {
        return Ok(Listen::After(predecessor));
    }
    Ok(systemd::listener()?.map_or(Listen::At(address), Listen::Held))
}

async fn serve(config: PlaneConfig, json: bool) -> Result<Exit, Failure> {
    let program = Program::this()?;
    let mut signals = Signals::listen()?;
    let mut handovers = signal(SignalKind::user_defined2())?;
    let is_first = !matches!(config.listen, Listen::After(_));
    let tls = config.front.tls.clone();
    let hangup = signals.take_hangup()?;
    let plane = tokio::select! {
        plane = Plane::start(config) => plane?,
        _ = signals.next() => return Ok(Exit::Success),
    };
    // Whoever reads stdout has read it already where the server is not the first.
    if is_first && json {
        output::json(&Serving { server: plane.url(), pid: std::process::id() })?;
    } else if is_first {
        output::line(plane.url())?;
    }
    systemd::ready();
    let succeeded = CancellationToken::new();
    tokio::select! {
        done = until_the_end(plane, &program, (&mut signals, &mut handovers), (tls, hangup), &succeeded) => done,
        never = systemd::watchdog(&succeeded) => match never {},
    }
}

async fn until_the_end(
    plane: Plane,
    program: &Program,
    (signals, handovers): (&mut Signals, &mut Signal),
    (tls, mut hangup): (Option<Arc<Tls>>, Signal),
    succeeded: &CancellationToken,
) -> Result<Exit, Failure> {
    loop {
        let wish = tokio::select! {
            stop = signals.next() => Err(stop),
            _ = hangup.recv() => {
                tracing::info!("certificate and workload rules are read again, as far as there are files of them");
                if let Some(tls) = &tls {
                    tls.reload();
                }
                plane.reload_workloads().await;
                continue;
            }
            _ = handovers.recv() => tokio::select! {
                stop = signals.next() => Err(stop),
                successor = plane.successor(program) => Ok(successor),
            },
        };
        match wish {
            Ok(Ok(successor)) => {
                let stop = async {
                    signals.next().await;
                };
                let remains = plane.retire(successor, stop, succeeded).await;
                return finish(signals.unless_again(remains.shutdown()).await);
            }
            Ok(Err(Failure { error, hint, .. })) => {
                tracing::error!(error = format!("{error:#}"), hint, "not handed over; this server goes on");
            }
            Err(stop) => {
                tracing::info!(?stop, "stopping");
                systemd::stopping();
                return finish(signals.unless_again(plane.shutdown()).await);
            }
        }
    }
}

fn finish(done: Result<(), Stop>) -> Result<Exit, Failure> {
    match done {
        Ok(()) => Ok(Exit::Success),
        Err(stop) => Ok(Exit::Signal(stop.number())),
    }
}
