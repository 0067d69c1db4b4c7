//! What a connection meets before the router: whether its address may have one more, TLS, and whom each request is from.
//!
//! In flow accepted streams and requests, out flow requests with their [`Origin`], or refusals. A proxy's connections
//! count for nobody; each request that comes through it counts for the client that it names. Where an address has as many
//! connections as it may, one more is a guest: it is heard, for it may be an executor's.
//!
//! Executors do not end by this limit: stock ones end when a registration is refused, whatever the reason, and try again
//! when a websocket is. So what they ask of the registry is served beyond the limit, and the limits of the server hold for
//! it; their websockets wait for a place for [`PATIENCE`], and are told 429 then. Who claims to be one without a good
//! token or ticket is refused behind the door, and has taken nobody's place.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CONNECTION, RETRY_AFTER};
use axum::http::{HeaderValue, Method, Response, StatusCode};
use exedra_executor::listen::tls::Tls;
use exedra_proto::plane::Origin;
use exedra_proto::registry::code;
use hyper::body::Incoming;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::crowd::{Crowd, Place};
use super::problem;
use super::proxies::Proxies;

/// What a client without a place is told before its request is read, and the length of a body.
const FULL_HEAD: &str = "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 5\r\nConnection: close\r\n\
                         Content-Type: application/json\r\nContent-Length: ";
/// The same for people.
const FULL: &str = "your address has as many connections as it may; try again later";

/// How long an executor's websocket waits for a place of its address: less than the 10 s that executors wait for one.
const PATIENCE: Duration = Duration::from_secs(8);

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
    /// A client whose address has as many connections as it may.
    Guest(IpAddr),
}

/// What somebody comes for, by the words alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Errand {
    /// An executor asks the registry.
    Registers,
    /// An executor wants its websocket.
    Dials,
    /// All else.
    Other,
}

/// The client has as many connections as it may.
#[derive(Clone, Copy, Debug)]
pub struct Full;

impl Door {
    /// Who is there.
    pub fn caller(&self, peer: IpAddr) -> Caller {
        if self.proxies.include(peer) {
            return Caller::Proxy(peer);
        }
        let address = peer.to_canonical();
        self.crowd.place(peer).map_or(Caller::Guest(address), |place| Caller::Client(address, Arc::new(place)))
    }

    /// Sends away a client for whom there is no room.
    pub async fn refuse(&self, mut stream: TcpStream) {
        // A TLS client could not read it.
        if self.tls.is_none() {
            let body = problem::body(StatusCode::TOO_MANY_REQUESTS, code::TOO_MANY_CONNECTIONS, FULL);
            let answer = [format!("{FULL_HEAD}{}\r\n\r\n", body.len()).into_bytes(), body].concat();
            let _ = stream.write_all(&answer).await;
            let _ = stream.shutdown().await;
        }
    }

    /// Puts the request's origin into it. What comes back holds the place, too: a handler may drop the request at once.
    ///
    /// # Errors
    /// The client has too many connections.
    pub async fn admit(&self, caller: &Caller, request: &mut Request<Incoming>) -> Result<Origin, Full> {
        let origin = match caller {
            Caller::Client(address, place) => Origin { address: *address, place: Arc::clone(place) as _ },
            Caller::Guest(address) => self.take_in(*address, errand(request)).await?,
            Caller::Proxy(peer) => {
                let address = self.proxies.client(*peer, request.headers());
                if self.proxies.include(address) {
                    // The proxy itself, or it did not say.
                    Origin { address, place: Arc::new(()) }
                } else {
                    self.take_in(address, errand(request)).await?
                }
            }
        };
        request.extensions_mut().insert(origin.clone());
        Ok(origin)
    }

    /// A place for one request, or its time without one.
    async fn take_in(&self, address: IpAddr, errand: Errand) -> Result<Origin, Full> {
        if let Some(place) = self.crowd.place(address) {
            return Ok(Origin { address, place: Arc::new(place) });
        }
        match errand {
            Errand::Registers => Ok(Origin { address, place: Arc::new(()) }),
            Errand::Dials => {
                let place = self.crowd.wait(address, PATIENCE).await.ok_or(Full)?;
                Ok(Origin { address, place: Arc::new(place) })
            }
            Errand::Other => Err(Full),
        }
    }
}

fn errand<B>(request: &Request<B>) -> Errand {
    let path = request.uri().path();
    let asks = ["/register", "/validate"].iter().any(|end| path.ends_with(end));
    if request.method() == Method::POST && path.starts_with("/cloud/") && asks {
        return Errand::Registers;
    }
    let says_executor = request.uri().query().is_some_and(|query| query.split('&').any(|part| part == "role=executor"));
    if path.starts_with("/rendezvous/") && says_executor { Errand::Dials } else { Errand::Other }
}

impl Full {
    /// What the client is told who asked for `path`.
    pub fn answer(self, path: &str) -> Response<Body> {
        let mut response = problem::answer(path, StatusCode::TOO_MANY_REQUESTS, code::TOO_MANY_CONNECTIONS, FULL);
        let headers = response.headers_mut();
        headers.insert(RETRY_AFTER, HeaderValue::from_static("5"));
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executors_are_told_from_others_by_what_they_ask_for() {
        let errand =
            |method: &str, target: &str| errand(&Request::builder().method(method).uri(target).body(()).unwrap());
        for path in ["executor/x/register", "environment/x/register", "environment/x/direct/register"] {
            assert_eq!(errand("POST", &format!("/cloud/{path}")), Errand::Registers);
        }
        assert_eq!(errand("POST", "/cloud/environment/x/validate"), Errand::Registers);
        assert_eq!(errand("GET", "/rendezvous/reg-1?role=executor&shape=pair"), Errand::Dials);
        for (method, target) in [
            ("GET", "/cloud/executor/x/register"),
            ("POST", "/cloud/environment/x/connect"),
            ("POST", "/v1/executors/register/connect"),
            ("GET", "/rendezvous/reg-1?role=harness&x=role=executor"),
            ("GET", "/rendezvous/reg-1"),
            ("GET", "/?role=executor"),
        ] {
            assert_eq!(errand(method, target), Errand::Other, "{method} {target}");
        }
    }
}
