//! The loop of one connection: messages in, requests put in order and run, answers and notifications out.
//!
//! Requests run inside this one task, side by side; what a method does is not known here, only when it may run and where
//! its answer goes. Two bounds hold the memory of a connection; where one is reached its socket is not read until there
//! is room again. Answers that are still being made are bounded by `dispatch::budget`.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use exedra_host::facts;
use exedra_host::fetch::Fetcher;
use exedra_host::fs::Files;
use exedra_host::process::Delivery;
use exedra_link::{Connection, Disconnect, Message, Receiver, Sender};
use exedra_proto::binary;
use exedra_proto::dialect::Dialect;
use exedra_proto::envelope::{RequestId, RpcError};
use exedra_proto::ids::SessionId;
use exedra_proto::method;
use exedra_proto::process::AckParams;
use exedra_proto::session::{ExedraOne, Extensions, InitializeParams, InitializeResult};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use crate::audit::{Audit, Record};
use crate::dispatch::audited::{Witness, audited};
use crate::dispatch::bounds;
use crate::dispatch::budget::{Pool, Share};
use crate::dispatch::errors;
use crate::dispatch::gate::Gate;
use crate::dispatch::incoming::{self, Incoming};
use crate::dispatch::order::{Order, Ticket};
use crate::dispatch::reply::{LARGE, encode, refusal};
use crate::dispatch::rights;
use crate::dispatch::route::{self, Context, Follow, Job};
use crate::peer::{Client, Peer};
use crate::refusals::Why;
use crate::session::attach::Attachment;
use crate::session::holder::Holder;
use crate::session::outbox::{Hold, Holds, Outbox};
use crate::session::{Session, Sessions};

/// Requests of one connection that may be unanswered: what a stock client has in flight, and one to clean up. Above it the
/// socket is not read.
const MAX_IN_FLIGHT: usize = 1_025;
/// What unanswered requests and unsent answers of one connection may take, in bytes as JSON. Above it the socket is not
/// read; the message that passes it is still served.
const MAX_HELD: usize = 128 * 1024 * 1024;
/// Up to here, in bytes, a message of mostly base64 is decoded at once: it takes less time than to hand it to somebody else.
const BULK: usize = 2 * LARGE;

type Pinned<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// One connection. What works on the session goes down before the hold on it.
pub struct Service {
    running: FuturesUnordered<Pinned<Done>>,
    sending: FuturesUnordered<Pinned<Sent>>,
    bodies: FuturesUnordered<Pinned<()>>,
    outbox: Option<Pinned<Disconnect>>,
    waiting: HashMap<Ticket, Request>,
    order: Order,
    holds: Holds,
    held: usize,
    gate: Gate,
    agreed: ExedraOne,
    dialect: Dialect,
    context: Option<Context>,
    attachment: Option<Attachment>,
    sessions: Arc<Sessions>,
    fetcher: Arc<Fetcher>,
    pool: Pool,
    holder: Holder,
    peer: Peer,
    /// Of the client's token.
    labels: Option<Vec<String>>,
    spoke: bool,
    received: u64,
    sender: Sender,
    receiver: Receiver,
}

/// A job, and the length of the message that asked for it.
struct Request {
    job: Job,
    bytes: usize,
}

/// A request whose job has run.
struct Done {
    ticket: Ticket,
    bytes: usize,
    served: route::Served,
    hold: Option<Hold>,
}

/// An answer that is in the connection's queue, or that nobody will get.
struct Sent {
    bytes: usize,
    after: After,
}

/// What is given back when an answer is in the connection's queue, or nobody wants it any more.
#[derive(Default)]
struct Kept {
    #[expect(dead_code, reason = "holds until it is dropped")]
    hold: Option<Hold>,
    #[expect(dead_code, reason = "holds until it is dropped")]
    share: Share,
}

/// What follows an answer.
enum After {
    Nothing,
    More(Follow),
    Events(Arc<Session>),
}

enum Step {
    Done(Done),
    Sent(Sent),
    Message(Result<Message, Disconnect>),
    Nothing,
}

impl Service {
    /// For a connection on which nothing has happened yet.
    pub fn new(
        connection: Connection,
        (peer, client): (Peer, &Client),
        sessions: Arc<Sessions>,
        fetcher: Arc<Fetcher>,
        pool: Pool,
    ) -> Self {
        Self {
            running: FuturesUnordered::new(),
            sending: FuturesUnordered::new(),
            bodies: FuturesUnordered::new(),
            outbox: None,
            waiting: HashMap::new(),
            order: Order::default(),
            holds: Holds::default(),
            held: 0,
            gate: Gate::default(),
            agreed: ExedraOne::default(),
            dialect: Dialect::default(),
            context: None,
            attachment: None,
            holder: Holder::new(sessions.number_connection(), connection.sender.clone(), client.rights),
            sessions,
            fetcher,
            pool,
            peer,
            labels: client.labels.clone(),
            spoke: false,
            received: 0,
            sender: connection.sender,
            receiver: connection.receiver,
        }
    }

    /// Whether anything came from the client.
    pub fn has_spoken(&self) -> bool {
        self.spoke
    }

    /// Whether the client opened or resumed a session.
    pub fn has_opened(&self) -> bool {
        self.gate != Gate::New
    }

    /// The connection as the sessions see it.
    pub fn holder(&self) -> &Holder {
        &self.holder
    }

    /// Bytes of messages that came, and that were handed to the connection.
    pub fn traffic(&self) -> (u64, u64) {
        (self.received, self.sender.sent_bytes())
    }

    /// Gives the session back, and what is left of the connection.
    pub fn detach(self) -> (Sender, Receiver) {
        (self.sender, self.receiver)
    }

    /// Serves until the connection ends.
    pub async fn run(&mut self) -> Disconnect {
        loop {
            match self.step().await {
                Step::Done(done) => self.finish(done).await,
                Step::Sent(sent) => self.sent(sent),
                Step::Message(Ok(message)) => self.take(message).await,
                Step::Message(Err(disconnect)) => return disconnect,
                Step::Nothing => {}
            }
        }
    }

    /// What happens next. What frees memory comes first, what takes some last; the parts that could go on without end
    /// yield by themselves.
    async fn step(&mut self) -> Step {
        let may_read = self.may_read();
        tokio::select! {
            biased;
            Some(done) = self.running.next() => Step::Done(done),
            Some(sent) = self.sending.next() => Step::Sent(sent),
            Some(()) = self.bodies.next() => Step::Nothing,
            _ = polled(&mut self.outbox) => {
                // The receiver knows why, too, and has the messages that came before.
                self.outbox = None;
                Step::Nothing
            }
            message = self.receiver.recv(), if may_read => Step::Message(message),
            disconnect = self.sender.ended(), if !may_read => Step::Message(Err(disconnect)),
        }
    }

    fn may_read(&self) -> bool {
        self.order.unfinished() + self.sending.len() < MAX_IN_FLIGHT && self.held < MAX_HELD
    }

    async fn take(&mut self, message: Message) {
        self.spoke = true;
        let bytes = message.len();
        self.received += bytes as u64;
        let job = match decode(message, self.agreed, self.dialect, self.peer).await {
            Incoming::Request(id, request) => match (*request).and_then(bounds::checked) {
                Ok(method::Request::Initialize(params)) => return Box::pin(self.initialize(id, params)).await,
                Ok(request) => {
                    self.dialect.observe(&request);
                    match route::unwrapped(request) {
                        Ok(request) => self.job(id, request),
                        Err(error) => route::refuse(id, error),
                    }
                }
                Err(error) => route::refuse(id, error),
            },
            Incoming::Ack(params) => return self.acknowledge(&params),
            Incoming::Initialized => match self.gate.confirm() {
                Ok(()) => return,
                Err(error) => route::refuse(RequestId::UNKNOWN, error),
            },
            Incoming::Odd(error) => {
                tracing::debug!(peer = %self.peer, error = ?error.message, "odd message");
                route::refuse(RequestId::UNKNOWN, error)
            }
            Incoming::Ignored => return tracing::debug!(peer = %self.peer, "an error message without an id"),
        };
        self.submit(Request { job, bytes }).await;
    }

    /// A session that another connection has taken meanwhile is none of this one's business.
    fn acknowledge(&self, params: &AckParams) {
        if let Some(attachment) = self.attachment.as_ref().filter(|attachment| attachment.is_current()) {
            attachment.session().processes.acknowledge(&params.process_id, params.seq);
        }
    }

    async fn initialize(&mut self, id: RequestId, params: InitializeParams) {
        if let Err(text) = self.sessions.host().policy().admit(self.labels.as_deref()) {
            return self.turn_away(&id, errors::refused(text)).await;
        }
        let offer = params.extensions.and_then(|extensions| extensions.exedra_1);
        // Lines of text carry no binary messages.
        let supported = ExedraOne { binary: self.peer != Peer::Stdio, ..ExedraOne::SUPPORTED };
        let agreed = offer.map(|offer| offer.and(supported));
        let delivery = Outbox::delivery(&self.sender, agreed.is_some_and(|agreed| agreed.ack));
        match self.attach(params.resume_session_id, &params.client_name, delivery).await {
            Err(error) => self.turn_away(&id, error).await,
            Ok(attachment) => {
                let session = Arc::clone(attachment.session());
                tracing::info!(peer = %self.peer, session = %session.id, client = ?params.client_name, "initialized");
                let extensions = agreed.map(|agreed| Extensions { exedra_1: Some(agreed) });
                let environment_info = Some(facts::info(self.sessions.host()));
                let result = InitializeResult { session_id: session.id.clone(), environment_info, extensions };
                self.gate.open();
                self.agreed = agreed.unwrap_or_default();
                let files = Files::new(Arc::clone(self.sessions.host()));
                let (held, fetcher) = (Arc::clone(&session), Arc::clone(&self.fetcher));
                self.context = Some(Context::new(held, files, fetcher, self.pool.clone(), self.agreed));
                self.attachment = Some(attachment);
                let text = encode(id, Ok(result), 0).await;
                self.send(text.into(), Kept::default(), After::Events(session)).await;
            }
        }
    }

    /// `initialize` comes to no session.
    async fn turn_away(&mut self, id: &RequestId, error: RpcError) {
        if self.sessions.refusals().is_first(self.peer, Why::NoSession(error.code)) {
            let at = (self.peer, self.holder.number());
            Witness::at_the_door(self.sessions.audit(), at, id).refused(error.clone());
        }
        self.send(refusal(id, &error).into(), Kept::default(), After::Nothing).await;
    }

    async fn attach(&mut self, resume: Option<SessionId>, client: &str, how: Delivery) -> Result<Attachment, RpcError> {
        self.gate.may_open()?;
        let audit = self.sessions.audit().cloned();
        let resumed = resume.is_some();
        let writable = audit.as_ref().map_or(Ok(()), Audit::check).map_err(|error| errors::unwritable(&error));
        // Who comes back finds what runs, and may end it.
        let writable = if resumed { writable.is_ok() } else { writable.map(|()| true)? };
        let attachment = match resume {
            None => Attachment::create(&self.sessions, &self.holder, how),
            Some(ref id) => Attachment::resume(&self.sessions, id, &self.holder, how).await,
        };
        let attachment = attachment.map_err(|refusal| errors::no_session(refusal, resume.as_ref()))?;
        if let Some(audit) = audit {
            let (session, connection) = (attachment.session().id.clone(), self.holder.number().0);
            let record = Record::Session { session, connection, client: client.to_owned(), resumed };
            match resumed {
                false => audit.commit(record).await.map_err(|error| errors::unwritable(&error))?,
                true if writable => _ = audit.commit(record).await,
                true => audit.ending(record).await,
            }
        }
        Ok(attachment)
    }

    fn job(&self, id: RequestId, request: method::Request) -> Job {
        match self.admit(&request) {
            Ok(context) => {
                let at = (self.peer, self.holder.number());
                let witness = Witness::new(self.sessions.audit(), context.session(), at, &id, &request);
                let policy = self.sessions.host().policy();
                let judged = rights::judge(&request, self.holder.rights());
                let job = match judged.and_then(|()| policy.judge(&request, self.labels.as_deref())) {
                    Ok(()) => route::route(id.clone(), request, context, self.dialect),
                    Err(text) => route::refuse(id.clone(), errors::refused(text)),
                };
                audited(job, id, witness)
            }
            Err(error) => route::refuse(id, error),
        }
    }

    fn admit(&self, request: &method::Request) -> Result<&Context, RpcError> {
        // Stock decodes all of the params before it looks at the handshake.
        let check = |refusal| route::check(request, self.dialect).err().unwrap_or(refusal);
        self.gate.may_use(request.row().group).map_err(check)?;
        let current = self.attachment.as_ref().is_some_and(Attachment::is_current);
        self.context.as_ref().filter(|_| current).ok_or_else(errors::session_resumed_elsewhere)
    }

    async fn submit(&mut self, request: Request) {
        self.held += request.bytes;
        let (ticket, ready) = self.order.admit(request.job.class.clone());
        if ready {
            self.launch(ticket, request).await;
        } else {
            self.waiting.insert(ticket, request);
        }
    }

    /// Polls a job once: most are done then, and need no place among the running ones.
    async fn launch(&mut self, ticket: Ticket, request: Request) {
        let mut ready = vec![(ticket, request)];
        while !ready.is_empty() {
            for (ticket, Request { job, bytes }) in std::mem::take(&mut ready) {
                let hold = job.starts.map(|process| self.holds.hold(process));
                let mut work = job.work;
                match polled_once(&mut work).await {
                    Poll::Ready(served) => ready.extend(self.done(Done { ticket, bytes, served, hold }).await),
                    Poll::Pending => self.running.push(Box::pin(async move {
                        let served = work.await;
                        Done { ticket, bytes, served, hold }
                    })),
                }
            }
        }
    }

    async fn finish(&mut self, done: Done) {
        for (ticket, request) in self.done(done).await {
            self.launch(ticket, request).await;
        }
    }

    /// Sends the answer of a job, and gives back the requests that waited for it.
    async fn done(&mut self, done: Done) -> Vec<(Ticket, Request)> {
        self.held -= done.bytes;
        let after = done.served.follows.map_or(After::Nothing, After::More);
        let kept = Kept { hold: done.hold, share: done.served.share };
        self.send(done.served.answer, kept, after).await;
        let released = self.order.finish(done.ticket);
        released.into_iter().filter_map(|ticket| Some((ticket, self.waiting.remove(&ticket)?))).collect()
    }

    async fn send(&mut self, message: Message, kept: Kept, after: After) {
        if self.sending.is_empty() && self.sender.try_send(message.clone()) {
            drop(kept);
            return self.follow(after);
        }
        let (sender, bytes) = (self.sender.clone(), message.len());
        let mut send: Pinned<Sent> = Box::pin(async move {
            // The receiver learns why there is nobody to send to.
            let _ = sender.send(message).await;
            drop(kept);
            Sent { bytes, after }
        });
        self.held += bytes;
        match polled_once(&mut send).await {
            Poll::Ready(sent) => self.sent(sent),
            Poll::Pending => self.sending.push(send),
        }
    }

    fn sent(&mut self, sent: Sent) {
        self.held -= sent.bytes;
        self.follow(sent.after);
    }

    fn follow(&mut self, after: After) {
        match after {
            After::Nothing => {}
            After::More(follow) => self.bodies.push(Box::pin(follow.pump(self.sender.clone()))),
            After::Events(session) => {
                let (sender, holds, agreed) = (self.sender.clone(), self.holds.clone(), self.agreed);
                let delivery = Outbox::delivery(&sender, agreed.ack);
                self.outbox = Some(Box::pin(Outbox { session, sender, holds, agreed, delivery }.run()));
            }
        }
    }
}

async fn decode(message: Message, agreed: ExedraOne, dialect: Dialect, peer: Peer) -> Incoming {
    let label = move || peer.message_label();
    if agreed.binary && binary::is_marked(message.as_bytes()) {
        return incoming::decode_binary(message.into_bytes(), agreed, dialect, label);
    }
    let large = message.len() >= LARGE;
    if large
        && message.len() < BULK
        && let Some(incoming) = message.as_text().ok().and_then(incoming::bulk)
    {
        return incoming;
    }
    let decode = move || match message.as_text() {
        Ok(text) => incoming::decode(text, agreed, dialect, label),
        Err(cause) => Incoming::Odd(errors::unreadable(&label(), &cause.to_string())),
    };
    if !large {
        return decode();
    }
    tokio::task::spawn_blocking(decode).await.unwrap_or_else(|_| Incoming::Odd(errors::shutting_down()))
}

async fn polled<T>(future: &mut Option<Pinned<T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

async fn polled_once<T>(future: &mut Pinned<T>) -> Poll<T> {
    std::future::poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await
}
