//! The client's side of JSON-RPC over a connection: calls out by id, events in.
//!
//! In flows a [`Connection`], out flow a [`Client`] to call with and the [`Events`] that the server sends unasked. The
//! bookkeeping is pure (`calls`), the task around it thin (`driver`). What a method means is no business of this module.
//!
//! Answers and events come through one socket, in order. When nobody reads the events, their queue fills up, then the
//! socket is not read, and then **no call is answered**: whoever makes calls must also read the events, or drop them.

mod calls;
mod driver;

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use exedra_proto::binary;
use exedra_proto::close::CloseReason;
use exedra_proto::envelope::{self, RequestId, RpcError};
use exedra_proto::method::{Method, ServerEvent};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::JoinSet;

use calls::Calls;

use crate::connection::{Connection, Sender};
use crate::error::Disconnect;
use crate::message::Message;
use crate::queue;

/// Most calls in flight; more wait in [`Client::call`], first come, first served, until one is answered or dropped.
pub const MAX_CALLS: usize = 1024;
/// Room for events that nobody has read yet, in bytes of their messages (each counts 1 KiB at least): when it is full, the
/// socket is not read, and the server has to wait.
pub const EVENT_BYTES: usize = 1024 * 1024;

/// Calls methods of a server; clones call the same one. When the last clone is dropped, the connection is, too.
#[derive(Clone, Debug)]
pub struct Client {
    core: Arc<Core>,
    _driver: Arc<JoinSet<()>>,
}

/// What the server says without being asked. Dropping this throws away all that follows.
#[derive(Debug)]
pub struct Events(queue::Rx<Event>);

/// One thing that the server said without being asked.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A notification.
    Server(ServerEvent),
    /// The server could not read a message of ours (an error with id -1). Which one, nobody knows.
    Complaint(RpcError),
}

/// An answer, as it came.
type Answer = Result<Reply, RpcError>;

/// The result of a call, not decoded yet.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Still part of the message that it came in.
    json: Bytes,
    /// The bytes behind it, if it came in a binary message.
    payload: Option<Bytes>,
}

/// A call that was handed to the connection. Dropping it forgets the call: its answer is ignored.
#[derive(Debug)]
pub struct Pending {
    core: Arc<Core>,
    id: i64,
    method: &'static str,
    answer: oneshot::Receiver<Answer>,
    _slot: OwnedSemaphorePermit,
}

/// What calls and driver share.
#[derive(Debug)]
struct Core {
    sender: Sender,
    calls: Mutex<Calls<oneshot::Sender<Answer>>>,
    slots: Arc<Semaphore>,
}

/// Why a call has no result.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The server answered with an error.
    #[error("{0}")]
    Rpc(RpcError),
    /// The connection ended first.
    #[error("{reason}")]
    Disconnected {
        /// Why.
        reason: Disconnect,
        /// Whether the call had been handed to the connection. If so, the server may or may not have done what was asked.
        was_sent: bool,
    },
    /// The result does not fit the method.
    #[error("the server's answer to {method} cannot be read: {text}")]
    BadResult {
        /// Which method.
        method: &'static str,
        /// The decoder's text.
        text: String,
    },
    /// The params cannot be encoded.
    #[error("the call of {method} cannot be encoded: {text}")]
    BadParams {
        /// Which method.
        method: &'static str,
        /// The encoder's text.
        text: String,
    },
}

impl CallError {
    /// Whether the same call on another connection may work, and cannot be a second time.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Disconnected { reason, was_sent: false } if reason.is_retryable())
    }

    /// What a person can do, if anything.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Disconnected { was_sent: true, .. } => {
                Some("the connection ended before the answer; it is unknown whether the executor did it")
            }
            Self::Disconnected { reason, .. } => reason.hint(),
            Self::BadResult { .. } => Some("the two ends may be of versions that do not fit"),
            _ => None,
        }
    }
}

impl Client {
    /// Starts to serve `connection`.
    pub fn start(connection: Connection) -> (Self, Events) {
        let Connection { sender, receiver } = connection;
        let core = Arc::new(Core { sender, calls: Mutex::default(), slots: Arc::new(Semaphore::new(MAX_CALLS)) });
        let (events_tx, events_rx) = queue::channel(EVENT_BYTES);
        let mut tasks = JoinSet::new();
        tasks.spawn(driver::run(Arc::clone(&core), receiver, events_tx));
        (Self { core, _driver: Arc::new(tasks) }, Events(events_rx))
    }

    /// Calls a method and waits for its result; waits first while [`MAX_CALLS`] are in flight.
    ///
    /// Dropping the future forgets the call: its answer is ignored, but the server may do what was asked.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call<M: Method>(&self, params: &M::Params) -> Result<M::Result, CallError> {
        let reply = self.begin(M::NAME, params, None).await?.reply().await?;
        match reply.payload {
            None => reply.decode(M::NAME),
            Some(_) => Err(CallError::BadResult { method: M::NAME, text: "bytes that nobody asked for".to_owned() }),
        }
    }

    /// Hands a call over to the connection, and does not wait for its answer; as a binary message if there is a `payload`.
    /// Whoever cares for the order of calls begins them one after the other.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn begin<P: Serialize>(
        &self,
        method: &'static str,
        params: &P,
        payload: Option<&[u8]>,
    ) -> Result<Pending, CallError> {
        let unsent = |reason| CallError::Disconnected { reason, was_sent: false };
        let slot = Arc::clone(&self.core.slots).acquire_owned().await;
        let slot = slot.map_err(|_| unsent(self.core.ended()))?;
        let (waiter, answer) = oneshot::channel();
        let id = self.core.calls().open(waiter).map_err(unsent)?;
        let pending = Pending { core: Arc::clone(&self.core), id, method, answer, _slot: slot };
        let request = envelope::request(&RequestId::Integer(id), method, params)
            .map_err(|error| CallError::BadParams { method, text: error.to_string() })?;
        let message = match payload {
            None => Message::text(request),
            Some(payload) => Message::Binary(binary::join(&request, payload)),
        };
        self.core.sender.send(message).await.map_err(unsent)?;
        Ok(pending)
    }

    /// Sends a notification without params.
    ///
    /// # Errors
    /// The connection ended.
    pub async fn notify(&self, name: &str) -> Result<(), Disconnect> {
        // A text and an empty map can always be encoded.
        let message = envelope::notification(name, &serde_json::Map::new()).unwrap_or_default();
        self.core.sender.send(message).await
    }

    /// Sends a notification with params.
    ///
    /// # Errors
    /// The connection ended.
    pub async fn notify_with<P: Serialize>(&self, name: &str, params: &P) -> Result<(), Disconnect> {
        let broken = |error: serde_json::Error| Disconnect::Protocol(error.to_string());
        self.core.sender.send(envelope::notification(name, params).map_err(broken)?).await
    }

    /// Closes the connection in good order, after what is queued; open calls fail.
    pub fn close(&self, reason: CloseReason) {
        self.core.sender.close(reason);
    }

    /// Waits until the connection has ended, and tells why.
    ///
    /// As for answers, the events must be read meanwhile.
    pub async fn finished(&self) -> Disconnect {
        self.core.sender.ended().await
    }

    /// Why the connection ended; none while it lasts.
    pub fn disconnect(&self) -> Option<Disconnect> {
        self.core.sender.disconnect()
    }
}

impl Events {
    /// The next event; none after the connection ended. Cancelling the wait loses none.
    pub async fn next(&mut self) -> Option<Event> {
        self.0.recv().await
    }
}

impl Core {
    fn calls(&self) -> std::sync::MutexGuard<'_, Calls<oneshot::Sender<Answer>>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ended(&self) -> Disconnect {
        self.calls().ended().or_else(|| self.sender.disconnect()).unwrap_or(Disconnect::Dropped)
    }
}

impl Pending {
    /// Waits for the answer.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn reply(mut self) -> Result<Reply, CallError> {
        match (&mut self.answer).await {
            Ok(answer) => answer.map_err(CallError::Rpc),
            Err(_) => Err(CallError::Disconnected { reason: self.core.ended(), was_sent: true }),
        }
    }

    /// Its method.
    pub fn method(&self) -> &'static str {
        self.method
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.core.calls().forget(self.id);
    }
}

impl Reply {
    /// The result as `T`, which is what `method` answers.
    ///
    /// # Errors
    /// It does not fit.
    pub fn decode<T: DeserializeOwned>(&self, method: &'static str) -> Result<T, CallError> {
        serde_json::from_slice(&self.json).map_err(|error| CallError::BadResult { method, text: error.to_string() })
    }

    /// The bytes behind it, if it came in a binary message.
    pub fn payload(&self) -> Option<&Bytes> {
        self.payload.as_ref()
    }
}
