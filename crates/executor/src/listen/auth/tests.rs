//! The check of handshakes: every proof, right and wrong, in the words of stock.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};

use super::*;

const SECRET: &str = "a shared secret of more than 32 bytes";

fn head(uri: &str, authorization: &[&str]) -> Parts {
    let mut request = http::Request::builder().uri(uri);
    for value in authorization {
        request = request.header(AUTHORIZATION, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn shown(auth: &WsAuth, authorization: &str) -> Result<Client, &'static str> {
    auth.admit(&head("/", &[authorization])).map_err(|denial| denial.0)
}

fn file(dir: &tempfile::TempDir, text: &str) -> PathBuf {
    let path = dir.path().join("secret");
    std::fs::write(&path, text).unwrap();
    path
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn jwt(claims: &Value) -> String {
    format!("Bearer {}", encode(&Header::default(), claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap())
}

#[test]
fn a_capability_token_from_a_file_that_may_change() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, " tok-1 \n");
    let auth = WsAuth::token_file(path.clone()).unwrap();
    assert!(shown(&auth, "Bearer tok-1").is_ok() && shown(&auth, "bEARER  tok-1").is_ok());
    assert_eq!(shown(&auth, "Bearer tok-2"), Err("invalid websocket bearer token"));
    assert_eq!(shown(&auth, "Bearer tok-11"), Err("invalid websocket bearer token"));
    std::fs::write(&path, "tok-2").unwrap();
    assert!(shown(&auth, "Bearer tok-2").is_ok());
    assert_eq!(shown(&auth, "Bearer tok-1"), Err("invalid websocket bearer token"));
    std::fs::write(&path, " \n").unwrap();
    assert_eq!(shown(&auth, "Bearer "), Err("invalid authorization header"));
    std::fs::remove_file(&path).unwrap();
    assert_eq!(shown(&auth, "Bearer tok-2"), Err("invalid websocket bearer token"), "closed, not open");
    assert!(WsAuth::token_file(path).is_err());
}

#[test]
fn a_capability_token_by_its_hash() {
    let hash: String = Sha256::digest(b"tok").iter().map(|byte| format!("{byte:02X}")).collect();
    let auth = WsAuth::token_sha256(&hash).unwrap();
    assert!(shown(&auth, "Bearer tok").is_ok());
    assert_eq!(shown(&auth, "Bearer other"), Err("invalid websocket bearer token"));
    for bad in ["", "ab", &hash[1..], &format!("+{}", &hash[1..]), &"ä".repeat(32)] {
        assert!(WsAuth::token_sha256(bad).is_err(), "{bad}");
    }
    assert!(!format!("{auth:?}").contains("tok"));
}

#[test]
fn a_header_that_is_none() {
    let auth = WsAuth::token_sha256(&"0".repeat(64)).unwrap();
    assert_eq!(auth.admit(&head("/", &[])), Err(MISSING));
    for bad in ["", "Bearer", "Basic dG9r", "tok"] {
        assert_eq!(shown(&auth, bad), Err("invalid authorization header"), "{bad}");
    }
    assert_eq!(auth.admit(&head("/", &["Bearer a", "Bearer b"])), Err(BAD_HEADER));
}

#[test]
fn a_token_in_the_url_only_where_that_is_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let auth = WsAuth::token_file(file(&dir, "t&k")).unwrap();
    let request = head("/?x=1&token=t%26k", &[]);
    assert_eq!(auth.admit(&request), Err(MISSING));
    let auth = auth.with_query();
    assert!(auth.admit(&request).is_ok());
    assert_eq!(auth.admit(&head("/?token=other", &[])), Err(INVALID));
    assert_eq!(auth.admit(&head("/?token=t%26k", &["Bearer wrong"])), Err(INVALID), "a header counts more");
}

#[test]
fn a_signed_token_and_every_way_to_be_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let options = SignedOptions { issuer: Some("me".into()), audience: Some("box".into()), max_clock_skew: None };
    let auth = WsAuth::signed(&file(&dir, SECRET), options).unwrap();
    let good = json!({"exp": now() + 60, "iss": "me", "aud": ["other", "box"], "sub": "ann", "labels": ["ci"]});
    let client = Client { name: Some("ann".into()), labels: Some(vec!["ci".into()]), ..Client::default() };
    assert_eq!(shown(&auth, &jwt(&good)), Ok(client));
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        shown(&auth, &jwt(&claims)).map_err(str::to_owned).err().unwrap_or_default()
    };
    assert_eq!(with("aud", json!("box")), "");
    assert_eq!(with("exp", json!(now() - 20)), "", "within the skew");
    assert_eq!(with("exp", json!(now() - 40)), "expired websocket jwt");
    assert_eq!(with("exp", Value::Null), "invalid websocket jwt");
    assert_eq!(with("nbf", json!(now() + 60)), "websocket jwt is not valid yet");
    assert_eq!(with("nbf", json!(now() + 10)), "");
    for no_number in [json!("0"), json!([0]), json!({}), json!(true), Value::Null] {
        assert_eq!(with("nbf", no_number.clone()), "invalid websocket jwt", "{no_number}");
    }
    for no_text in [json!(["me"]), json!(["you", "me"]), json!(1), json!({"me": "me"}), Value::Null] {
        assert!(!with("iss", no_text.clone()).is_empty(), "{no_text}");
    }
    assert_eq!(with("iss", json!("you")), "websocket jwt issuer mismatch");
    assert_eq!(with("aud", json!("other")), "websocket jwt audience mismatch");
    let mut claims = good.clone();
    claims.as_object_mut().unwrap().remove("iss");
    assert_eq!(shown(&auth, &jwt(&claims)), Err("websocket jwt issuer mismatch"));
    // Signed by another, not at all, in another way.
    let other = encode(&Header::default(), &good, &EncodingKey::from_secret(b"another secret")).unwrap();
    let longer = encode(&Header::new(Algorithm::HS512), &good, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap();
    let body = other.split('.').nth(1).unwrap();
    let none = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{body}.");
    for bad in [other.as_str(), &longer, &none, "a.b.c", "x"] {
        assert_eq!(shown(&auth, &format!("Bearer {bad}")), Err("invalid websocket jwt"), "{bad}");
    }
    assert!(WsAuth::signed(&file(&dir, "short"), SignedOptions::default()).is_err());
}
