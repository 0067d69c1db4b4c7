//! What a connection meets before the router: whether its address may have one more, TLS, and whom each request is from.
//!
//! In flow accepted streams and requests, out flow requests with their [`Origin`], or refusals. A proxy's connections
//! count for nobody; each request that comes through it counts for the client that it names.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, Response, StatusCode};
use exedra_executor::listen::tls::Tls;
use exedra_proto::plane::Origin;
use exedra_proto::registry::{ErrorBody, ErrorDetail, code};
use hyper::body::Incoming;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::crowd::{Crowd, Place};
use super::proxies::Proxies;

/// What a client without a place is told, where nothing more than a line can be said.
const FULL_LINE: &[u8] =
    b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 5\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

/// What every connection comes to.
#[derive(Clone)]
pub struct Door {
    /// The certificate.
    pub tls: Option<Arc<Tls>>,
    /// Who tells whom a request is from.
    pub proxies: Arc<Proxies>,
    /// How many connections an address has.
    pub crowd: Crowd,
    /// What is behind.
    pub router: Router,
}

/// Whom a connection belongs to.
#[derive(Clone, Debug)]
pub enum Caller {
    /// A client, with its place.
    Client(IpAddr, Arc<Place>),
    /// A proxy that is trusted.
    Proxy(IpAddr),
}

/// The client has as many connections as it may.
#[derive(Clone, Copy, Debug)]
pub struct Full;

impl Door {
    /// Who is there; none if it has as many connections as it may.
    pub fn caller(&self, peer: IpAddr) -> Option<Caller> {
        if self.proxies.include(peer) {
            return Some(Caller::Proxy(peer));
        }
        Some(Caller::Client(peer.to_canonical(), Arc::new(self.crowd.place(peer)?)))
    }

    /// Sends away a client that has too many connections.
    pub async fn refuse(&self, mut stream: TcpStream) {
        // A TLS client could not read it.
        if self.tls.is_none() {
            let _ = stream.write_all(FULL_LINE).await;
            let _ = stream.shutdown().await;
        }
    }

    /// Puts the request's origin into it. What comes back holds the place, too: a handler may drop the request at once.
    ///
    /// # Errors
    /// The client behind a proxy has too many connections.
    pub fn admit(&self, caller: &Caller, request: &mut Request<Incoming>) -> Result<Origin, Full> {
        let origin = match caller {
            Caller::Client(address, place) => Origin { address: *address, place: Arc::clone(place) as _ },
            Caller::Proxy(peer) => {
                let address = self.proxies.client(*peer, request.headers());
                if self.proxies.include(address) {
                    // The proxy itself, or it did not say.
                    Origin { address, place: Arc::new(()) }
                } else {
                    Origin { address, place: Arc::new(self.crowd.place(address).ok_or(Full)?) }
                }
            }
        };
        request.extensions_mut().insert(origin.clone());
        Ok(origin)
    }
}

impl Full {
    /// What the client is told.
    pub fn answer(self) -> Response<Body> {
        let error = ErrorDetail {
            code: Some(code::TOO_MANY_CONNECTIONS.to_owned()),
            message: Some("your address has as many connections as it may; try again later".to_owned()),
            ..ErrorDetail::default()
        };
        let mut response = Response::new(Body::from(serde_json::to_vec(&ErrorBody { error }).unwrap_or_default()));
        *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(RETRY_AFTER, HeaderValue::from_static("5"));
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        response
    }
}
