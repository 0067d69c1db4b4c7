//! How a websocket carries connections: plainly, itself being one, or many of them in relay frames.
//!
//! In flows the connection that is the websocket, out flow the [`Connection`]s in it: on an executor's side as clients
//! open them ([`Streams`]), on a client's side the one that it opens ([`Carrier::join`]). Each has queues, an end and a
//! reason of its own. What they carry is no business of this module.

mod relay;
mod single;

use exedra_proto::close::CloseReason;
use exedra_proto::frame::{OVERHEAD, StreamId};
use exedra_proto::introduction::Introduction;
use exedra_proto::registry::Transport;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use url::Url;

use self::relay::Relay;
use crate::connection::{Connection, Sender};
use crate::error::Disconnect;
use crate::mux::Limits;
use crate::ws::DialOptions;

/// What a websocket carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// One connection, message by message.
    Plain,
    /// Relay frames, in the clear.
    Relay,
}

impl Carrier {
    /// What `transport` means for a websocket; none if it is not spoken here.
    pub fn of(transport: Transport) -> Option<Self> {
        match transport {
            Transport::Direct => Some(Self::Plain),
            Transport::Relay => Some(Self::Relay),
            Transport::Noise => None,
        }
    }

    /// What a stock harness speaks on `url`: relay frames if its query says `role=harness`.
    pub fn of_harness(url: &str) -> Self {
        let is_harness = |url: Url| url.query_pairs().any(|(name, value)| name == "role" && value == "harness");
        if Url::parse(url).is_ok_and(is_harness) { Self::Relay } else { Self::Plain }
    }

    /// Options for the websocket: a frame needs room beside the message in it.
    pub fn dial_options(self, mut options: DialOptions) -> DialOptions {
        if self == Self::Relay {
            options.ws.limits.message = options.ws.limits.message.saturating_add(OVERHEAD);
        }
        options
    }

    /// The client's connection over `websocket`: in relay frames, a fresh stream of its own.
    pub fn join(self, websocket: Connection) -> Connection {
        match self {
            Self::Plain => websocket,
            Self::Relay => single::open(websocket, StreamId::fresh()),
        }
    }
}

/// A connection that the other side has opened.
#[derive(Debug)]
pub struct Accepted {
    /// The name of its stream.
    pub id: StreamId,
    /// The connection.
    pub connection: Connection,
    /// Who opened it, where the server tells.
    pub introduction: Option<Introduction>,
}

/// The connections in an executor's websocket. Dropping it ends them all, at once.
#[derive(Debug)]
pub struct Streams {
    accepted: mpsc::Receiver<Accepted>,
    ended: watch::Receiver<Option<Disconnect>>,
    websocket: Sender,
    #[expect(dead_code, reason = "held for its drop, which ends the websocket and all connections in it")]
    tasks: JoinSet<()>,
}

impl Streams {
    /// Takes `websocket` over. If its server is to introduce clients (`told`), nobody comes who is not.
    pub fn accept(websocket: Connection, told: bool) -> Self {
        Self::with_limits(websocket, told, Limits::default())
    }

    fn with_limits(websocket: Connection, told: bool, limits: Limits) -> Self {
        // As many as there may be streams: nobody waits, since a stream that is one too many is refused before.
        let (opened, accepted) = mpsc::channel((2 * limits.streams).max(1));
        let (tell, ended) = watch::channel(None);
        let sender = websocket.sender.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(Relay::executor(websocket, (told, limits), opened, tell).run());
        Self { accepted, ended, websocket: sender, tasks }
    }

    /// The next connection. Cancelling the wait loses none.
    ///
    /// # Errors
    /// Why the websocket has ended, after the last connection, and again on every further call.
    pub async fn next(&mut self) -> Result<Accepted, Disconnect> {
        match self.accepted.recv().await {
            Some(accepted) => Ok(accepted),
            None => Err(self.ended().await),
        }
    }

    /// Closes the websocket after what is queued for it, and waits until it has ended.
    pub async fn shutdown(self, reason: CloseReason) -> Disconnect {
        self.websocket.close(reason);
        self.ended().await
    }

    async fn ended(&self) -> Disconnect {
        let mut ended = self.ended.clone();
        let told = ended.wait_for(Option::is_some).await.ok().and_then(|told| told.clone());
        told.unwrap_or(Disconnect::Dropped)
    }
}

#[cfg(test)]
mod tests;
