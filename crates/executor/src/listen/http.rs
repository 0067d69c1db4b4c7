//! What the listener answers to an HTTP request: the table of protocol 19.1 as a function.
//!
//! In flow the head of a request, out flows the status, or the key of a websocket handshake to be answered with 101. It
//! reads no body and knows no socket. Extensions and sub-protocols that a client offers are ignored.

use http::header::{
    ALLOW, CONNECTION, HeaderMap, HeaderName, ORIGIN, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, Version};

/// What to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// 101, with `Sec-WebSocket-Accept` made of this key.
    Upgrade(HeaderValue),
    /// This status without a body, and at most one header.
    Status(StatusCode, Option<(HeaderName, HeaderValue)>),
}

/// Decides.
pub fn answer(request: &Parts) -> Answer {
    // A browser always names the page's origin; no other client of ours does.
    if request.headers.contains_key(ORIGIN) {
        return Answer::Status(StatusCode::FORBIDDEN, None);
    }
    let is_read = matches!(request.method, Method::GET | Method::HEAD);
    match request.uri.path() {
        "/readyz" | "/" if !is_read => {
            Answer::Status(StatusCode::METHOD_NOT_ALLOWED, Some((ALLOW, HeaderValue::from_static("GET,HEAD"))))
        }
        "/readyz" => Answer::Status(StatusCode::OK, None),
        "/" => handshake(request),
        _ => Answer::Status(StatusCode::NOT_FOUND, None),
    }
}

fn handshake(request: &Parts) -> Answer {
    let headers = &request.headers;
    let upgrades = request.method == Method::GET
        && request.version == Version::HTTP_11
        && has_token(headers, &CONNECTION, "upgrade")
        && has_token(headers, &UPGRADE, "websocket");
    let version = headers.get(SEC_WEBSOCKET_VERSION).map(HeaderValue::as_bytes);
    match headers.get(SEC_WEBSOCKET_KEY) {
        Some(key) if upgrades && version == Some(b"13") && !key.is_empty() => Answer::Upgrade(key.clone()),
        Some(_) if upgrades && version != Some(b"13") => {
            let ours = (SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            Answer::Status(StatusCode::BAD_REQUEST, Some(ours))
        }
        _ => Answer::Status(StatusCode::BAD_REQUEST, None),
    }
}

/// Whether a header that is a list of tokens has this one, in any case.
fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let mut values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.any(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(token)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UPGRADE_HEADERS: &[(&str, &str)] = &[
        ("Connection", "keep-alive, Upgrade"),
        ("Upgrade", "WebSocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    fn status(method: &str, path: &str, headers: &[(&str, &str)]) -> u16 {
        let mut request = http::Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        match answer(&request.body(()).unwrap().into_parts().0) {
            Answer::Upgrade(_) => 101,
            Answer::Status(status, _) => status.as_u16(),
        }
    }

    #[test]
    fn the_table() {
        for (method, path, expected) in [
            ("GET", "/readyz", 200),
            ("HEAD", "/readyz", 200),
            ("POST", "/readyz", 405),
            ("GET", "/", 400),
            ("POST", "/", 405),
            ("GET", "/other", 404),
            ("POST", "/other", 404),
            ("GET", "/readyz/", 404),
        ] {
            assert_eq!(status(method, path, &[]), expected, "{method} {path}");
            assert_eq!(status(method, path, &[("Origin", "null")]), 403, "{method} {path}");
        }
    }

    #[test]
    fn a_handshake_is_taken_with_any_extension_and_refused_with_any_origin() {
        assert_eq!(status("GET", "/", UPGRADE_HEADERS), 101);
        assert_eq!(status("GET", "/?x=1", UPGRADE_HEADERS), 101);
        let with = |name, value| [UPGRADE_HEADERS, &[(name, value)]].concat();
        let extension = "permessage-deflate; client_max_window_bits";
        assert_eq!(status("GET", "/", &with("Sec-WebSocket-Extensions", extension)), 101);
        assert_eq!(status("GET", "/", &with("Origin", "http://127.0.0.1")), 403);
        assert_eq!(status("GET", "/other", UPGRADE_HEADERS), 404);
    }

    #[test]
    fn an_incomplete_handshake_is_a_bad_request() {
        for (missing, (name, _)) in UPGRADE_HEADERS.iter().enumerate() {
            let mut headers = UPGRADE_HEADERS.to_vec();
            headers.remove(missing);
            assert_eq!(status("GET", "/", &headers), 400, "without {name}");
        }
        let mut headers = UPGRADE_HEADERS.to_vec();
        headers[2].1 = "8";
        assert_eq!(status("GET", "/", &headers), 400);
    }
}
