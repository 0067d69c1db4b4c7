//! `http/request`: an HTTP exchange from this machine's place in the network, metadata services excepted.
//!
//! In flow the params, out flow the head and the body, whole or in pieces. Knows no notification and no request id.

use bytes::Bytes;
use exedra_proto::http::{RequestParams, RequestResult};

pub use crate::error::FetchError;

/// Makes requests; the client behind it is made at the first one.
#[derive(Debug, Default)]
pub struct Fetcher {}

/// The body of a response, in pieces.
#[derive(Debug)]
pub struct BodyStream {}

impl Fetcher {
    /// One that has made no request yet.
    pub fn new() -> Self {
        Self {}
    }

    /// The whole exchange, with the body in the result.
    ///
    /// # Errors
    /// Why it failed; also a body that no message could carry.
    pub async fn request(&self, _params: RequestParams) -> Result<RequestResult, FetchError> {
        todo!()
    }

    /// The head of the response, with an empty body, and the body as a stream.
    ///
    /// # Errors
    /// Why it failed.
    pub async fn open(&self, _params: RequestParams) -> Result<(RequestResult, BodyStream), FetchError> {
        todo!()
    }
}

impl BodyStream {
    /// The next piece, at most 1 MiB; none at the end. After an error nothing follows.
    pub async fn next(&mut self) -> Option<Result<Bytes, FetchError>> {
        todo!()
    }
}
