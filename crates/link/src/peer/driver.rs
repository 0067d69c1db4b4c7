//! Reads what the server sends, and hands each message to whom it concerns: a waiting call, or the events.
//!
//! It tolerates what a server should not send: answers that nobody waits for, unknown notifications and text that is no
//! JSON-RPC are logged by kind and passed over; a request is answered with "not implemented".

use std::sync::Arc;

use bytes::Bytes;
use exedra_proto::binary;
use exedra_proto::envelope::{self, Message as Envelope, RequestId};
use exedra_proto::method::{ServerEvent, unknown_method};

use super::{Core, Event, Reply};
use crate::connection::Receiver;
use crate::message::Message;
use crate::queue;

/// Longest method name that is logged, in characters: it comes from the other end.
const MAX_LOGGED: usize = 64;

pub(super) async fn run(core: Arc<Core>, mut receiver: Receiver, events: queue::Tx<Event>) {
    let reason = loop {
        match receiver.recv().await {
            Ok(message) => take(&core, message, &events).await,
            Err(reason) => break reason,
        }
    };
    let waiting = core.calls().end(reason);
    // Dropped waiters tell the calls that no answer will come.
    drop(waiting);
    core.slots.close();
}

async fn take(core: &Core, message: Message, events: &queue::Tx<Event>) {
    if binary::is_marked(message.as_bytes()) {
        return take_binary(core, message.into_bytes(), events).await;
    }
    let bytes = message.clone().into_bytes();
    let parsed = match message.as_text() {
        Ok(text) => envelope::parse(text).map_err(|cause| cause.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let event = match parsed {
        Ok(Envelope::Response { id, result }) => {
            let json = bytes.slice_ref(result.get().as_bytes());
            return answer(core, &id, Ok(Reply { json, payload: None }));
        }
        Ok(Envelope::Error { id: RequestId::UNKNOWN, error }) => {
            tracing::warn!(code = error.code, message = %error.message, "the server could not read a message of ours");
            Event::Complaint(error)
        }
        Ok(Envelope::Error { id, error }) => return answer(core, &id, Err(error)),
        Ok(Envelope::Request { id, method, .. }) => return refuse(core, &id, &method),
        Ok(Envelope::Notification { method, params }) => match ServerEvent::decode(&method, params) {
            Ok(Some(event)) => Event::Server(event),
            Ok(None) => {
                tracing::debug!(method = %cut(&method), "unknown notification ignored");
                return;
            }
            Err(error) => {
                tracing::warn!(method = %cut(&method), %error, "unreadable notification ignored");
                return;
            }
        },
        Err(error) => {
            tracing::warn!(%error, "unreadable message from the server ignored");
            return;
        }
    };
    // Closed only if nobody wants events any more.
    let _ = events.send(event, bytes.len()).await;
}

/// A message of `exedra/1`, which comes only if it was agreed on.
async fn take_binary(core: &Core, message: Bytes, events: &queue::Tx<Event>) {
    let length = message.len();
    let parts = match binary::split(message) {
        Ok(parts) => parts,
        Err(error) => return tracing::warn!(%error, "unreadable binary message from the server ignored"),
    };
    match envelope::parse(parts.header()) {
        Ok(Envelope::Response { id, result }) => {
            let (json, payload) = (parts.shared(result.get()), Some(parts.payload.clone()));
            answer(core, &id, Ok(Reply { json, payload }));
        }
        Ok(Envelope::Notification { method, params }) => {
            match ServerEvent::decode_binary(&method, params, parts.payload.clone()) {
                // Closed only if nobody wants events any more.
                Ok(Some(event)) => drop(events.send(Event::Server(event), length).await),
                Ok(None) => tracing::debug!(method = %cut(&method), "unknown binary notification ignored"),
                Err(error) => {
                    tracing::warn!(method = %cut(&method), %error, "unreadable binary notification ignored");
                }
            }
        }
        Ok(_) => tracing::warn!("a binary message that is no result and no notification ignored"),
        Err(error) => tracing::warn!(%error, "unreadable header of a binary message ignored"),
    }
}

fn answer(core: &Core, id: &RequestId, answer: super::Answer) {
    let waiter = core.calls().answer(id);
    match waiter {
        // The call may have been dropped a moment ago.
        Some(waiter) => drop(waiter.send(answer)),
        None => tracing::debug!(%id, "answer to no open call ignored"),
    }
}

/// Never waits: a server that floods us with requests and reads nothing gets no answers, and blocks nobody.
fn refuse(core: &Core, id: &RequestId, method: &str) {
    tracing::debug!(method = %cut(method), "request from the server refused");
    if let Ok(text) = envelope::error(id, &unknown_method(&cut(method))) {
        core.sender.try_send(text);
    }
}

fn cut(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_LOGGED).collect()
}
