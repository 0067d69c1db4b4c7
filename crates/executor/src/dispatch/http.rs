//! `http/request`: the exchange itself, and the body that follows the answer as notifications.
//!
//! In flow decoded params, out flow a result and perhaps a [`Body`], which pushes its deltas into the connection's
//! queue: where that is full it stops reading from the network. Bodies belong to the connection and end with it.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::BytesMut;
use exedra_host::fetch::{BodyStream, FetchError, Fetcher, WHOLE_BODY_LIMIT};
use exedra_link::{Message, Sender};
use exedra_proto::base64::Base64Text;
use exedra_proto::envelope::{RpcError, notification};
use exedra_proto::http::{BodyDeltaParams, RequestParams, RequestResult};
use exedra_proto::method::{HttpBodyDelta, Notification as _};

use super::budget::{Budget, SMALL, Share};
use super::errors;

/// Bodies that one connection may have streamed at a time. A request for one more is refused.
const MAX_STREAMS: usize = 256;

/// The names of the bodies that are being streamed on one connection.
#[derive(Clone, Debug, Default)]
pub struct Streams(Arc<Mutex<HashSet<String>>>);

/// A name in use; free again when dropped.
#[derive(Debug)]
struct Name {
    streams: Streams,
    text: String,
}

/// A body to be sent after its head.
#[derive(Debug)]
pub struct Body {
    name: Name,
    stream: BodyStream,
}

/// What came of a request.
#[derive(Debug)]
pub struct Exchange {
    /// The answer.
    pub head: RequestResult,
    /// What is to be sent after it.
    pub body: Option<Body>,
    /// The room that the answer takes.
    pub share: Share,
}

/// `http/request`
pub async fn request(
    fetcher: &Fetcher,
    streams: &Streams,
    budget: &Budget,
    params: RequestParams,
) -> Result<Exchange, RpcError> {
    if !params.stream_response {
        return whole(fetcher, budget, params).await.map_err(|error| errors::from_fetch(&error));
    }
    let name = streams.take(&params.request_id)?;
    let (head, stream) = fetcher.open(params).await.map_err(|error| errors::from_fetch(&error))?;
    Ok(Exchange { head, body: Some(Body { name, stream }), share: Share::default() })
}

/// The body is not taken from the network before there is room for it: as much as is announced, and the largest that
/// may be where that is not known and the body turns out not to be small.
async fn whole(fetcher: &Fetcher, budget: &Budget, params: RequestParams) -> Result<Exchange, FetchError> {
    // The length in an answer to HEAD is not that of its body, which is empty.
    let bodiless = params.method == "HEAD";
    let (mut head, mut stream) = fetcher.open(params).await?;
    let announced = announced(&head).filter(|_| !bodiless && head.status != 304);
    if announced.is_some_and(|length| length > WHOLE_BODY_LIMIT as u64) {
        return Err(too_large());
    }
    let mut share = budget.share(announced.unwrap_or(0)).await;
    let mut free = announced.is_none();
    let mut body = BytesMut::with_capacity(announced.and_then(|length| length.try_into().ok()).unwrap_or(0));
    while let Some(piece) = stream.next().await {
        body.extend_from_slice(&piece.map_err(unread)?);
        if body.len() > WHOLE_BODY_LIMIT {
            return Err(too_large());
        }
        if free && body.len() >= SMALL / 2 {
            free = false;
            share = budget.share(WHOLE_BODY_LIMIT as u64).await;
        }
    }
    share.shrink(body.len());
    head.body_base64 = Base64Text::encode(&body);
    Ok(Exchange { head, body: None, share })
}

fn announced(head: &RequestResult) -> Option<u64> {
    let header = head.headers.iter().find(|header| header.name == "content-length")?;
    header.value.parse().ok()
}

fn unread(cause: FetchError) -> FetchError {
    FetchError::Failed(format!("failed to read http/request response body: {cause}"))
}

fn too_large() -> FetchError {
    let text = format!("it has more than {WHOLE_BODY_LIMIT} bytes, ask for it with streamResponse");
    unread(FetchError::Failed(text))
}

impl Streams {
    fn take(&self, request_id: &str) -> Result<Name, RpcError> {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if names.len() >= MAX_STREAMS {
            return Err(errors::too_many_streams(MAX_STREAMS));
        }
        if !names.insert(request_id.to_owned()) {
            return Err(errors::stream_active(request_id));
        }
        Ok(Name { streams: self.clone(), text: request_id.to_owned() })
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        self.streams.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.text);
    }
}

impl Body {
    /// Sends all of it, as fast as the network gives and the client takes.
    pub async fn pump(mut self, sender: Sender) {
        let mut seq = 1;
        let error = loop {
            match self.stream.next().await {
                Some(Ok(piece)) if piece.is_empty() => {}
                Some(Ok(piece)) => {
                    if !send(&sender, delta(&self.name.text, seq, &piece)).await {
                        return;
                    }
                    seq += 1;
                }
                Some(Err(error)) => break Some(error.to_string()),
                None => break None,
            }
        };
        let request_id = self.name.text.clone();
        // The client may use the name again as soon as it sees the last frame.
        drop(self.name);
        let last = BodyDeltaParams { request_id, seq, delta_base64: Base64Text::default(), done: true, error };
        send(&sender, last).await;
    }
}

fn delta(request_id: &str, seq: u64, piece: &[u8]) -> BodyDeltaParams {
    let delta_base64 = Base64Text::encode(piece);
    BodyDeltaParams { request_id: request_id.to_owned(), seq, delta_base64, done: false, error: None }
}

/// Whether there is still somebody to send to.
async fn send(sender: &Sender, params: BodyDeltaParams) -> bool {
    match notification(HttpBodyDelta::NAME, &params) {
        Ok(text) => sender.send(Message::text(text)).await.is_ok(),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_bounded_and_free_again() {
        let streams = Streams::default();
        let held = streams.take("r").unwrap();
        let again = streams.take("r").unwrap_err();
        assert_eq!(again.message, "http/request streamResponse requestId `r` is already active");
        drop(held);
        let all: Vec<_> = (0..MAX_STREAMS).map(|n| streams.take(&n.to_string()).unwrap()).collect();
        assert!(streams.take("one more").unwrap_err().message.contains("at most 256"));
        drop(all);
        assert!(streams.take("r").is_ok());
    }
}
