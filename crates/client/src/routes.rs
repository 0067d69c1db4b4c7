//! Where the events of a line go: to the process or the body that they name.
//!
//! In flow the events of one connection after the other, out flow the same events, one queue per receiver. A receiver is
//! entered before the request that makes the peer send to it, because events may overtake the answer. Bodies and watches end
//! with their connection, processes with the last one. Knows no order.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use exedra_link::error::Disconnect;
use exedra_link::peer::{Event, Events};
use exedra_proto::http::BodyDeltaParams;
use exedra_proto::ids::ProcessId;
use exedra_proto::method::ServerEvent;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::error::Loss;
use crate::inbox::Numbered as _;
use crate::intake::{Arrival, Intake, Shared};
use crate::line::Up;
use crate::receipts;

/// Events waiting for one receiver: 64. When it is full the connection is not read, so that the peer waits; a receiver
/// that is not read therefore stalls the others of its connection, and one that is dropped stalls nobody.
const QUEUE: usize = 64;

/// The receivers of one line.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    state: Mutex<State>,
    unfollowed: Notify,
}

#[derive(Debug, Default)]
struct State {
    processes: HashMap<ProcessId, Route>,
    bodies: HashMap<String, mpsc::Sender<BodyDeltaParams>>,
    watch: Option<(u64, oneshot::Sender<()>)>,
    /// Processes that were dropped before their end, of which the executor does not know that nobody wants their output.
    unfollowed: Vec<ProcessId>,
    last_number: u64,
    /// How the latest connection ended.
    broken: Option<Disconnect>,
    ended: Option<Loss>,
}

/// The way to one process.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    /// Where its events go.
    pub(crate) sender: mpsc::Sender<Arrival>,
    /// What is known of the other end.
    pub(crate) shared: Arc<Shared>,
}

impl Routes {
    /// Enters a process.
    pub(crate) fn process(&self, id: &ProcessId) -> Intake {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let shared = Arc::new(Shared::default());
        let mut state = self.state();
        if state.ended.is_none() {
            state.processes.insert(id.clone(), Route { sender, shared: Arc::clone(&shared) });
        }
        Intake::new(id.clone(), receiver, shared)
    }

    /// All processes that are entered.
    pub(crate) fn processes(&self) -> Vec<(ProcessId, Route)> {
        self.state().processes.iter().map(|(id, route)| (id.clone(), route.clone())).collect()
    }

    /// Enters a streamed body.
    pub(crate) fn body(&self, request: &str) -> mpsc::Receiver<BodyDeltaParams> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let mut state = self.state();
        if state.ended.is_none() {
            state.bodies.insert(request.to_owned(), sender);
        }
        receiver
    }

    /// A number that this connection has not used for a handle or a watch; later ones are greater.
    pub(crate) fn next_number(&self) -> u64 {
        let mut state = self.state();
        state.last_number += 1;
        state.last_number
    }

    /// Enters a watch, in place of the one before.
    pub(crate) fn watch(&self, id: u64) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.state();
        if state.ended.is_none() && state.watch.as_ref().is_none_or(|(latest, _)| *latest < id) {
            state.watch = Some((id, sender));
        }
        receiver
    }

    /// Forgets a process; what still comes for it is thrown away. Unless it is `done`, the executor is to know.
    pub(crate) fn forget_process(&self, id: &ProcessId, done: bool) {
        let mut state = self.state();
        state.processes.remove(id);
        if !done && state.ended.is_none() {
            state.unfollowed.push(id.clone());
            self.unfollowed.notify_one();
        }
    }

    /// Forgets a body; what still comes of it is thrown away.
    pub(crate) fn forget_body(&self, request: &str) {
        self.state().bodies.remove(request);
    }

    /// Why there is no connection any more. Processes see their queue end after this is known.
    pub(crate) fn loss(&self) -> Loss {
        self.state().ended.clone().unwrap_or_else(|| Loss::of(Disconnect::Dropped))
    }

    /// Why the latest connection ended. Bodies see their queue end after this is known.
    pub(crate) fn broken(&self) -> Loss {
        Loss::of(self.state().broken.clone().unwrap_or(Disconnect::Dropped))
    }

    /// Passes the events of one connection on until it ends, and says how it did.
    pub(crate) async fn run(&self, mut events: Events, up: &Up) -> Disconnect {
        while let Some(event) = events.next().await {
            match event {
                Event::Server(event) => self.deliver(event, up).await,
                Event::Complaint(error) => tracing::warn!(%error, "the executor could not read a message of ours"),
                _ => tracing::debug!("an event that nobody waits for"),
            }
        }
        let reason = up.client.finished().await;
        let mut state = self.state();
        state.broken = Some(reason.clone());
        state.bodies.clear();
        state.watch = None;
        reason
    }

    /// There will be no connection any more.
    pub(crate) fn end(&self, loss: Loss) {
        let mut state = self.state();
        state.ended = Some(loss);
        state.processes.clear();
        state.unfollowed.clear();
    }

    /// Tells the executor which processes nobody follows any more, for ever.
    pub(crate) async fn tell_unfollowed(&self, up: &Up) -> std::convert::Infallible {
        loop {
            let unfollowed = std::mem::take(&mut self.state().unfollowed);
            for id in unfollowed {
                receipts::send(up, id, u64::MAX).await;
            }
            self.unfollowed.notified().await;
        }
    }

    async fn deliver(&self, event: ServerEvent, up: &Up) {
        let id = match &event {
            ServerEvent::ProcessOutput(params) => &params.process_id,
            ServerEvent::ProcessExited(params) => &params.process_id,
            ServerEvent::ProcessClosed(params) => &params.process_id,
            ServerEvent::HttpBodyDelta(_) => return self.deliver_body(event).await,
            ServerEvent::FsMissingChanged(params) => return self.deliver_change(params.watch_id),
        };
        let receiver = self.state().processes.get(id).map(|route| route.sender.clone());
        match receiver {
            // A receiver that was dropped meanwhile wants no more events.
            Some(receiver) => drop(receiver.send(Arrival::Event(event)).await),
            // Nobody follows it, and it must not wait for that.
            None => receipts::send(up, id.clone(), event.seq()).await,
        }
    }

    async fn deliver_body(&self, event: ServerEvent) {
        let ServerEvent::HttpBodyDelta(delta) = event else { return };
        let receiver = self.state().bodies.get(&delta.request_id).cloned();
        if let Some(receiver) = receiver {
            let _ = receiver.send(delta).await;
        }
    }

    fn deliver_change(&self, id: u64) {
        let watch = self.state().watch.take_if(|(watch, _)| *watch == id);
        // Who waits may have given up.
        let _ = watch.map(|(_, changed)| changed.send(()));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
