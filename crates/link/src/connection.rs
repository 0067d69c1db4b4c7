//! A connection: messages out through a [`Sender`], messages in through a [`Receiver`], and one reason why it ended.
//!
//! Every transport (`ws`, `stdio`, `memory`) makes its connections out of the parts here and runs a driver between them
//! and its socket. Both directions are bounded; a full one makes the other side wait, down to the peer's own socket.
//! What a message says is no business of this module.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use exedra_proto::close::CloseReason;
use futures_util::FutureExt as _;
use tokio::sync::{SetOnce, watch};
use tokio::task::JoinSet;

use crate::error::Disconnect;
use crate::message::Message;
use crate::probe::{self, Life};
use crate::queue;

/// Room for outgoing messages between senders and the driver, in bytes (each message counts 1 KiB at least): when it is
/// full, [`Sender::send`] waits; nothing is dropped. A larger message waits until it is alone.
pub const OUTGOING_BYTES: usize = 256 * 1024;
/// Room for incoming messages between the driver and the receiver, in bytes (each message counts 1 KiB at least): when it
/// is full, the driver holds one message in hand and stops reading the socket, so that the peer waits.
pub const INCOMING_BYTES: usize = 256 * 1024;

/// How long an orderly close may take, from [`Sender::close`] to the end: sending what is queued, the goodbye, its answer.
pub const CLOSE_DEADLINE: Duration = Duration::from_secs(5);

/// Both halves of a connection. Dropping it (or its receiver) ends the connection at once, without a goodbye.
#[derive(Debug)]
pub struct Connection {
    /// Messages to the peer.
    pub sender: Sender,
    /// Messages from the peer; owns the connection's tasks.
    pub receiver: Receiver,
}

/// Sends messages to the peer. Clones send to the same peer, and keep nothing alive.
#[derive(Clone, Debug)]
pub struct Sender {
    queue: queue::Tx<Outgoing>,
    marks: Option<Marks>,
    sent: Arc<AtomicU64>,
    close: Closing,
    asker: probe::Asker,
    outcome: Outcome,
}

/// What goes through the queue to a driver.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// To be sent.
    Message(Message),
    /// To be sent behind it, so that the peer says when it has read as far. Only drivers that can do so get one.
    Mark(u64),
}

impl Outgoing {
    /// The message, if it is one.
    pub(crate) fn message(self) -> Option<Message> {
        match self {
            Self::Message(message) => Some(message),
            Self::Mark(_) => None,
        }
    }
}

/// Numbers for marks, and what was answered.
#[derive(Clone, Debug)]
struct Marks {
    last: Arc<AtomicU64>,
    answered: watch::Receiver<u64>,
}

/// Receives messages from the peer, and owns the connection: when it is dropped, the connection is gone at once.
#[derive(Debug)]
pub struct Receiver {
    queue: queue::Rx<Message>,
    outcome: Outcome,
    tasks: JoinSet<()>,
}

/// What the driver of a transport works with.
#[derive(Debug)]
pub(crate) struct Ends {
    /// What to send to the peer.
    pub(crate) outgoing: queue::Rx<Outgoing>,
    /// Where messages of the peer go.
    pub(crate) incoming: queue::Tx<Message>,
    /// Turns to a reason when somebody wants the connection closed, after what is queued.
    pub(crate) close: Closing,
    /// Where to say that nothing more will arrive, while there may still be something to send.
    pub(crate) told: Told,
    /// Questions whether the peer lives, from whoever must know at once. A driver that cannot ask it drops them.
    pub(crate) probes: probe::Probes,
}

/// The reason why a connection ended, as its driver tells it. The first one counts.
#[derive(Clone, Debug)]
pub(crate) struct Told(Arc<SetOnce<Disconnect>>);

impl Told {
    pub(crate) fn tell(&self, reason: Disconnect) {
        let _ = self.0.set(reason);
    }
}

/// Tells that the connection was dropped, when its driver is gone and has told nothing.
struct Last(Told);

impl Drop for Last {
    fn drop(&mut self) {
        self.0.tell(Disconnect::Dropped);
    }
}

/// The wish to close, as the driver sees it.
#[derive(Clone, Debug)]
pub(crate) struct Closing(Arc<SetOnce<CloseReason>>);

impl Closing {
    /// Waits until somebody wants the connection closed; for ever if nobody can any more.
    pub(crate) async fn wanted(&self) -> CloseReason {
        *self.0.wait().await
    }

    /// The wish, if there is one by now.
    pub(crate) fn asked(&self) -> Option<CloseReason> {
        self.0.get().copied()
    }

    /// Waits until a close that was wanted has taken longer than [`CLOSE_DEADLINE`].
    pub(crate) async fn overdue(&self) -> CloseReason {
        let reason = self.wanted().await;
        tokio::time::sleep(CLOSE_DEADLINE).await;
        reason
    }
}

/// Why the connection ended, once it has.
#[derive(Clone, Debug)]
struct Outcome(Arc<SetOnce<Disconnect>>);

impl Outcome {
    fn now(&self) -> Option<Disconnect> {
        self.0.get().cloned()
    }

    /// Waits for it.
    async fn told(&self) -> Disconnect {
        self.0.wait().await.clone()
    }
}

impl Connection {
    /// A connection whose `driver` runs until the connection ends, and then says why.
    pub(crate) fn spawn<F, D>(driver: D) -> Self
    where
        D: FnOnce(Ends) -> F,
        F: Future<Output = Disconnect> + Send + 'static,
    {
        Self::start(driver, None)
    }

    /// The same with a driver that sends marks, and tells which count as answered.
    pub(crate) fn spawn_marking<F, D>(driver: D) -> Self
    where
        D: FnOnce(Ends, watch::Sender<u64>) -> F,
        F: Future<Output = Disconnect> + Send + 'static,
    {
        let (tell, answered) = watch::channel(0);
        Self::start(|ends| driver(ends, tell), Some(Marks { last: Arc::default(), answered }))
    }

    fn start<F, D>(driver: D, marks: Option<Marks>) -> Self
    where
        D: FnOnce(Ends) -> F,
        F: Future<Output = Disconnect> + Send + 'static,
    {
        let (out_tx, out_rx) = queue::channel(OUTGOING_BYTES);
        let (in_tx, in_rx) = queue::channel(INCOMING_BYTES);
        let close = Closing(Arc::new(SetOnce::new()));
        let outcome = Outcome(Arc::new(SetOnce::new()));
        let last = Last(Told(Arc::clone(&outcome.0)));
        let (asker, probes) = probe::channel();
        let ends = Ends { outgoing: out_rx, incoming: in_tx, close: close.clone(), told: last.0.clone(), probes };
        let driver = driver(ends);
        let mut tasks = JoinSet::new();
        // An async block would have room for the driver twice.
        tasks.spawn(driver.map(move |reason| {
            tracing::debug!(%reason, "connection ended");
            last.0.tell(reason);
        }));
        let sent = Arc::new(AtomicU64::new(0));
        let sender = Sender { queue: out_tx, marks, sent, close, asker, outcome: outcome.clone() };
        Self { sender, receiver: Receiver { queue: in_rx, outcome, tasks } }
    }

    /// Closes in good order and waits for the end; what is still queued is sent first, what arrives is thrown away.
    pub async fn shutdown(mut self, reason: CloseReason) -> Disconnect {
        self.sender.close(reason);
        self.receiver.finished().await
    }
}

impl Sender {
    /// Queues `message`; waits while the queue is full.
    ///
    /// That it was queued does not mean that the peer got it. Cancelling the wait queues nothing.
    ///
    /// # Errors
    /// The connection ended, or is being closed.
    pub async fn send(&self, message: impl Into<Message>) -> Result<(), Disconnect> {
        let message = message.into();
        let bytes = message.len();
        self.put(Outgoing::Message(message), bytes).await?;
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Whether the peer can be made to say how far it has read: see [`Self::mark`].
    pub fn marks(&self) -> bool {
        self.marks.is_some()
    }

    /// Puts a mark behind what was sent so far, whose number rises. It is [answered](Self::answered) once the peer's
    /// end of the connection has read as far.
    ///
    /// # Errors
    /// The connection ended, or is being closed.
    pub async fn mark(&self) -> Result<u64, Disconnect> {
        let Some(marks) = &self.marks else { return Ok(0) };
        let number = marks.last.fetch_add(1, Ordering::Relaxed) + 1;
        self.put(Outgoing::Mark(number), 0).await?;
        Ok(number)
    }

    /// Waits until a mark beyond `number` was answered, and tells the latest; the largest number once the peer is found to
    /// answer none. For ever where there are no marks, or when the connection has ended.
    pub async fn answered(&self, number: u64) -> u64 {
        if let Some(Marks { answered, .. }) = &self.marks
            && let Ok(answered) = answered.clone().wait_for(|answered| *answered > number).await
        {
            return *answered;
        }
        std::future::pending().await
    }

    async fn put(&self, outgoing: Outgoing, bytes: usize) -> Result<(), Disconnect> {
        if let Some(reason) = self.close.asked() {
            return Err(self.outcome.now().unwrap_or(Disconnect::LocalClose(reason)));
        }
        match self.queue.send(outgoing, bytes).await {
            Ok(()) => Ok(()),
            Err(queue::Closed) => Err(self.outcome.told().await),
        }
    }

    /// Queues `message` if there is room at once, and tells whether it did.
    pub fn try_send(&self, message: impl Into<Message>) -> bool {
        let message = message.into();
        let bytes = message.len();
        let sent = self.close.asked().is_none() && self.queue.try_send(Outgoing::Message(message), bytes);
        if sent {
            self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
        }
        sent
    }

    /// Bytes of all messages that were queued on this connection so far.
    pub fn sent_bytes(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Closes the connection after what is queued, with a goodbye that tells `reason`. The first reason counts.
    ///
    /// It takes at most [`CLOSE_DEADLINE`]; [`Receiver::finished`] waits for it.
    pub fn close(&self, reason: CloseReason) {
        let _ = self.close.0.set(reason);
    }

    /// Asks the peer for a sign of life, and waits at most `limit` for one.
    pub async fn probe(&self, limit: Duration) -> Life {
        match self.asker.ask(limit).await {
            _ if self.outcome.now().is_some() => Life::Silent,
            Some(life) => life,
            None => Life::Unknown,
        }
    }

    /// Waits until the connection has ended, and tells why. Somebody must receive meanwhile.
    pub async fn ended(&self) -> Disconnect {
        self.outcome.told().await
    }

    /// Why the connection ended; none while it lasts.
    pub fn disconnect(&self) -> Option<Disconnect> {
        self.outcome.now()
    }
}

impl Receiver {
    /// The next message. Cancelling the wait loses none.
    ///
    /// While nobody calls this, the queue fills up and then the socket is not read: the peer has to wait.
    ///
    /// # Errors
    /// Why the connection ended, after the last message that arrived, and again on every further call.
    pub async fn recv(&mut self) -> Result<Message, Disconnect> {
        match self.queue.recv().await {
            Some(message) => Ok(message),
            None => Err(self.outcome.told().await),
        }
    }

    /// Waits for the end of the connection, in both directions; messages that still arrive are thrown away.
    pub async fn finished(&mut self) -> Disconnect {
        while self.queue.recv().await.is_some() {}
        while self.tasks.join_next().await.is_some() {}
        self.outcome.told().await
    }
}
