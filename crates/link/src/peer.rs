//! The client's side of JSON-RPC over a connection: calls out by id, events in.
//!
//! In flows a [`Connection`], out flow a [`Client`] to call with and the [`Events`] that the server sends. The
//! bookkeeping is pure (`calls`), the task around it thin (`driver`). What a method means is no business of this module.

use exedra_proto::close::CloseReason;
use exedra_proto::envelope::RpcError;
use exedra_proto::method::{Method, ServerEvent};

use crate::connection::Connection;
use crate::error::Disconnect;

/// Most calls in flight; more wait in [`Client::call`] until one is answered.
pub const MAX_CALLS: usize = 1024;

/// Calls methods of a server; clones call the same one. When the last clone is dropped, the connection is.
#[derive(Clone, Debug)]
pub struct Client {}

/// What the server says without being asked.
#[derive(Debug)]
pub struct Events {}

/// One of them.
#[derive(Clone, Debug)]
pub enum Event {
    /// A notification.
    Server(ServerEvent),
    /// The server could not read a message of ours (an error with id -1).
    Complaint(RpcError),
}

/// Why a call has no result.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The server answered with an error.
    #[error("{0}")]
    Rpc(RpcError),
    /// The connection ended first. Whether the server did what was asked is unknown if [`CallError::was_sent`].
    #[error("{reason}")]
    Disconnected {
        /// Why.
        reason: Disconnect,
        /// Whether the call had been handed to the connection.
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

impl Client {
    /// Starts to serve `connection`.
    pub fn start(connection: Connection) -> (Self, Events) {
        drop(connection);
        (Self {}, Events {})
    }

    /// Calls a method and waits for its result. Dropping the future forgets the call, not what the server does about it.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call<M: Method>(&self, params: &M::Params) -> Result<M::Result, CallError> {
        let _ = params;
        Err(CallError::BadParams { method: M::NAME, text: String::new() })
    }

    /// Sends a notification without params.
    ///
    /// # Errors
    /// The connection ended.
    pub async fn notify(&self, name: &str) -> Result<(), Disconnect> {
        let _ = name;
        Err(Disconnect::Dropped)
    }

    /// Closes the connection in good order, after what is queued; open calls fail.
    pub fn close(&self, reason: CloseReason) {
        let _ = reason;
    }

    /// Waits until the connection has ended, and tells why.
    pub async fn finished(&self) -> Disconnect {
        Disconnect::Dropped
    }
}

impl Events {
    /// The next event; none after the connection ended.
    pub async fn next(&mut self) -> Option<Event> {
        None
    }
}
