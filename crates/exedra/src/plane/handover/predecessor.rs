//! The new process's end: what it gets from the old one, and the orders for that one later.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use exedra_proto::close::CloseReason;
use exedra_proto::ids::{RegistrationId, TokenId};
use exedra_proto::plane::{Connection, Cutoff};
use exedra_rendezvous::Legacy;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Order, ToNew, ToOld, channel};
use crate::env;
use crate::exit::Failure;

/// How long the old process may take for its word: it was there a moment ago.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the last orders may take.
const LAST_WAIT: Duration = Duration::from_secs(5);
/// Orders that the old process has not read yet. When there are more it hangs, and the connection to it is closed, on
/// which it sends away all whom it has: so no order is lost.
const ORDERS: usize = 4_096;

/// The server that this process takes the place of.
#[derive(Debug)]
pub struct Predecessor {
    socket: StdStream,
    listener: TcpListener,
    hold: Option<OwnedFd>,
}

impl Predecessor {
    /// The one that started this process, if one did so to hand over.
    ///
    /// # Errors
    /// It does not give what is needed.
    pub fn find() -> Result<Option<Self>, Failure> {
        if env::text(env::EXEDRA_HANDOVER).is_none() {
            return Ok(None);
        }
        Self::on_stdin().map(Some).map_err(|error| {
            Failure::from(anyhow::Error::new(error).context("the server that is to be replaced hands nothing over"))
                .with_hint("EXEDRA_HANDOVER is set by a server that starts another one; unset it")
        })
    }

    fn on_stdin() -> io::Result<Self> {
        let socket = StdStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        socket.set_read_timeout(Some(PATIENCE))?;
        let [listener, hold] = channel::receive_descriptors(&socket)?;
        Ok(Self { socket, listener: TcpListener::from(listener), hold: Some(hold) })
    }

    /// Its listening socket.
    ///
    /// # Errors
    /// There are too many files open.
    pub fn listener(&self) -> io::Result<TcpListener> {
        self.listener.try_clone()
    }

    /// Its hold on the data directory, once.
    pub fn take_hold(&mut self) -> Option<OwnedFd> {
        self.hold.take()
    }

    /// Says that this process is ready, and waits for its turn. If the other one ends before that, it is this one's turn
    /// all the same, without what that one knew.
    ///
    /// # Errors
    /// The other process hangs, or speaks what is no word of the hand-over.
    pub async fn relieve(self) -> Result<(Option<Legacy>, Orders), Failure> {
        self.socket.set_nonblocking(true)?;
        let mut socket = UnixStream::from_std(self.socket)?;
        // If it is gone, the next call tells.
        let _ = channel::send(&mut socket, &ToOld::Ready).await;
        let word = tokio::time::timeout(PATIENCE, channel::receive(&mut socket)).await;
        let word = word.context("the server that is to be replaced does not let go")?;
        let legacy = match word.context("the server that is to be replaced is not understood")? {
            Some(ToNew::YourTurn(legacy)) => Some(*legacy),
            None => {
                tracing::warn!("the server that is to be replaced ended by itself");
                None
            }
        };
        Ok((legacy, Orders::over(socket)))
    }
}

/// The way to the old process, for as long as it has connections; and then to the one before that, if that still has some.
#[derive(Debug)]
pub struct Orders {
    orders: mpsc::Sender<Order>,
    full: CancellationToken,
    /// Whether the way is wanted by the process that takes the place of this one.
    wanted: CancellationToken,
    way: oneshot::Receiver<OwnedFd>,
    task: JoinSet<()>,
}

impl Orders {
    fn over(socket: UnixStream) -> Self {
        let (orders, receiver) = mpsc::channel(ORDERS);
        let (full, wanted, mut task) = (CancellationToken::new(), CancellationToken::new(), JoinSet::new());
        let (tell, way) = oneshot::channel();
        let courier = Courier { socket, orders: receiver, wanted: wanted.clone(), tell };
        task.spawn(deliver(courier, full.clone()));
        Self { orders, full, wanted, way, task }
    }

    /// What passes orders on: to `here` at once, and to the old process.
    pub fn beside(&self, here: Arc<dyn Cutoff>) -> Arc<dyn Cutoff> {
        Arc::new(Both { here, orders: self.orders.clone(), full: self.full.clone() })
    }

    /// The way, for the process that takes the place of this one; none if nobody is there any more. From then on what comes
    /// here is still passed on, and the end of the old process is not seen.
    pub async fn hand_on(&mut self) -> Option<OwnedFd> {
        self.wanted.cancel();
        (&mut self.way).await.ok()
    }

    /// Passes on what is left, once nothing more can come.
    pub async fn finish(mut self) {
        drop(self.orders);
        let finished = async { while self.task.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST_WAIT, finished).await.is_err() {
            tracing::warn!("the server that was replaced hangs, and is left to itself");
        }
    }
}

async fn deliver(courier: Courier, full: CancellationToken) {
    tokio::select! {
        () = full.cancelled() => tracing::warn!("the server that was replaced hangs, and is left to itself"),
        () = courier.run() => {}
    }
}

/// Brings orders to the process that is the next before this one and has somebody.
struct Courier {
    socket: UnixStream,
    orders: mpsc::Receiver<Order>,
    wanted: CancellationToken,
    tell: oneshot::Sender<OwnedFd>,
}

/// Why there is nothing to do for now.
enum Rest {
    /// Nobody is there any more, or no order comes any more.
    Done,
    /// Nobody is there any more but in the process before, to which this is the way.
    Inherited(OwnedFd),
    /// Somebody else is to have the way.
    Wanted,
}

impl Courier {
    async fn run(mut self) {
        loop {
            match self.pass_on().await {
                Rest::Done => return,
                Rest::Inherited(way) => {
                    tracing::info!("the server that was replaced has no connections any more; the one before it has");
                    match self.follow(way).await {
                        Ok(next) => self.socket = next,
                        Err(error) => return tracing::warn!(%error, "there is no way to it"),
                    }
                }
                Rest::Wanted => return self.lend().await,
            }
        }
    }

    async fn pass_on(&mut self) -> Rest {
        loop {
            tokio::select! {
                biased;
                more = channel::receive_descriptor(&self.socket) => match more {
                    Ok(Some(way)) => return Rest::Inherited(way),
                    Ok(None) | Err(_) => {
                        tracing::info!("the server that was replaced has no connections any more");
                        return Rest::Done;
                    }
                },
                () = self.wanted.cancelled() => return Rest::Wanted,
                order = self.orders.recv() => {
                    let Some(order) = order else { return Rest::Done };
                    if channel::send(&mut self.socket, &ToOld::Order(order)).await.is_err() {
                        return Rest::Done;
                    }
                }
            }
        }
    }

    /// Lets the process go that has nobody any more. What it was told it passes on first; so nobody else may speak on its
    /// way before its end.
    async fn follow(&mut self, way: OwnedFd) -> io::Result<UnixStream> {
        self.socket.shutdown().await?;
        while channel::receive_descriptor(&self.socket).await?.is_some() {}
        let way = StdStream::from(way);
        way.set_nonblocking(true)?;
        UnixStream::from_std(way)
    }

    /// Gives a copy of the way to the process that takes the place of this one, which alone listens from now on.
    async fn lend(mut self) {
        let Ok(way) = self.socket.as_fd().try_clone_to_owned() else { return };
        if self.tell.send(way).is_err() {
            return;
        }
        while let Some(order) = self.orders.recv().await {
            if channel::send(&mut self.socket, &ToOld::Order(order)).await.is_err() {
                return;
            }
        }
    }
}

struct Both {
    here: Arc<dyn Cutoff>,
    orders: mpsc::Sender<Order>,
    full: CancellationToken,
}

impl Both {
    fn pass_on(&self, order: Order) {
        // Where the queue is closed there is nobody any more.
        if let Err(TrySendError::Full(_)) = self.orders.try_send(order) {
            self.full.cancel();
        }
    }
}

impl Cutoff for Both {
    fn registration(&self, registration: &RegistrationId, reason: CloseReason) {
        self.here.registration(registration, reason);
        self.pass_on(Order::Registration(registration.clone(), reason));
    }

    fn token(&self, token: &TokenId, reason: CloseReason) {
        self.here.token(token, reason);
        self.pass_on(Order::Token(token.clone(), reason));
    }

    fn expired(&self, token: &TokenId, reason: CloseReason) {
        self.here.expired(token, reason);
        self.pass_on(Order::Expired(token.clone(), reason));
    }

    fn renewed(&self, token: &TokenId, until: u64, reason: CloseReason) {
        self.here.renewed(token, until, reason);
        self.pass_on(Order::Renewed(token.clone(), until, reason));
    }

    fn barred(&self, registration: &RegistrationId, token: &TokenId, reason: CloseReason) {
        self.here.barred(registration, token, reason);
        self.pass_on(Order::Barred(registration.clone(), token.clone(), reason));
    }

    fn key(&self, key_id: &str, reason: CloseReason) {
        self.here.key(key_id, reason);
        self.pass_on(Order::Key(key_id.to_owned(), reason));
    }

    fn wanted(&self, registration: &RegistrationId) {
        self.here.wanted(registration);
        self.pass_on(Order::Wanted(registration.clone()));
    }

    fn connections(&self) -> Vec<Connection> {
        self.here.connections()
    }
}
