//! A signed token (JWT) as text: what it says of itself, whether its signature is good, and whether its claims are.
//!
//! Text, a key and `now` flow in, claims flow out, or the first fault. What is read before the signature is checked serves
//! to find the key, or to refuse the token without looking for one, and for nothing else.

use std::str::FromStr as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::Fault;

/// Longest token, in bytes; those of CI systems and clusters have 1 to 3 KiB.
const MAX_LEN: usize = 16 * 1024;
/// Longest subject that is taken, in bytes.
const MAX_SUBJECT: usize = 1_024;

/// What a token says of itself, unproven.
#[derive(Debug)]
pub struct Seen {
    /// How it is signed.
    pub algorithm: Algorithm,
    /// With which key.
    pub key_id: Option<String>,
    /// Who made it.
    pub issuer: String,
    /// All that it claims.
    pub claims: Map<String, Value>,
}

/// What a good token proves.
#[derive(Debug, PartialEq, Eq)]
pub struct Proof {
    /// Whom it is for.
    pub subject: String,
    /// Until when it is good, clocks that are off included, seconds since 1970.
    pub until: u64,
    /// When it was made; 0 if it does not say.
    pub issued_at: u64,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    #[serde(default)]
    crit: Value,
}

/// Whether a bearer token has the form of a signed JWT: three parts in base64url.
pub fn is_signed(bearer: &str) -> bool {
    let is_part = |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    bearer.len() <= MAX_LEN && bearer.split('.').count() == 3 && bearer.split('.').all(is_part)
}

/// Reads what is needed to find the key.
///
/// # Errors
/// It cannot be read, or names an algorithm that nobody here knows, `none` among them.
pub fn peek(token: &str) -> Result<Seen, Fault> {
    let mut parts = token.split('.');
    let (header, claims) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let Header { alg, kid, crit } = read(header)?;
    // What is critical would have to be understood (RFC 7515, 4.1.11), and nothing is.
    if !crit.is_null() {
        return Err(Fault::Malformed);
    }
    let algorithm = Algorithm::from_str(&alg).map_err(|_| Fault::Algorithm)?;
    let claims: Map<String, Value> = read(claims)?;
    let issuer = claims.get("iss").and_then(Value::as_str).ok_or(Fault::Malformed)?.to_owned();
    Ok(Seen { algorithm, key_id: kid, issuer, claims })
}

/// The claims, if the signature is that of `key`.
///
/// # Errors
/// It is not.
pub fn verify(token: &str, key: &DecodingKey, algorithm: Algorithm) -> Result<Map<String, Value>, Fault> {
    let mut validation = Validation::new(algorithm);
    // These are for `check`, by a clock that is passed in.
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_aud = false;
    let decoded = jsonwebtoken::decode::<Map<String, Value>>(token, key, &validation);
    Ok(decoded.map_err(|_| Fault::Signature)?.claims)
}

/// What claims prove, if they are proven.
///
/// # Errors
/// They are for others, or not for now.
pub fn check(claims: &Map<String, Value>, issuer: &str, audience: &str, skew: u64, now: u64) -> Result<Proof, Fault> {
    if claims.get("iss").and_then(Value::as_str) != Some(issuer) {
        return Err(Fault::Issuer);
    }
    let is_for_us = match claims.get("aud") {
        Some(Value::String(one)) => one == audience,
        Some(Value::Array(many)) => many.iter().any(|one| one.as_str() == Some(audience)),
        _ => return Err(Fault::Claim("aud")),
    };
    if !is_for_us {
        return Err(Fault::Audience);
    }
    let until = time(claims, "exp")?.ok_or(Fault::Claim("exp"))?.saturating_add(skew);
    if until <= now {
        return Err(Fault::Expired);
    }
    let issued_at = time(claims, "iat")?;
    let latest = now.saturating_add(skew);
    if time(claims, "nbf")?.max(issued_at).is_some_and(|begin| begin > latest) {
        return Err(Fault::Early);
    }
    let subject = claims.get("sub").and_then(Value::as_str).unwrap_or_default();
    if subject.is_empty() || subject.len() > MAX_SUBJECT || subject.contains('\0') {
        return Err(Fault::Claim("sub"));
    }
    Ok(Proof { subject: subject.to_owned(), until, issued_at: issued_at.unwrap_or_default() })
}

/// A time in seconds since 1970, which may have a fraction (RFC 7519, 2).
fn time(claims: &Map<String, Value>, name: &'static str) -> Result<Option<u64>, Fault> {
    /// Beyond it a double is not exact; the year is 285 million.
    const LATEST: f64 = 9_007_199_254_740_992.0;
    let Some(value) = claims.get(name) else { return Ok(None) };
    let seconds = value.as_f64().filter(|seconds| (0.0..LATEST).contains(seconds));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it was looked at right before")]
    let whole = seconds.map(|seconds| seconds as u64);
    whole.ok_or(Fault::Claim(name)).map(Some)
}

fn read<T: DeserializeOwned>(part: &str) -> Result<T, Fault> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| Fault::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| Fault::Malformed)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: u64 = 1_000_000;

    fn checked(change: Value) -> Result<Proof, Fault> {
        let mut claims = json!({"iss": "https://i", "aud": "exedra", "sub": "me", "exp": NOW + 300, "iat": NOW});
        for (name, value) in change.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let claims = claims.as_object().unwrap().iter().filter(|(_, value)| !value.is_null());
        let claims = claims.map(|(name, value)| (name.clone(), value.clone())).collect();
        check(&claims, "https://i", "exedra", 60, NOW)
    }

    #[test]
    fn times_count_with_the_skew_and_to_the_second() {
        let proof = checked(json!({})).unwrap();
        assert_eq!(proof, Proof { subject: "me".to_owned(), until: NOW + 360, issued_at: NOW });
        for (change, expected) in [
            (json!({"exp": NOW - 59}), None),
            (json!({"exp": NOW - 60}), Some(Fault::Expired)),
            (json!({"exp": 0}), Some(Fault::Expired)),
            (json!({"nbf": NOW + 60}), None),
            (json!({"nbf": NOW + 61}), Some(Fault::Early)),
            (json!({"iat": NOW + 60}), None),
            (json!({"iat": NOW + 61}), Some(Fault::Early)),
            (json!({"iat": null}), None),
            (json!({"exp": NOW as f64 + 0.5}), None),
            (json!({"exp": null}), Some(Fault::Claim("exp"))),
            (json!({"exp": "soon"}), Some(Fault::Claim("exp"))),
            (json!({"exp": -1}), Some(Fault::Claim("exp"))),
            (json!({"exp": 1e300}), Some(Fault::Claim("exp"))),
            (json!({"nbf": []}), Some(Fault::Claim("nbf"))),
        ] {
            assert_eq!(checked(change.clone()).err(), expected, "{change}");
        }
    }

    #[test]
    fn it_has_to_be_for_us_and_from_whom_it_says() {
        for (change, expected) in [
            (json!({"aud": ["other", "exedra"]}), None),
            (json!({"aud": "exedra2"}), Some(Fault::Audience)),
            (json!({"aud": []}), Some(Fault::Audience)),
            (json!({"aud": [["exedra"]]}), Some(Fault::Audience)),
            (json!({"aud": null}), Some(Fault::Claim("aud"))),
            (json!({"aud": {"exedra": true}}), Some(Fault::Claim("aud"))),
            (json!({"iss": "https://i/"}), Some(Fault::Issuer)),
            (json!({"iss": null}), Some(Fault::Issuer)),
            (json!({"sub": null}), Some(Fault::Claim("sub"))),
            (json!({"sub": ""}), Some(Fault::Claim("sub"))),
            (json!({"sub": "a\0b"}), Some(Fault::Claim("sub"))),
            (json!({"sub": "x".repeat(1_025)}), Some(Fault::Claim("sub"))),
        ] {
            assert_eq!(checked(change.clone()).err(), expected, "{change}");
        }
    }

    #[test]
    fn what_is_no_signed_token_is_told_apart() {
        let of = |header: Value| format!("{}.eyJpc3MiOiJpIn0.c2ln", URL_SAFE_NO_PAD.encode(header.to_string()));
        assert!(is_signed(&of(json!({"alg": "RS256"}))));
        for no in ["", "a.b", "a.b.c.d", "a.b.c=", "a b.c.d", "exedra_c_0", &"x.y.z".repeat(9_000)] {
            assert!(!is_signed(no), "{no}");
        }
        let seen = peek(&of(json!({"alg": "ES256", "kid": "k"}))).unwrap();
        assert_eq!((seen.algorithm, seen.key_id.as_deref(), &*seen.issuer), (Algorithm::ES256, Some("k"), "i"));
        for (header, fault) in [
            (json!({"alg": "none"}), Fault::Algorithm),
            (json!({"alg": "NONE"}), Fault::Algorithm),
            (json!({"alg": ""}), Fault::Algorithm),
            (json!({"alg": "RS256", "crit": ["b64"], "b64": false}), Fault::Malformed),
            (json!({"kid": "k"}), Fault::Malformed),
            (json!({"alg": "RS256", "kid": 7}), Fault::Malformed),
            (json!([]), Fault::Malformed),
        ] {
            assert_eq!(peek(&of(header.clone())).unwrap_err(), fault, "{header}");
        }
        assert_eq!(peek("e30.e30.").unwrap_err(), Fault::Malformed);
    }
}
