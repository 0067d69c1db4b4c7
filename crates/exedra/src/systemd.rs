//! systemd, or whatever else starts us by its protocol: the socket that it holds for us, and what it is told of our state.
//!
//! In flow file descriptors and the variables that announce them, out flow a listener and datagrams. Without such a
//! manager there is no listener, and nothing is told to nobody.

use std::convert::Infallible;
use std::net::TcpListener;

use listenfd::ListenFd;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::sockopt::socket_acceptconn;
use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;

use crate::exit::Failure;

/// The listening socket that was opened for us, if there is one. It outlives us, so that whoever connects while we
/// restart waits instead of being refused.
///
/// # Errors
/// What was opened is no single TCP listener.
pub fn listener() -> Result<Option<TcpListener>, Failure> {
    let mut given = ListenFd::from_env();
    let refused = |what: String| {
        Failure::usage(what, "give the unit one ListenStream= with an address and a port, and Accept=no")
    };
    match given.len() {
        0 => return Ok(None),
        1 => {}
        many => return Err(refused(format!("{many} sockets were opened for this program, and it serves one"))),
    }
    let listener = given
        .take_tcp_listener(0)
        .map_err(|error| refused(format!("the socket that was opened for this program cannot be used: {error}")))?;
    if let Some(listener) = &listener {
        if !socket_acceptconn(listener).map_err(std::io::Error::from)? {
            return Err(refused("the socket that was opened for this program is a connection, not a listener".into()));
        }
        // Whoever held it had to leave the descriptor open over `exec`; it goes no further.
        fcntl_setfd(listener, FdFlags::CLOEXEC).map_err(std::io::Error::from)?;
    }
    Ok(listener)
}

/// The server serves, and this process is the one to look after.
pub fn ready() {
    tell(&[NotifyState::MainPid(std::process::id()), NotifyState::Ready]);
}

/// The server is about to end.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Says that we are alive, as often as was asked for, until another process is the one to look after; never returns. It
/// has to run where the work runs, so that it stops when that does.
pub async fn watchdog(until: &CancellationToken) -> Infallible {
    let Some(limit) = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero()) else {
        return std::future::pending().await;
    };
    let mut ticks = tokio::time::interval(limit / 2);
    let say = async {
        loop {
            ticks.tick().await;
            tell(&[NotifyState::Watchdog]);
        }
    };
    match until.run_until_cancelled(say).await {
        Some(never) => never,
        None => std::future::pending().await,
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}
