//! Where an answer sends a request next.
//!
//! In flow a request and the head of its answer, out flows the next request; none if the answer is the last one. Pure. What
//! is meant for one origin does not go to another: credentials, and whatever came from the executor's environment.

use http::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, LOCATION, PROXY_AUTHORIZATION,
    TRANSFER_ENCODING, WWW_AUTHENTICATE,
};
use http::{HeaderMap, Method, StatusCode};

use super::request::Parts;

/// How many redirects are followed.
pub const MOST: usize = 10;

/// The request that follows `parts` after such an answer.
pub fn next(parts: &Parts, status: StatusCode, answer: &HeaderMap) -> Option<Parts> {
    let keeps = match status.as_u16() {
        301..=303 => false,
        307 | 308 => true,
        _ => return None,
    };
    let location = std::str::from_utf8(answer.get(LOCATION)?.as_bytes()).ok()?;
    let url = parts.url.join(location).ok()?;
    if !matches!(url.scheme(), "http" | "https") {
        return None;
    }
    let mut next = Parts { url, ..parts.clone() };
    if !keeps {
        for name in [TRANSFER_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, CONTENT_LENGTH] {
            next.headers.remove(name);
        }
        next.body = None;
        if !matches!(next.method, Method::GET | Method::HEAD) {
            next.method = Method::GET;
        }
    }
    if next.url.origin() != parts.url.origin() {
        for name in [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION, WWW_AUTHENTICATE] {
            next.headers.remove(name);
        }
        for name in std::mem::take(&mut next.secrets) {
            next.headers.remove(name);
        }
    }
    Some(next)
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use url::Url;

    use super::*;

    fn parts() -> Parts {
        let mut headers = HeaderMap::new();
        for name in ["authorization", "content-type", "x-key", "x-plain"] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static("v"));
        }
        let url = Url::parse("https://a.test/x/y?q").unwrap();
        let secrets = vec![HeaderName::from_static("x-key")];
        Parts { method: Method::POST, url, headers, body: Some("b".into()), secrets }
    }

    fn after(status: u16, location: &str) -> Option<Parts> {
        let answer = HeaderMap::from_iter([(LOCATION, HeaderValue::from_str(location).unwrap())]);
        next(&parts(), StatusCode::from_u16(status).unwrap(), &answer)
    }

    fn names(parts: &Parts) -> Vec<&str> {
        let mut names: Vec<&str> = parts.headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn methods_and_bodies() {
        for status in [301, 302, 303] {
            let next = after(status, "../z").unwrap();
            assert_eq!((next.url.as_str(), next.method, next.body), ("https://a.test/z", Method::GET, None));
        }
        for status in [307, 308] {
            let next = after(status, "/z").unwrap();
            assert_eq!((next.method, next.body.as_deref()), (Method::POST, Some(&b"b"[..])));
        }
    }

    #[test]
    fn what_is_for_one_origin_goes_to_no_other() {
        let same = after(307, "/z").unwrap();
        assert_eq!(names(&same), ["authorization", "content-type", "x-key", "x-plain"]);
        for other in ["https://b.test/", "http://a.test/", "https://a.test:8443/", "//b.test/z"] {
            assert_eq!(names(&after(307, other).unwrap()), ["content-type", "x-plain"], "{other}");
        }
    }

    #[test]
    fn what_leads_nowhere_is_the_answer() {
        for (status, location) in [(200, "/z"), (304, "/z"), (302, "http://"), (302, "ftp://a/"), (302, "file:///etc")]
        {
            assert!(after(status, location).is_none(), "{status} {location}");
        }
        assert!(next(&parts(), StatusCode::FOUND, &HeaderMap::new()).is_none());
    }
}
