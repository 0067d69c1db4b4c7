//! The `Retry-After` header: seconds or an HTTP date in, a pause out. Pure; the time is a parameter.

use std::time::{Duration, SystemTime};

/// No peer may make us wait longer than this.
pub(crate) const CAP: Duration = Duration::from_secs(300);

/// What `value` asks for, seen from `now`, at most [`CAP`]; none if it cannot be read.
pub(crate) fn parse(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    let pause = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        value.parse().map(Duration::from_secs).unwrap_or(CAP)
    } else {
        httpdate::parse_http_date(value).ok()?.duration_since(now).unwrap_or(Duration::ZERO)
    };
    Some(pause.min(CAP))
}

/// The same for the headers of an answer.
pub(crate) fn of(headers: &http::HeaderMap) -> Option<Duration> {
    parse(headers.get(http::header::RETRY_AFTER)?.to_str().ok()?, SystemTime::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_dates_are_read_and_capped() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        let parse = |value| parse(value, now).map(|pause| pause.as_secs());
        assert_eq!(parse(" 7 "), Some(7));
        assert_eq!(parse("86400"), Some(300));
        assert_eq!(parse("99999999999999999999999999"), Some(300));
        assert_eq!(parse("Sun, 06 Nov 1994 08:50:07 GMT"), Some(30));
        assert_eq!(parse("Sun, 06 Nov 1994 08:49:07 GMT"), Some(0), "in the past");
        assert_eq!(parse("Sat, 06 Nov 2094 08:49:07 GMT"), Some(300));
        for bad in ["", "-1", "1.5", "soon"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
