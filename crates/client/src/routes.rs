//! Where the events of one connection go: to the process or the body that they name.
//!
//! In flow the events of the link, out flow the same events, one queue per receiver. A receiver is entered before the
//! request that makes the peer send to it, because events may overtake the answer. Knows no order and no meaning.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use exedra_link::error::Disconnect;
use exedra_link::peer::{Client, Event, Events};
use exedra_proto::http::BodyDeltaParams;
use exedra_proto::ids::ProcessId;
use exedra_proto::method::ServerEvent;
use tokio::sync::{mpsc, oneshot};

/// Events waiting for one receiver: 64. When it is full the connection is not read, so that the peer waits; a receiver
/// that is not read therefore stalls the others of its connection, and one that is dropped stalls nobody.
const QUEUE: usize = 64;

/// The receivers of one connection.
#[derive(Debug, Default)]
pub(crate) struct Routes(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    processes: HashMap<ProcessId, mpsc::Sender<ServerEvent>>,
    bodies: HashMap<String, mpsc::Sender<BodyDeltaParams>>,
    watch: Option<(u64, oneshot::Sender<()>)>,
    last_number: u64,
    ended: Option<Disconnect>,
}

impl Routes {
    /// Enters a process.
    pub(crate) fn process(&self, id: &ProcessId) -> mpsc::Receiver<ServerEvent> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let mut state = self.state();
        if state.ended.is_none() {
            state.processes.insert(id.clone(), sender);
        }
        receiver
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

    /// Forgets a process; what still comes for it is thrown away.
    pub(crate) fn forget_process(&self, id: &ProcessId) {
        self.state().processes.remove(id);
    }

    /// Forgets a body; what still comes of it is thrown away.
    pub(crate) fn forget_body(&self, request: &str) {
        self.state().bodies.remove(request);
    }

    /// Why the connection ended. Receivers see their queue end after this is known.
    pub(crate) fn ended(&self) -> Disconnect {
        self.state().ended.clone().unwrap_or(Disconnect::Dropped)
    }

    /// Passes events on until the connection ends.
    pub(crate) async fn run(&self, mut events: Events, client: Client) {
        while let Some(event) = events.next().await {
            match event {
                Event::Server(event) => self.deliver(event).await,
                Event::Complaint(error) => tracing::warn!(%error, "the executor could not read a message of ours"),
                _ => tracing::debug!("an event that nobody waits for"),
            }
        }
        let reason = client.finished().await;
        let mut state = self.state();
        state.ended = Some(reason);
        state.processes.clear();
        state.bodies.clear();
        state.watch = None;
    }

    async fn deliver(&self, event: ServerEvent) {
        let id = match &event {
            ServerEvent::ProcessOutput(params) => &params.process_id,
            ServerEvent::ProcessExited(params) => &params.process_id,
            ServerEvent::ProcessClosed(params) => &params.process_id,
            ServerEvent::HttpBodyDelta(_) => return self.deliver_body(event).await,
            ServerEvent::FsMissingChanged(params) => return self.deliver_change(params.watch_id),
        };
        let receiver = self.state().processes.get(id).cloned();
        // A receiver that was dropped meanwhile wants no more events.
        if let Some(receiver) = receiver {
            let _ = receiver.send(event).await;
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
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
