//! From the params of `http/request` to a request, or the text that stock has for what is wrong with them.
//!
//! In flow params, out flow parsed parts. Pure: sends nothing.

use bytes::Bytes;
use exedra_proto::http::{Header, RequestHeader, RequestParams};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use url::Url;

use crate::error::FetchError;

/// The parts of a request, parsed.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Any valid token.
    pub method: Method,
    /// http or https.
    pub url: Url,
    /// Repetitions kept.
    pub headers: HeaderMap,
    /// Decoded.
    pub body: Option<Bytes>,
    /// Headers whose values came from the environment.
    pub secrets: Vec<HeaderName>,
}

/// Parses `params`; `variable` knows the environment that headers may name.
///
/// # Errors
/// What is wrong with them.
pub fn parse(params: &RequestParams, variable: impl Fn(&str) -> Option<Vec<u8>>) -> Result<Parts, FetchError> {
    let invalid = |what: &str, cause: &dyn std::fmt::Display| {
        FetchError::Invalid(format!("http/request {what} is invalid: {cause}"))
    };
    let method = Method::from_bytes(params.method.as_bytes()).map_err(|e| invalid("method", &e))?;
    let url = Url::parse(&params.url).map_err(|e| invalid("url", &e))?;
    if !matches!(url.scheme(), "http" | "https") {
        let text = format!("http/request only supports http and https URLs, got {}", url.scheme());
        return Err(FetchError::Invalid(text));
    }
    let (mut headers, mut secrets) = (HeaderMap::new(), Vec::new());
    for RequestHeader { name, value, value_env_var } in &params.headers {
        let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|e| invalid("header name", &e))?;
        let value = match value_env_var {
            None => value.as_bytes().to_vec(),
            Some(needed) => {
                secrets.push(parsed.clone());
                variable(needed).ok_or_else(|| {
                    let text = format!("http/request header {name} requires executor environment variable {needed}");
                    FetchError::Invalid(text)
                })?
            }
        };
        let mut value = HeaderValue::from_bytes(&value)
            .map_err(|e| FetchError::Invalid(format!("http/request header value is invalid for {name}: {e}")))?;
        value.set_sensitive(value_env_var.is_some());
        headers.append(parsed, value);
    }
    let body = params.body_base64.as_ref().map(|body| body.decode()).transpose().map_err(FetchError::Invalid)?;
    Ok(Parts { method, url, headers, body: body.map(Bytes::from), secrets })
}

/// Headers of a response: names in lower case, repetitions kept, values that are not UTF-8 left out.
pub fn headers(map: &HeaderMap) -> Vec<Header> {
    let pair = |(name, value): (&HeaderName, &HeaderValue)| {
        let value = std::str::from_utf8(value.as_bytes()).ok()?;
        Some(Header { name: name.as_str().to_owned(), value: value.to_owned() })
    };
    map.iter().filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use exedra_proto::base64::Base64Text;
    use exedra_proto::http::RedirectPolicy;
    use serde_json::{Value, json};

    use super::*;

    fn text(over: Value) -> String {
        let mut params = json!({"requestId": "r", "method": "GET", "url": "http://h/"});
        params.as_object_mut().unwrap().extend(over.as_object().unwrap().clone());
        let variable = |name: &str| (name == "HAVE").then(|| b"v".to_vec());
        parse(&serde_json::from_value(params).unwrap(), variable).map_or_else(|e| e.to_string(), |_| "fine".into())
    }

    /// Recorded from stock 0.130.
    #[test]
    fn what_is_wrong_in_the_words_of_stock() {
        let header = |name: &str, value: &str| json!({"headers": [{"name": name, "value": value}]});
        for (over, want) in [
            (json!({"method": "G T"}), "http/request method is invalid: invalid HTTP method"),
            (json!({"method": ""}), "http/request method is invalid: invalid HTTP method"),
            (json!({"url": "nope"}), "http/request url is invalid: relative URL without a base"),
            (json!({"url": "http://"}), "http/request url is invalid: empty host"),
            (json!({"url": "http://127.0.0.1:99999/"}), "http/request url is invalid: invalid port number"),
            (json!({"url": "ftp://x/"}), "http/request only supports http and https URLs, got ftp"),
            (header("b d", "1"), "http/request header name is invalid: invalid HTTP header name"),
            (header("H", "a\nb"), "http/request header value is invalid for H: failed to parse header value"),
            (header("H", "é"), "fine"),
            (
                json!({"headers": [{"name": "X-E", "value": "", "valueEnvVar": "NOPE"}]}),
                "http/request header X-E requires executor environment variable NOPE",
            ),
            (json!({"headers": [{"name": "X-E", "value": "", "valueEnvVar": "HAVE"}]}), "fine"),
            (json!({"bodyBase64": "!!!"}), "Invalid symbol 33, offset 0."),
            (json!({"method": "purge", "bodyBase64": ""}), "fine"),
        ] {
            assert_eq!(text(over.clone()), want, "{over}");
        }
    }

    #[test]
    fn repeated_headers_stay() {
        let pair = |name: &str, value: &str| Header { name: name.into(), value: value.into() };
        let params = RequestParams {
            request_id: "r".into(),
            method: "POST".into(),
            url: "HTTP://h".into(),
            headers: [pair("B", "1"), pair("A", "2"), pair("b", "3")].map(Into::into).to_vec(),
            body_base64: Some(Base64Text::encode(b"x")),
            timeout_ms: None,
            redirect_policy: RedirectPolicy::Follow,
            stream_response: false,
        };
        let parts = parse(&params, |_| None).unwrap();
        assert_eq!(parts.body.as_deref(), Some(b"x".as_slice()));
        assert_eq!(headers(&parts.headers), [pair("b", "1"), pair("b", "3"), pair("a", "2")]);
    }

    #[test]
    fn values_that_are_not_utf8_are_left_out() {
        let mut map = HeaderMap::new();
        map.append("x-bin", HeaderValue::from_bytes(b"a\xff").unwrap());
        map.append("x-text", HeaderValue::from_bytes("é".as_bytes()).unwrap());
        assert_eq!(headers(&map), [Header { name: "x-text".into(), value: "é".into() }]);
    }
}
