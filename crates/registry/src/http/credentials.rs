//! Who asks, and for which executor: the bearer token in the headers, the id in the path.

use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use exedra_proto::secret::Secret;

/// The bearer token; none, if there is no such header, more than one, or another scheme.
pub fn bearer(headers: &HeaderMap) -> Option<Secret> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (value, None) = (values.next()?.to_str().ok()?, values.next()) else { return None };
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| Secret::new(token))
}

/// The decoded path segment; one that is no UTF-8 becomes empty, which is nobody's id.
pub fn segment(id: Result<Path<String>, PathRejection>) -> String {
    id.map(|Path(id)| id).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer_of(values: &[&'static str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, axum::http::HeaderValue::from_static(value));
        }
        bearer(&headers).map(|token| token.expose().to_owned())
    }

    #[test]
    fn one_bearer_header_counts() {
        assert_eq!(bearer_of(&["Bearer a"]), Some("a".into()));
        assert_eq!(bearer_of(&["bearer  a "]), Some("a".into()));
        for wrong in [&[][..], &["Basic a"], &["a"], &["Bearer"], &["Bearer "], &["Bearer a", "Bearer a"]] {
            assert_eq!(bearer_of(wrong), None, "{wrong:?}");
        }
    }
}
