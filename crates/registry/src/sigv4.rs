//! AWS Signature Version 4, as far as a server needs it: reading what a request claims, and checking it.
//!
//! A request's parts and a secret flow in, a verdict flows out, compared in constant time. Whose secret it is, whether the
//! request came before, and what it asks for, others know; it reads no clock. Only what is signed counts: the host and the
//! date have to be, and so has every `x-amz-` header that is there.

use std::collections::BTreeMap;

use hmac::{Hmac, KeyInit as _, Mac as _};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sha2::{Digest as _, Sha256};

/// What stock executors sign for.
pub const SERVICE: &str = "execute-api";
/// How far the signer's clock may be off, in seconds.
pub const MAX_SKEW_SECS: u64 = 5 * 60;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// Digits of a signature and of a hash.
const HEX: usize = 64;
/// Signed headers that are looked at, at most.
const MAX_HEADERS: usize = 64;
/// All but what RFC 3986 calls unreserved.
const STRICT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The same, and the slashes between segments.
const PATH: &AsciiSet = &STRICT.remove(b'/');

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// `POST`.
    pub method: &'a str,
    /// The path as sent, encoded as it was.
    pub path: &'a str,
    /// The query as sent.
    pub query: &'a str,
    /// Names in lower case; values of one name joined by commas.
    pub headers: &'a BTreeMap<String, String>,
    /// All of it.
    pub body: &'a [u8],
}

/// Why a request is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// There is no such signature.
    #[error("the request has to be signed with AWS Signature Version 4")]
    Missing,
    /// It cannot be read.
    #[error("the header authorization or x-amz-date of the signed request cannot be read")]
    Malformed,
    /// Something that has to be signed is not.
    #[error("the signature has to cover host, x-amz-date and all other x-amz- headers")]
    Uncovered,
    /// For another region or service.
    #[error("the signature is for another region or service than this server's")]
    Scope,
    /// The date is too far from now.
    #[error("the signature's date is more than 5 minutes off; set the clock")]
    Skewed,
    /// The hash in a header is not the body's.
    #[error("the body is not the one that was signed")]
    Body,
    /// No such key, another secret, or altered on its way.
    #[error("the signature does not match: wrong access key or secret, or the request was altered")]
    Mismatch,
    /// It came before.
    #[error("this very request came before; a signature is used once")]
    Replayed,
}

/// What a request says of its signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Whose secret it was.
    pub access_key: String,
    /// When, seconds since 1970.
    pub at: u64,
    /// The signature itself.
    pub signature: [u8; HEX / 2],
    date: String,
    region: String,
    service: String,
    signed: Vec<String>,
}

impl Claim {
    /// Reads the headers.
    ///
    /// # Errors
    /// There is no signature, or it makes no sense.
    pub fn read(headers: &BTreeMap<String, String>) -> Result<Self, Fault> {
        let authorization = headers.get("authorization").ok_or(Fault::Missing)?;
        let rest = authorization.strip_prefix(ALGORITHM).ok_or(Fault::Missing)?;
        let mut parts = BTreeMap::new();
        for part in rest.split(',') {
            let (name, value) = part.trim().split_once('=').ok_or(Fault::Malformed)?;
            if parts.insert(name, value).is_some() {
                return Err(Fault::Malformed);
            }
        }
        let mut take = |name| parts.remove(name).ok_or(Fault::Malformed);
        let (credential, signed, signature) = (take("Credential")?, take("SignedHeaders")?, take("Signature")?);
        let scope: Vec<&str> = credential.split('/').collect();
        let [access_key, day, region, service, "aws4_request"] = scope.as_slice() else { return Err(Fault::Malformed) };
        let date = headers.get("x-amz-date").ok_or(Fault::Uncovered)?.trim();
        let at = seconds(date).ok_or(Fault::Malformed)?;
        if date.get(..8) != Some(day) {
            return Err(Fault::Malformed);
        }
        let signed: Vec<String> = signed.split(';').map(str::to_owned).collect();
        // In their order and each once, as the signer has to write them: two lists never mean the same.
        let is_ordered = signed.windows(2).all(|pair| pair.first() < pair.last());
        if !is_ordered || signed.len() > MAX_HEADERS {
            return Err(Fault::Malformed);
        }
        Ok(Self {
            access_key: (*access_key).to_owned(),
            at,
            signature: bytes(signature).ok_or(Fault::Malformed)?,
            date: date.to_owned(),
            region: (*region).to_owned(),
            service: (*service).to_owned(),
            signed,
        })
    }

    /// Whether it is for this region, made about now, and covers what it has to.
    ///
    /// # Errors
    /// The first reason against it.
    pub fn check(&self, headers: &BTreeMap<String, String>, region: &str, now: u64) -> Result<(), Fault> {
        if self.region != region || self.service != SERVICE {
            return Err(Fault::Scope);
        }
        if self.at.abs_diff(now) > MAX_SKEW_SECS {
            return Err(Fault::Skewed);
        }
        let covers = |name: &str| self.signed.iter().any(|signed| signed == name);
        let must = |name: &&String| name.as_str() == "host" || name.starts_with("x-amz-");
        if !covers("host") || !covers("x-amz-date") || !headers.keys().filter(must).all(|name| covers(name)) {
            return Err(Fault::Uncovered);
        }
        Ok(())
    }

    /// Whether `request` was signed with `secret`.
    ///
    /// # Errors
    /// [`Fault::Body`] or [`Fault::Mismatch`].
    pub fn verify(&self, secret: &str, request: &Request<'_>) -> Result<(), Fault> {
        let body = hex(&Sha256::digest(request.body));
        if request.headers.get("x-amz-content-sha256").is_some_and(|said| *said != body) {
            return Err(Fault::Body);
        }
        let canonical = self.canonical(request, &body).ok_or(Fault::Uncovered)?;
        let scope = format!("{}/{}/{}/aws4_request", self.date.get(..8).unwrap_or_default(), self.region, self.service);
        let text = format!("{ALGORITHM}\n{}\n{scope}\n{}", self.date, hex(&Sha256::digest(canonical)));
        let mut key = format!("AWS4{secret}").into_bytes();
        for part in scope.split('/') {
            key = mac(&key, part).finalize().into_bytes().to_vec();
        }
        mac(&key, &text).verify_slice(&self.signature).map_err(|_| Fault::Mismatch)
    }

    /// The text whose hash is signed; none, if a header that was signed is missing.
    fn canonical(&self, request: &Request<'_>, body: &str) -> Option<String> {
        let mut headers = String::new();
        for name in &self.signed {
            let value: Vec<&str> = request.headers.get(name)?.split_ascii_whitespace().collect();
            headers.push_str(&format!("{name}:{}\n", value.join(" ")));
        }
        let path = utf8_percent_encode(request.path, PATH);
        let (method, query, signed) = (request.method, query(request.query), self.signed.join(";"));
        Some(format!("{method}\n{path}\n{query}\n{headers}\n{signed}\n{body}"))
    }
}

/// Each part decoded and encoded again, in order.
fn query(query: &str) -> String {
    let again = |text: &str| {
        let bytes: Vec<u8> = percent_decode_str(text).collect();
        percent_encoding::percent_encode(&bytes, STRICT).to_string()
    };
    let mut pairs: Vec<_> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .collect::<Vec<_>>()
        .iter()
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (again(name), again(value))
        })
        .collect();
    pairs.sort();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

fn mac(key: &[u8], text: &str) -> Hmac<Sha256> {
    let mut mac = match Hmac::<Sha256>::new_from_slice(key) {
        Ok(mac) => mac,
        Err(_) => unreachable!("HMAC takes keys of any length"),
    };
    mac.update(text.as_bytes());
    mac
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Option<[u8; HEX / 2]> {
    if hex.len() != HEX || !hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let mut bytes = [0; HEX / 2];
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(hex.get(2 * i..2 * i + 2)?, 16).ok()?;
    }
    Some(bytes)
}

/// `20261126T210441Z` as seconds since 1970.
fn seconds(date: &str) -> Option<u64> {
    let (day, time) = date.strip_suffix('Z')?.split_once('T')?;
    if day.len() != 8 || time.len() != 6 || !day.bytes().chain(time.bytes()).all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let part = |text: &str, from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
    let (year, month, day) = (part(day, 0, 4)?, part(day, 4, 6)?, part(day, 6, 8)?);
    let (hour, minute, second) = (part(time, 0, 2)?, part(time, 2, 4)?, part(time, 4, 6)?);
    let is_date = year >= 1970 && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !is_date || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Days since 1970, in years that begin in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    Some(days * 86_400 + hour * 3_600 + minute * 60 + second)
}

#[cfg(test)]
mod tests;
