//! Who may open a websocket on the listener: a capability token or a signed bearer token, as stock's `--ws-auth` has it
//! (protocol 19.2).
//!
//! In flows the head of a handshake, out flows who it is, or the text of a 401. Tokens are compared in constant time and
//! are in no error and no log.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::request::Parts;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::error::ExecutorError;
use crate::peer::Client;

/// The least that a shared secret must have, in bytes, as with stock.
const MIN_SECRET: usize = 32;
/// Larger files are something else.
const MAX_FILE: u64 = 64 * 1024;
/// Allowed difference of clocks where none is given, in seconds, as with stock.
pub const CLOCK_SKEW: u64 = 30;
/// The query parameter that carries a token, where that is allowed.
const QUERY: &str = "token";

const MISSING: Denial = Denial("missing websocket bearer token");
const INVALID: Denial = Denial("invalid websocket bearer token");
const BAD_HEADER: Denial = Denial("invalid authorization header");

/// What a client has to show.
#[derive(Clone, Debug)]
pub struct WsAuth {
    proof: Proof,
    /// Whether the token may stand in the URL too, for clients that send no header.
    query: bool,
}

#[derive(Clone)]
enum Proof {
    /// A token whose hash is this.
    Hash([u8; 32]),
    /// The token in a file, which may change.
    File(PathBuf),
    /// A JWT signed with a shared secret.
    Signed(Arc<Signed>),
}

struct Signed {
    key: DecodingKey,
    validation: Validation,
}

/// Settings of signed tokens.
#[derive(Clone, Debug, Default)]
pub struct SignedOptions {
    /// Who must have issued it, if anybody in particular.
    pub issuer: Option<String>,
    /// For whom it must be, if for anybody in particular.
    pub audience: Option<String>,
    /// Allowed difference of clocks, in seconds; [`CLOCK_SKEW`] if none is given.
    pub max_clock_skew: Option<u64>,
}

/// Why a handshake is refused, in the words of stock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denial(pub &'static str);

/// What we read of a token.
#[derive(Deserialize)]
struct Claims {
    #[serde(default)]
    sub: Option<String>,
    /// Must be a text where it is there: of a list, one element would do.
    #[serde(default, deserialize_with = "present")]
    #[expect(dead_code, reason = "what counts is that it can be read")]
    iss: Option<String>,
    /// Must be a number where it is there: anything else would pass as absent.
    #[serde(default, deserialize_with = "present")]
    #[expect(dead_code, reason = "what counts is that it can be read")]
    nbf: Option<serde_json::Number>,
    #[serde(default)]
    labels: Vec<String>,
}

impl WsAuth {
    /// The token in `file`, read again for each handshake, so that it can be replaced.
    ///
    /// # Errors
    /// It cannot be read, or holds no token.
    pub fn token_file(file: PathBuf) -> Result<Self, ExecutorError> {
        read_token(&file).map_err(ExecutorError::WsAuth)?;
        Ok(Self { proof: Proof::File(file), query: false })
    }

    /// The token with this SHA-256, as 64 digits of hex.
    ///
    /// # Errors
    /// It is no such hash.
    pub fn token_sha256(hex: &str) -> Result<Self, ExecutorError> {
        let digit = |at: usize| hex.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
        let is_hex = hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
        let bytes: Option<Vec<u8>> = is_hex.then(|| (0..64).step_by(2).map(digit).collect()).flatten();
        let hash = bytes.and_then(|bytes| bytes.try_into().ok());
        let hash = hash.ok_or_else(|| ExecutorError::WsAuth("a SHA-256 has 64 hex digits".to_owned()))?;
        Ok(Self { proof: Proof::Hash(hash), query: false })
    }

    /// Tokens signed with the secret in `file` (HS256).
    ///
    /// # Errors
    /// The file cannot be read, or the secret is too short.
    pub fn signed(file: &Path, options: SignedOptions) -> Result<Self, ExecutorError> {
        let secret = read(file).map_err(ExecutorError::WsAuth)?;
        let secret = secret.trim_ascii();
        if secret.len() < MIN_SECRET {
            let text = format!("the shared secret in {} must have at least {MIN_SECRET} bytes", file.display());
            return Err(ExecutorError::WsAuth(text));
        }
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_required_spec_claims(&["exp"]);
        validation.leeway = options.max_clock_skew.unwrap_or(CLOCK_SKEW);
        validation.validate_nbf = true;
        validation.validate_aud = options.audience.is_some();
        if let Some(audience) = options.audience {
            validation.required_spec_claims.insert("aud".to_owned());
            validation.set_audience(&[audience]);
        }
        if let Some(issuer) = options.issuer {
            validation.required_spec_claims.insert("iss".to_owned());
            validation.set_issuer(&[issuer]);
        }
        let signed = Signed { key: DecodingKey::from_secret(secret), validation };
        Ok(Self { proof: Proof::Signed(Arc::new(signed)), query: false })
    }

    /// Takes the token from the query of the URL too.
    #[must_use]
    pub fn with_query(mut self) -> Self {
        self.query = true;
        self
    }

    /// Who shows what is asked for.
    ///
    /// # Errors
    /// Nothing is shown, or the wrong thing.
    pub fn admit(&self, request: &Parts) -> Result<Client, Denial> {
        let token = self.token(request)?;
        match &self.proof {
            Proof::Hash(hash) => same(&Sha256::digest(token.as_bytes()), hash),
            Proof::File(file) => match read_token(file) {
                Ok(expected) => same(&Sha256::digest(token.as_bytes()), &Sha256::digest(&expected)),
                Err(text) => {
                    tracing::warn!("nobody can come in: {text}");
                    Err(INVALID)
                }
            },
            Proof::Signed(signed) => return signed.admit(&token),
        }?;
        Ok(Client::default())
    }

    fn token(&self, request: &Parts) -> Result<String, Denial> {
        let mut headers = request.headers.get_all(AUTHORIZATION).iter();
        let Some(header) = headers.next() else {
            return self.query.then(|| from_query(request)).flatten().ok_or(MISSING);
        };
        if headers.next().is_some() {
            return Err(BAD_HEADER);
        }
        let header = header.to_str().map_err(|_| BAD_HEADER)?;
        let (scheme, token) = header.split_once(' ').ok_or(BAD_HEADER)?;
        let token = token.trim();
        if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() {
            return Err(BAD_HEADER);
        }
        Ok(token.to_owned())
    }
}

impl Signed {
    fn admit(&self, token: &str) -> Result<Client, Denial> {
        let decoded = jsonwebtoken::decode::<Claims>(token, &self.key, &self.validation);
        let claims = decoded.map_err(|error| Denial(text(error.kind())))?.claims;
        Ok(Client { name: claims.sub, labels: Some(claims.labels), ..Client::default() })
    }
}

impl std::fmt::Debug for Proof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Hash(_) => "Hash(<redacted>)",
            Self::File(_) => "File(..)",
            Self::Signed(_) => "Signed(<redacted>)",
        })
    }
}

/// A claim that is there: `null` is none.
fn present<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(claim: D) -> Result<Option<T>, D::Error> {
    T::deserialize(claim).map(Some)
}

fn text(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::ExpiredSignature => "expired websocket jwt",
        ErrorKind::ImmatureSignature => "websocket jwt is not valid yet",
        ErrorKind::InvalidIssuer => "websocket jwt issuer mismatch",
        ErrorKind::InvalidAudience => "websocket jwt audience mismatch",
        ErrorKind::MissingRequiredClaim(claim) if claim == "iss" => "websocket jwt issuer mismatch",
        ErrorKind::MissingRequiredClaim(claim) if claim == "aud" => "websocket jwt audience mismatch",
        _ => "invalid websocket jwt",
    }
}

fn same(shown: &[u8], expected: &[u8]) -> Result<(), Denial> {
    if bool::from(shown.ct_eq(expected)) { Ok(()) } else { Err(INVALID) }
}

fn from_query(request: &Parts) -> Option<String> {
    let query = request.uri.query()?;
    url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == QUERY).map(|(_, value)| value.into_owned())
}

fn read_token(file: &Path) -> Result<Vec<u8>, String> {
    let token = read(file)?.trim_ascii().to_vec();
    if token.is_empty() { Err(format!("the token file {} is empty", file.display())) } else { Ok(token) }
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| format!("cannot read {}: {error}", file.display());
    let mut bytes = Vec::new();
    std::fs::File::open(file).map_err(failed)?.take(MAX_FILE).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
