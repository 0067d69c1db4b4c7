//! Keeps a session over breaks: serves one connection after the other, and seeks the next when one is lost.
//!
//! In flow connections, from whoever knows how to dial, out flow events and the state of the line. What happened during a
//! break comes from the executor by itself where output is confirmed; from any other it is read, by the rules that stock
//! clients follow: `process/read` after the last event that was given. A session that is gone ends the line. No command is
//! ever repeated here.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use exedra_link::connection::Connection;
use exedra_link::error::Disconnect;
use exedra_link::peer::Events;
use exedra_proto::close::CloseReason;
use exedra_proto::ids::{ProcessId, SessionId};
use exedra_proto::method::{Method as _, ProcessRead};
use exedra_proto::process::{ReadParams, ReadResult};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;

use crate::error::{Error, Loss};
use crate::intake::{Arrival, Shared, Snapshot};
use crate::line::{State, Up};
use crate::opening::{Introduction, Opened, SESSION_TIMEOUT};
use crate::patience::Patience;
use crate::receipts;
use crate::routes::{Route, Routes};

/// A connection that is being made.
pub type Dialling = Pin<Box<dyn Future<Output = Result<Connection, Error>> + Send>>;

/// How another connection is had after a break.
pub struct Recovery {
    /// How long another is sought.
    pub budget: Duration,
    /// Dials; it is told what is left of the budget.
    pub redial: Box<dyn Fn(Duration) -> Dialling + Send + Sync>,
    /// Nobody is between us and the executor: when it says that it goes, its sessions go with it.
    pub direct: bool,
}

impl Recovery {
    /// Whether a connection that ended so may have a successor. With an executor that ends, its sessions end too.
    fn is_worth_it(&self, lost: &Disconnect) -> bool {
        let executor_ends = match lost.reason() {
            Some(CloseReason::PeerLeaving) => true,
            Some(CloseReason::GoingAway) => self.direct,
            _ => false,
        };
        lost.is_retryable() && !executor_ends
    }
}

impl fmt::Debug for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recovery").field("budget", &self.budget).finish_non_exhaustive()
    }
}

/// The one who keeps it.
pub(crate) struct Keeper {
    pub(crate) state: watch::Sender<State>,
    pub(crate) routes: Arc<Routes>,
    pub(crate) session: SessionId,
    pub(crate) introduction: Introduction,
    pub(crate) recovery: Option<Recovery>,
}

impl Keeper {
    /// Serves until there is no connection any more.
    pub(crate) async fn run(self, mut up: Up, mut events: Events) {
        loop {
            let lost = self.serve(&up, events).await;
            let Some(recovery) = self.recovery.as_ref().filter(|recovery| recovery.is_worth_it(&lost)) else {
                return self.end(Loss::of(lost));
            };
            tracing::info!(reason = %lost, "the connection was lost; seeking another");
            self.state.send_replace(State::Down(lost.clone()));
            let Opened { client, extension, events: more, .. } = match self.mend(recovery).await {
                Ok(opened) => opened,
                Err(error) => return self.end(Loss::for_good(lost, error)),
            };
            tracing::info!("the session was resumed");
            up = Up { client, extension, number: up.number + 1 };
            events = more;
            if !up.extension.ack {
                self.routes.processes().iter().for_each(|(_, route)| route.shared.mend(up.number));
            }
            self.state.send_replace(State::Up(up.clone()));
        }
    }

    fn end(&self, loss: Loss) {
        self.routes.end(loss.clone());
        self.state.send_replace(State::Ended(loss));
    }

    /// Passes on what comes on `up`, and fills in what did not, until the connection ends.
    async fn serve(&self, up: &Up, events: Events) -> Disconnect {
        let filling = async {
            if up.number > 0 {
                let filled: FuturesUnordered<_> =
                    self.routes.processes().into_iter().map(|(id, route)| fill(up, id, route)).collect();
                filled.collect::<()>().await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            lost = self.routes.run(events, up) => lost,
            () = filling => Disconnect::Dropped,
            never = self.routes.tell_unfollowed(up) => match never {},
        }
    }

    async fn mend(&self, recovery: &Recovery) -> Result<Opened, Error> {
        let mut patience = Patience::new(recovery.budget, Instant::now());
        loop {
            let error = match self.attempt(recovery, patience.left(Instant::now())).await {
                Ok(opened) => return Ok(opened),
                Err(error) => error,
            };
            tracing::debug!(%error, "no other connection yet");
            match patience.pause(error.retry_after(), Instant::now()) {
                Some(pause) if error.is_retryable() => tokio::time::sleep(pause).await,
                _ => return Err(error),
            }
        }
    }

    async fn attempt(&self, recovery: &Recovery, left: Duration) -> Result<Opened, Error> {
        let limit = left.max(Duration::from_secs(1));
        let dialled = tokio::time::timeout(limit, (recovery.redial)(left)).await;
        let connection = dialled.map_err(|_| Error::NoSession(limit))??;
        self.introduction.open(connection, Some(&self.session), SESSION_TIMEOUT.min(limit)).await
    }
}

/// Has what happened to a process during the break. Whoever confirms gets it by itself, and only says what is there.
async fn fill(up: &Up, id: ProcessId, route: Route) {
    if up.extension.ack {
        return receipts::send(up, id, route.shared.seen()).await;
    }
    let last = match last_answer(up, &id, &route.shared).await {
        // The next connection has the same to do.
        Err(error) if error.is_loss() => return,
        last => last.map_err(|error| Error::NotRecovered(error.to_string())),
    };
    // What was kept stays so until there is room, for this may be cancelled. Nobody may follow the process any more.
    let Ok(room) = route.sender.reserve().await else { return };
    room.send(match last {
        Ok(last) => Arrival::Snapshot(up.number, route.shared.complete(last)),
        Err(error) => Arrival::Lost(error),
    });
}

/// The answer that nothing follows; those before it are kept.
async fn last_answer(up: &Up, id: &ProcessId, shared: &Shared) -> Result<ReadResult, Error> {
    loop {
        let after_seq = Some(shared.known());
        let params = ReadParams { process_id: id.clone(), after_seq, max_bytes: None, wait_ms: Some(0) };
        let answer = up.client.call::<ProcessRead>(&params).await;
        let answer = answer.map_err(|error| Error::of_call(ProcessRead::NAME, error))?;
        if !Snapshot::may_lack(&answer) {
            return Ok(answer);
        }
        shared.keep(answer);
    }
}
