//! Against a signature that a stock executor made, and everything that may be wrong with one.

use super::*;

const SECRET: &str = "secretsecret";
const AT: &str = "20261126T210441Z";
const BODY: &[u8] = br#"{"transport":"direct_jsonrpc_v1"}"#;
const PATH_SENT: &str = "/cloud/environment/me@h+x/direct/register";
/// Made by a stock 0.169.0.
const AUTHORIZATION: &str = "AWS4-HMAC-SHA256 Credential=EXED0123456789ABCDEF/20261126/us-east-1/execute-api/aws4_request, \
     SignedHeaders=content-type;host;x-amz-date, \
     Signature=fe4e0853c4bb4c3d93ed694a650e85229c0d4df61e925295ac18c92f7583551b";

fn headers() -> BTreeMap<String, String> {
    [
        ("content-type", "application/json"),
        ("x-amz-date", AT),
        ("authorization", AUTHORIZATION),
        ("accept", "*/*"),
        ("host", "127.0.0.1:41601"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

fn judge(headers: &BTreeMap<String, String>, path: &str, body: &[u8], secret: &str) -> Result<(), Fault> {
    let claim = Claim::read(headers)?;
    claim.check(headers, "us-east-1", seconds(AT).unwrap())?;
    claim.verify(secret, &Request { method: "POST", path, query: "", headers, body })
}

fn with(name: &str, value: &str) -> Result<(), Fault> {
    let mut headers = headers();
    headers.insert(name.to_owned(), value.to_owned());
    judge(&headers, PATH_SENT, BODY, SECRET)
}

#[test]
fn what_stock_signed_is_believed_and_what_was_altered_is_not() {
    assert_eq!(judge(&headers(), PATH_SENT, BODY, SECRET), Ok(()));
    assert_eq!(with("accept", "anything, it is not signed"), Ok(()));
    assert_eq!(with("content-type", "  application/json "), Ok(()), "white space says nothing");
    assert_eq!(judge(&headers(), PATH_SENT, b"{}", SECRET), Err(Fault::Mismatch));
    assert_eq!(judge(&headers(), "/cloud/environment/me@h+y/direct/register", BODY, SECRET), Err(Fault::Mismatch));
    assert_eq!(judge(&headers(), PATH_SENT, BODY, "secretsecreT"), Err(Fault::Mismatch));
    assert_eq!(with("host", "127.0.0.1:41602"), Err(Fault::Mismatch));
    assert_eq!(with("content-type", "text/plain"), Err(Fault::Mismatch));
    assert_eq!(with("x-amz-date", "20261126T210442Z"), Err(Fault::Mismatch));
    let claim = Claim::read(&headers()).unwrap();
    let (headers, query) = (headers(), "a=b");
    let request = Request { method: "POST", path: PATH_SENT, query, headers: &headers, body: BODY };
    assert_eq!(claim.verify(SECRET, &request), Err(Fault::Mismatch), "a query was added");
    let request = Request { method: "GET", query: "", ..request };
    assert_eq!(claim.verify(SECRET, &request), Err(Fault::Mismatch), "another method");
}

#[test]
fn what_has_to_be_signed_is() {
    assert_eq!(with("x-amz-security-token", "t"), Err(Fault::Uncovered));
    for signed in ["content-type;x-amz-date", "content-type;host", "accept"] {
        let authorization = AUTHORIZATION.replace("content-type;host;x-amz-date", signed);
        assert_eq!(with("authorization", &authorization), Err(Fault::Uncovered), "{signed}");
    }
    let hashed = AUTHORIZATION.replace("host;x-amz-date", "host;x-amz-content-sha256;x-amz-date");
    let mut headers = headers();
    headers.insert("authorization".to_owned(), hashed);
    assert_eq!(judge(&headers, PATH_SENT, BODY, SECRET), Err(Fault::Uncovered), "a signed header is missing");
    headers.insert("x-amz-content-sha256".to_owned(), "UNSIGNED-PAYLOAD".to_owned());
    assert_eq!(judge(&headers, PATH_SENT, BODY, SECRET), Err(Fault::Body));
}

#[test]
fn another_scope_and_another_time_are_told_apart() {
    let claim = Claim::read(&headers()).unwrap();
    let now = seconds(AT).unwrap();
    let check = |region: &str, now| claim.check(&headers(), region, now);
    assert_eq!(check("eu-west-1", now), Err(Fault::Scope));
    for (off, verdict) in [(300, Ok(())), (301, Err(Fault::Skewed)), (86_400, Err(Fault::Skewed))] {
        assert_eq!((check("us-east-1", now + off), check("us-east-1", now - off)), (verdict, verdict), "{off}");
    }
    let other = AUTHORIZATION.replace("execute-api", "s3");
    assert_eq!(with("authorization", &other), Err(Fault::Scope));
}

#[test]
fn what_cannot_be_read_is_told() {
    for bad in ["", "Bearer x", "AWS4-HMAC-SHA1 Credential=a"] {
        assert_eq!(with("authorization", bad), Err(Fault::Missing), "{bad}");
    }
    let cases = [
        ("Credential=", "Credential"),
        ("20261126/", "20261127/"),
        ("/aws4_request", "/aws5_request"),
        ("content-type;host", "host;content-type"),
        ("content-type;host", "host;host"),
        ("fe4e", "FE4E"),
        ("fe4e", "fe4"),
        ("fe4e", "fe4e0"),
        ("Signature=", "Signature=a, Signature="),
        ("Signature=", "Sig="),
    ];
    for (from, to) in cases {
        let authorization = AUTHORIZATION.replace(from, to);
        assert_eq!(with("authorization", &authorization), Err(Fault::Malformed), "{to}");
    }
    for date in ["", "20261126", "20261126T210441", "20261326T210441Z", "20261126T240441Z", "2026112éT210441Z"] {
        assert_eq!(with("x-amz-date", date), Err(Fault::Malformed), "{date}");
    }
}

#[test]
fn dates_are_counted_from_1970() {
    for (date, at) in [
        ("19700101T000000Z", 0),
        ("20000229T120000Z", 951_825_600),
        ("20000301T000000Z", 951_868_800),
        ("20261126T210441Z", 1_795_727_081),
        ("21000301T000000Z", 4_107_542_400),
    ] {
        assert_eq!(seconds(date), Some(at), "{date}");
    }
}

#[test]
fn a_query_is_put_in_order_and_encoded_anew() {
    assert_eq!(query("role=executor&a=b%2Dc&sig=x%2f&e"), "a=b-c&e=&role=executor&sig=x%2F");
    assert_eq!(query(""), "");
}
