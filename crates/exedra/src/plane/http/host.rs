//! Whether a request says for whom it is, as HTTP wants it (RFC 9112, 3.2). Pure.
//!
//! In flows a request, out flows whether it goes on, or what it is answered. Who it is for is not looked at: this server is
//! what it says of itself, and no header changes that.

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CONNECTION, HOST};
use axum::http::uri::Authority;
use axum::http::{HeaderValue, Response, StatusCode, Version};
use exedra_proto::registry::code;

use super::problem;

/// Whether the request has one `Host`, and one that can be; before HTTP/1.1 none will do.
pub fn is_said<B>(request: &Request<B>) -> bool {
    let mut values = request.headers().get_all(HOST).iter();
    match (values.next(), values.next()) {
        (None, _) => request.version() < Version::HTTP_11,
        (Some(host), None) => host.to_str().is_ok_and(is_host),
        (Some(_), Some(_)) => false,
    }
}

/// A name or an address, and perhaps a port; or nothing, where there is none to be named.
fn is_host(text: &str) -> bool {
    let Ok(authority) = text.parse::<Authority>() else { return text.is_empty() };
    let port = text.strip_prefix(authority.host());
    port.is_some_and(|port| port.is_empty() || port.starts_with(':') && port[1..].bytes().all(|b| b.is_ascii_digit()))
}

/// What a client is told whose request for `path` does not say it.
pub fn answer(path: &str) -> Response<Body> {
    let message = "the request has no header `Host`, more than one, or one that no host can have";
    let mut response = problem::answer(path, StatusCode::BAD_REQUEST, code::HOST_INVALID, message);
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(version: Version, hosts: &[&'static [u8]]) -> bool {
        let mut request = Request::builder().version(version).body(()).unwrap();
        for host in hosts {
            request.headers_mut().append(HOST, HeaderValue::from_bytes(host).unwrap());
        }
        is_said(&request)
    }

    #[test]
    fn one_host_that_can_be_is_wanted_of_http_1_1() {
        let good: [&[u8]; 7] =
            [b"x", b"exedra.example.org", b"127.0.0.1:8900", b"[::1]:80", b"a_b-c.d:1", b"", b"X.EXAMPLE"];
        for host in good {
            assert!(said(Version::HTTP_11, &[host]), "{host:?}");
            assert!(!said(Version::HTTP_11, &[host, host]) && !said(Version::HTTP_10, &[host, host]), "{host:?}");
        }
        let bad: [&[u8]; 7] = [b"a b", b"a/b", b"user@x", b"x:port", b"[::1", b"\xff", b"x,y z"];
        for host in bad {
            assert!(!said(Version::HTTP_11, &[host]) && !said(Version::HTTP_10, &[host]), "{host:?}");
        }
        assert!(!said(Version::HTTP_11, &[]) && said(Version::HTTP_10, &[]));
    }
}
