//! HTTP requests made from the executor's place in the network.
//!
//! In flows a [`Request`], out flows a [`Response`], or its head and then the [`Body`] piece by piece. Pieces come in
//! order and whole, or the body ends with an error; a body that is not read makes the connection wait.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use exedra_proto::base64::Base64Text;
use exedra_proto::http::{BodyDeltaParams, Header, RedirectPolicy, RequestHeader, RequestParams};
use exedra_proto::method::{HttpRequest, Method as _};

use crate::error::Error;
use crate::inbox::{Inbox, Numbered};
use crate::line::Line;
use crate::routes::Routes;

/// What to request.
#[derive(Clone, Debug)]
pub struct Request {
    /// Any valid token.
    pub method: String,
    /// Absolute, http or https.
    pub url: String,
    /// In order, repetitions kept.
    pub headers: Vec<RequestHeader>,
    /// The body.
    pub body: Option<Bytes>,
    /// Limit for the whole exchange; none: no limit.
    pub timeout: Option<Duration>,
    /// What to do with a redirect; executors before 0.145 follow it.
    pub redirects: RedirectPolicy,
}

/// A whole response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// In order, names in lower case.
    pub headers: Vec<Header>,
    /// The body.
    pub body: Bytes,
}

/// A response whose body is still coming.
#[derive(Debug)]
pub struct Streaming {
    /// Status code.
    pub status: u16,
    /// In order, names in lower case.
    pub headers: Vec<Header>,
    /// The body.
    pub body: Body,
}

/// A body on its way. Dropping it throws away the rest.
#[derive(Debug)]
pub struct Body {
    request_id: String,
    routes: Arc<Routes>,
    inbox: Inbox<BodyDeltaParams>,
    done: bool,
}

impl Request {
    /// A GET of `url` without headers or limit.
    pub fn get(url: impl Into<String>) -> Self {
        Self {
            method: "GET".to_owned(),
            url: url.into(),
            headers: Vec::new(),
            body: None,
            timeout: None,
            redirects: RedirectPolicy::Follow,
        }
    }

    fn params(&self, request_id: String, stream_response: bool) -> RequestParams {
        RequestParams {
            request_id,
            method: self.method.clone(),
            url: self.url.clone(),
            headers: self.headers.clone(),
            body_base64: self.body.as_deref().map(Base64Text::encode),
            timeout_ms: self.timeout.map(|limit| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)),
            redirect_policy: self.redirects,
            stream_response,
        }
    }
}

/// Sends `request` and waits for the whole response.
pub(crate) async fn whole(line: &Line, request_id: String, request: &Request) -> Result<Response, Error> {
    let result = line.call::<HttpRequest>(&request.params(request_id, false)).await?;
    let body = result.body_base64.decode().map_err(bad_body)?;
    Ok(Response { status: result.status, headers: result.headers, body: body.into() })
}

/// Sends `request` and waits for the head of the response.
pub(crate) async fn streaming(
    line: &Line,
    routes: &Arc<Routes>,
    request_id: String,
    request: &Request,
) -> Result<Streaming, Error> {
    let params = request.params(request_id.clone(), true);
    let connection = line.up().await.map_err(|loss| loss.not_sent(HttpRequest::NAME))?.number;
    let inbox = Inbox::new(routes.body(&request_id));
    let body = Body { request_id, routes: Arc::clone(routes), inbox, done: false };
    let result = line.call_on::<HttpRequest>(connection, &params).await?;
    Ok(Streaming { status: result.status, headers: result.headers, body })
}

impl Body {
    /// The next piece; none after the last. Cancelling loses nothing.
    ///
    /// # Errors
    /// [`Error::BodyCut`] if the body ended early, [`Error::LostWhileFetching`] if the connection did.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        while !self.done {
            let delta = self.inbox.next().await?.ok_or_else(|| Error::LostWhileFetching(self.routes.broken()))?;
            self.done = delta.done;
            if let Some(text) = delta.error {
                return Err(Error::BodyCut(text));
            }
            let bytes = delta.delta_base64.decode().map_err(bad_body)?;
            if !bytes.is_empty() {
                return Ok(Some(bytes.into()));
            }
        }
        Ok(None)
    }
}

impl Numbered for BodyDeltaParams {
    fn seq(&self) -> u64 {
        self.seq
    }

    fn size(&self) -> usize {
        self.delta_base64.decoded_len_estimate()
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.routes.forget_body(&self.request_id);
    }
}

fn bad_body(text: String) -> Error {
    Error::Protocol(format!("{}: {text}", HttpRequest::NAME))
}
