//! The loop around a mux: one websocket on one side, the queues of all its connections on the other.
//!
//! In flow messages and wishes of both sides, out flow what the mux makes of them. For each connection there is at most
//! one message on its way in, and a turn's worth of them on the way out; what is beyond stays in the connection's own
//! queues, or in the mux. Nothing of what happens is decided here.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::time::Instant;

use exedra_proto::close::CloseReason;
use exedra_proto::frame::StreamId;
use exedra_proto::introduction::Introduction;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Accepted, single};
use crate::connection::{Closing, Connection, Ends, Outgoing, Receiver, Sender};
use crate::error::Disconnect;
use crate::message::Message;
use crate::mux::{Event, Key, Limits, Mux, Role};
use crate::queue;

type Pinned<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// One websocket with the streams in it.
pub(super) struct Relay {
    sender: Sender,
    receiver: Receiver,
    mux: Mux,
    lines: HashMap<Key, Line>,
    /// For each line that may say more: what it says next.
    asking: FuturesUnordered<Pinned<Asked>>,
    /// For each line with a message on its way into its queue: whether it got there.
    giving: FuturesUnordered<Pinned<Given>>,
    /// The frame that waits for room on the websocket.
    sending: Option<Pinned<()>>,
    opened: Option<mpsc::Sender<Accepted>>,
    tell: Option<watch::Sender<Option<Disconnect>>>,
    /// Why the websocket has ended.
    ended: Option<Disconnect>,
    /// How a websocket with no stream left is closed; none: it stays, for the next.
    last: Option<CloseReason>,
}

/// The near side of a stream: the queues of its connection.
pub(super) struct Line {
    incoming: queue::Tx<Message>,
    end: oneshot::Sender<Disconnect>,
    /// While the stream has enough to send.
    parked: Option<Outlet>,
    is_giving: bool,
}

/// What a connection wants to say.
pub(super) struct Outlet {
    outgoing: queue::Rx<Outgoing>,
    close: Closing,
    gone: CancellationToken,
}

enum Wish {
    Message(Message),
    Close(CloseReason),
    Gone,
}

struct Asked {
    key: Key,
    outlet: Outlet,
    wish: Wish,
}

struct Given {
    key: Key,
    arrived: bool,
}

enum Step {
    Asked(Asked),
    Given(Given),
    Sent,
    Received(Result<Message, Disconnect>),
    Late,
}

impl Line {
    /// The line of a connection with these queues. Its driver keeps the guard, so that its end is noticed.
    pub(super) fn new(
        outgoing: queue::Rx<Outgoing>,
        incoming: queue::Tx<Message>,
        close: Closing,
        end: oneshot::Sender<Disconnect>,
    ) -> (Self, DropGuard) {
        let gone = CancellationToken::new();
        let here = gone.clone().drop_guard();
        let outlet = Outlet { outgoing, close, gone };
        (Self { incoming, end, parked: Some(outlet), is_giving: false }, here)
    }

    /// A connection with a line of its own.
    fn open() -> (Option<Self>, Connection) {
        let mut line = None;
        let connection = Connection::spawn(|Ends { outgoing, incoming, close, .. }| {
            let (end, ended) = oneshot::channel();
            let overdue = close.clone();
            let (made, here) = Self::new(outgoing, incoming, close, end);
            line = Some(made);
            async move {
                let _here = here;
                tokio::select! {
                    biased;
                    reason = ended => reason.unwrap_or(Disconnect::Dropped),
                    reason = overdue.overdue() => Disconnect::LocalClose(reason),
                }
            }
        });
        (line, connection)
    }
}

impl Outlet {
    async fn next(&mut self) -> Wish {
        tokio::select! {
            biased;
            () = self.gone.cancelled() => Wish::Gone,
            Some(Outgoing::Message(message)) = self.outgoing.recv() => Wish::Message(message),
            reason = self.close.wanted() => Wish::Close(reason),
        }
    }
}

impl Relay {
    /// For an executor's websocket.
    pub(super) fn executor(
        websocket: Connection,
        (told, limits): (bool, Limits),
        opened: mpsc::Sender<Accepted>,
        tell: watch::Sender<Option<Disconnect>>,
    ) -> Self {
        let mut relay = Self::new(websocket, Mux::new(Role::Executor, limits).told(told));
        relay.opened = Some(opened);
        relay.tell = Some(tell);
        relay
    }

    /// For a client's websocket, with the one stream that it has.
    pub(super) fn harness(websocket: Connection, limits: Limits, id: StreamId, line: Line) -> Self {
        let mut relay = Self::new(websocket, Mux::new(Role::Harness, limits));
        let key = relay.mux.open(id, Instant::now());
        relay.lines.insert(key, line);
        relay.ask(key);
        relay.last = Some(CloseReason::PeerDone);
        relay
    }

    fn new(websocket: Connection, mux: Mux) -> Self {
        Self {
            sender: websocket.sender,
            receiver: websocket.receiver,
            mux,
            lines: HashMap::new(),
            asking: FuturesUnordered::new(),
            giving: FuturesUnordered::new(),
            sending: None,
            opened: None,
            tell: None,
            ended: None,
            last: None,
        }
    }

    /// Runs until the websocket has ended and everything that came was given away, or until the one stream of a client
    /// has ended and the websocket is closed.
    pub(super) async fn run(mut self) {
        loop {
            self.follow();
            self.send();
            let is_idle = self.lines.is_empty() && self.sending.is_none();
            if is_idle && self.ended.is_some() {
                break;
            }
            if let Some(reason) = self.last.filter(|_| is_idle) {
                self.sender.close(reason);
                self.receiver.finished().await;
                break;
            }
            match self.step().await {
                Step::Asked(asked) => self.asked(asked),
                Step::Given(given) => self.given(&given),
                Step::Sent => self.sending = None,
                Step::Received(Ok(message)) => self.mux.receive(message, Instant::now()),
                Step::Received(Err(disconnect)) => self.lost(disconnect),
                Step::Late => self.mux.tick(Instant::now()),
            }
        }
        tracing::debug!(counts = ?self.mux.counts(), "relay ended");
    }

    /// What happens next. The branches take turns by chance: each of them could go on without end.
    async fn step(&mut self) -> Step {
        let (lasts, may_read, deadline) = (self.ended.is_none(), self.mux.may_read(), self.mux.deadline());
        tokio::select! {
            Some(given) = self.giving.next() => Step::Given(given),
            () = polled(&mut self.sending) => Step::Sent,
            Some(asked) = self.asking.next() => Step::Asked(asked),
            message = self.receiver.recv(), if lasts && may_read => Step::Received(message),
            disconnect = self.sender.ended(), if lasts && !may_read => Step::Received(Err(disconnect)),
            () = until(deadline) => Step::Late,
        }
    }

    /// Does what the mux has decided.
    fn follow(&mut self) {
        while let Some(event) = self.mux.next_event() {
            match event {
                Event::Opened { key, id, introduction } => self.open(key, id, introduction),
                Event::Arrived { key } => self.give(key),
                Event::Ended { key, reason } => {
                    let Some(line) = self.lines.remove(&key) else { continue };
                    self.last = self.last.map(|_| single::goodbye(&reason));
                    let _ = line.end.send(reason);
                }
            }
        }
    }

    fn open(&mut self, key: Key, id: StreamId, introduction: Option<Introduction>) {
        let (Some(line), connection) = Line::open() else { return };
        tracing::debug!(stream = %id, "stream opened");
        self.lines.insert(key, line);
        self.ask(key);
        let accepted = Accepted { id, connection, introduction };
        let taken = self.opened.as_ref().is_some_and(|opened| opened.try_send(accepted).is_ok());
        if !taken {
            self.abandon(key);
        }
    }

    fn abandon(&mut self, key: Key) {
        self.lines.remove(&key);
        self.mux.abandon(key, Instant::now());
    }

    /// Moves what a stream holds into its connection's queue, as far as there is room.
    fn give(&mut self, key: Key) {
        let Some(line) = self.lines.get_mut(&key).filter(|line| !line.is_giving) else { return };
        while let Some(message) = self.mux.take(key) {
            let bytes = message.len();
            if line.incoming.try_send(message.clone(), bytes) {
                self.mux.given(key, Instant::now());
                continue;
            }
            line.is_giving = true;
            let incoming = line.incoming.clone();
            self.giving.push(Box::pin(async move {
                let arrived = incoming.send(message, bytes).await.is_ok();
                Given { key, arrived }
            }));
            return;
        }
    }

    fn given(&mut self, given: &Given) {
        let Some(line) = self.lines.get_mut(&given.key) else { return };
        line.is_giving = false;
        if given.arrived {
            self.mux.given(given.key, Instant::now());
            self.give(given.key);
        } else {
            self.abandon(given.key);
        }
    }

    /// Asks a line for its next wish, if its stream has room for it.
    fn ask(&mut self, key: Key) {
        let has_room = self.mux.has_room(key);
        let outlet = self.lines.get_mut(&key).filter(|_| has_room).and_then(|line| line.parked.take());
        let Some(mut outlet) = outlet else { return };
        self.asking.push(Box::pin(async move {
            let wish = outlet.next().await;
            Asked { key, outlet, wish }
        }));
    }

    fn asked(&mut self, Asked { key, outlet, wish }: Asked) {
        match wish {
            Wish::Message(message) => {
                self.mux.send(key, message);
                if let Some(line) = self.lines.get_mut(&key) {
                    line.parked = Some(outlet);
                    self.ask(key);
                }
            }
            Wish::Close(reason) => self.mux.close(key, reason),
            Wish::Gone => self.abandon(key),
        }
    }

    /// Moves frames to the websocket, as far as there is room.
    fn send(&mut self) {
        while self.sending.is_none()
            && let Some(outgoing) = self.mux.next_frame()
        {
            let message = Message::Binary(outgoing.frame.encode());
            if !self.sender.try_send(message.clone()) {
                let sender = self.sender.clone();
                self.sending = Some(Box::pin(async move {
                    // The receiver learns why there is nobody to send to.
                    let _ = sender.send(message).await;
                }));
            }
            if let Some(key) = outgoing.from {
                self.ask(key);
            }
        }
        // A closed stream ends with the frame that says so.
        self.follow();
    }

    fn lost(&mut self, disconnect: Disconnect) {
        self.opened = None;
        if let Some(tell) = self.tell.take() {
            tell.send_replace(Some(disconnect.clone()));
        }
        self.mux.lost(&disconnect);
        self.sending = None;
        self.ended = Some(disconnect);
    }
}

async fn polled(sending: &mut Option<Pinned<()>>) {
    match sending {
        Some(sending) => sending.await,
        None => std::future::pending().await,
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
