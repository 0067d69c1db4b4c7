//! `http/request`: an HTTP exchange from this machine's place in the network, metadata services excepted.
//!
//! In flow the params, out flow the head and the body, whole or in pieces. The client behind it is made at the first
//! request: an executor that fetches nothing reads no certificates. Knows no notification and no stream id.

mod guard;
mod request;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use exedra_proto::base64::Base64Text;
use exedra_proto::http::{RequestParams, RequestResult};
use reqwest::{Client, ClientBuilder, Response};
use tokio::sync::OnceCell;
use tracing::warn;

use crate::encoding;
pub use crate::error::FetchError;

/// A body that is returned whole, in bytes: what base64 and the rest of a reply leave of a message of 64 MiB.
pub const WHOLE_BODY_LIMIT: usize = (64 * 1024 * 1024 - 1024 * 1024) / 4 * 3;
/// A piece of a streamed body, in bytes.
pub const PIECE_LIMIT: usize = 1024 * 1024;

/// Makes requests.
#[derive(Debug, Default)]
pub struct Fetcher {
    client: OnceCell<Client>,
}

/// The body of a response, in pieces. Dropped, it ends the exchange.
#[derive(Debug)]
pub struct BodyStream {
    response: Option<Response>,
    rest: Bytes,
}

impl Fetcher {
    /// One that has made no request yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The whole exchange, with the body in the result.
    ///
    /// # Errors
    /// Why it failed; also a body that no message could carry.
    pub async fn request(&self, params: RequestParams) -> Result<RequestResult, FetchError> {
        let (mut head, mut body) = self.open(params).await?;
        let whole = body.whole().await?.freeze();
        head.body_base64 = encoding::run(whole.len(), move || Base64Text::encode(&whole)).await;
        Ok(head)
    }

    /// The head of the response, with an empty body, and the body as a stream.
    ///
    /// # Errors
    /// Why it failed.
    pub async fn open(&self, params: RequestParams) -> Result<(RequestResult, BodyStream), FetchError> {
        let parts = request::parse(&params)?;
        guard::check(&parts.url).map_err(failed_with)?;
        let client = self.client.get_or_try_init(build).await?;
        let mut request = client.request(parts.method, parts.url).headers(parts.headers);
        if let Some(body) = parts.body {
            request = request.body(body);
        }
        if let Some(timeout) = params.timeout_ms {
            request = request.timeout(Duration::from_millis(timeout));
        }
        let response = request.send().await.map_err(failed)?;
        let head = RequestResult {
            status: response.status().as_u16(),
            headers: request::headers(response.headers()),
            body_base64: Base64Text::default(),
        };
        Ok((head, BodyStream { response: Some(response), rest: Bytes::new() }))
    }
}

impl BodyStream {
    /// The next piece, at most [`PIECE_LIMIT`]; none at the end. After an error nothing follows. Can be dropped and called
    /// again.
    pub async fn next(&mut self) -> Option<Result<Bytes, FetchError>> {
        while self.rest.is_empty() {
            match self.response.as_mut()?.chunk().await {
                Ok(Some(chunk)) => self.rest = chunk,
                Ok(None) => {
                    self.response = None;
                    return None;
                }
                Err(error) => {
                    self.response = None;
                    return Some(Err(FetchError::Failed(error.to_string())));
                }
            }
        }
        Some(Ok(self.rest.split_to(self.rest.len().min(PIECE_LIMIT))))
    }

    async fn whole(&mut self) -> Result<BytesMut, FetchError> {
        let announced = self.response.as_ref().and_then(Response::content_length);
        if announced.is_some_and(|length| length > WHOLE_BODY_LIMIT as u64) {
            return Err(too_large());
        }
        let mut whole = BytesMut::new();
        while let Some(piece) = self.next().await {
            let unread = |e: FetchError| FetchError::Failed(format!("failed to read http/request response body: {e}"));
            whole.extend_from_slice(&piece.map_err(unread)?);
            if whole.len() > WHOLE_BODY_LIMIT {
                return Err(too_large());
            }
        }
        Ok(whole)
    }
}

/// Reads certificates from the disk, hence not on a worker.
async fn build() -> Result<Client, FetchError> {
    tokio::task::spawn_blocking(build_now).await.map_err(|e| FetchError::Failed(format!("http/request failed: {e}")))?
}

fn build_now() -> Result<Client, FetchError> {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Fails only if somebody was quicker, with one that is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
    let client = builder().build().or_else(|error| {
        warn!(%error, "no certificates of authorities found, https will fail");
        builder().tls_certs_only([]).build()
    });
    client.map_err(failed)
}

fn builder() -> ClientBuilder {
    Client::builder().dns_resolver(Arc::new(guard::Resolver)).redirect(guard::redirects()).tcp_nodelay(true)
}

fn failed(error: reqwest::Error) -> FetchError {
    match guard::refusal(&error) {
        Some(refused) => failed_with(refused),
        None => failed_with(error),
    }
}

fn failed_with(cause: impl std::fmt::Display) -> FetchError {
    FetchError::Failed(format!("http/request failed: {cause}"))
}

fn too_large() -> FetchError {
    let text = format!(
        "failed to read http/request response body: it has more than {WHOLE_BODY_LIMIT} bytes, ask for it with streamResponse"
    );
    FetchError::Failed(text)
}
