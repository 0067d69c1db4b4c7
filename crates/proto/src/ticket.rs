//! Tickets: the signed URLs by which the registry lets somebody into the rendezvous.
//!
//! `{ws base}/rendezvous/{registration_id}?role=…&shape=…&epoch=…&tok=…&iat=…&exp=…&jti=…&kid=…&sig=…`, where the
//! signature is HMAC-SHA-256 over the canonical text of all other parts. A client's ticket has one more, `cli`: what its token
//! says of it, as unpadded URL-safe base64 of JSON. Time is a parameter, in seconds since 1970.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::ids::{RegistrationId, TokenId};
use crate::introduction::Client;
use crate::secret::Secret;

/// Path prefix of the rendezvous.
pub const PATH_PREFIX: &str = "/rendezvous/";
/// Life of an executor's ticket, in seconds.
pub const EXECUTOR_TICKET_SECS: u64 = 24 * 60 * 60;
/// Life of a client's ticket, in seconds.
pub const HARNESS_TICKET_SECS: u64 = 60;
/// How far the clock may have been set back since a ticket was issued, in seconds.
pub const CLOCK_LEEWAY_SECS: u64 = 60;
/// Response header with the reason of a refused websocket handshake.
pub const REJECTION_HEADER: &str = "x-codex-rendezvous-rejection-reason";

/// Who opens the websocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The machine that runs commands.
    Executor,
    /// A client.
    Harness,
}

/// Of which shape the rendezvous connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// One executor, one client, messages passed as they are.
    Pair,
    /// One executor, many clients, relay frames routed by stream id.
    Streams,
}

/// What a ticket says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// Where to meet.
    pub registration: RegistrationId,
    /// Who comes.
    pub role: Role,
    /// How it is joined.
    pub shape: Shape,
    /// Fencing number of the registration.
    pub epoch: u64,
    /// The token behind it.
    pub token: TokenId,
    /// Seconds since 1970.
    pub issued_at: u64,
    /// Seconds since 1970; at that second it is no longer good.
    pub expires_at: u64,
    /// Unique.
    pub ticket_id: String,
    /// What the token says of a client; of an executor nothing.
    pub client: Client,
}

/// Why a ticket is refused. `Display` is the value of [`REJECTION_HEADER`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rejection {
    /// Past its time.
    Expired,
    /// Issued in the future, or with an impossible life.
    InvalidExpiry,
    /// A part is missing.
    MissingRole,
    /// A part is missing.
    MissingExpiry,
    /// A part is missing.
    MissingSignature,
    /// Another part is missing, twice there, or no text.
    MalformedQuery,
    /// A part that is not ours.
    ExtraQueryParam,
    /// Neither executor nor harness.
    InvalidRole,
    /// Forged, altered, or signed with a key that is gone.
    InvalidSignature,
    /// A one-time ticket that was used, or was issued before this rendezvous started.
    Used,
    /// The registration was fenced or revoked.
    Fenced,
    /// The executor of this registration is not connected.
    ExecutorAway,
    /// Another client holds the executor.
    ExecutorBusy,
    /// The client may do less than all, and the executor did not ask to be told.
    NotTold,
    /// The server is shutting down.
    Draining,
    /// The server holds as many connections as it may.
    Overloaded,
    /// A client of this token kept others waiting at this executor a moment ago.
    Stalled,
}

impl Rejection {
    /// The HTTP status that goes with it: never a 5xx, except while shutting down or full.
    pub fn status(self) -> u16 {
        match self {
            Self::InvalidSignature | Self::Used | Self::NotTold => 403,
            Self::ExecutorAway | Self::ExecutorBusy => 409,
            Self::Draining | Self::Overloaded | Self::Stalled => 503,
            _ => 401,
        }
    }

    /// Whether nothing shows that there ever was a ticket of ours: who sends such a thing is a stranger.
    pub fn is_strangers(self) -> bool {
        match self {
            Self::MissingRole
            | Self::MissingExpiry
            | Self::MissingSignature
            | Self::MalformedQuery
            | Self::ExtraQueryParam
            | Self::InvalidRole
            | Self::InvalidSignature => true,
            Self::Expired
            | Self::InvalidExpiry
            | Self::Used
            | Self::Fenced
            | Self::ExecutorAway
            | Self::ExecutorBusy
            | Self::NotTold
            | Self::Draining
            | Self::Overloaded
            | Self::Stalled => false,
        }
    }

    /// The header's value; upstream's word where it has one.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::InvalidExpiry => "invalid_expiry",
            Self::MissingRole => "missing_role",
            Self::MissingExpiry => "missing_expiry",
            Self::MissingSignature => "missing_signature",
            Self::MalformedQuery => "malformed_query",
            Self::ExtraQueryParam => "extra_query_param",
            Self::InvalidRole => "invalid_role",
            Self::InvalidSignature => "invalid_signature",
            Self::Used => "ticket_used",
            Self::Fenced => "unexpected_executor_registration_id",
            Self::ExecutorAway => "route_unavailable",
            Self::ExecutorBusy => "executor_busy",
            Self::NotTold => "rights_not_enforceable",
            Self::Draining => "pod_draining",
            Self::Overloaded => "overloaded",
            Self::Stalled => "stalled",
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One signing key. `Debug` shows no secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SigningKey {
    /// Public name, the `kid` of tickets.
    pub id: String,
    /// When it was made, seconds since 1970.
    pub created_at: u64,
    /// 32 bytes, unpadded URL-safe base64.
    secret: Secret,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("id", &self.id).field("created_at", &self.created_at).finish_non_exhaustive()
    }
}

impl SigningKey {
    /// A new random key.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn generate(now: u64) -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 36];
        getrandom::fill(&mut bytes)?;
        let (id, secret) = bytes.split_at(4);
        let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { id: format!("k{now}-{id}"), created_at: now, secret: Secret::new(URL_SAFE_NO_PAD.encode(secret)) })
    }

    fn mac(&self, text: &str) -> Hmac<Sha256> {
        let mut mac = match Hmac::<Sha256>::new_from_slice(self.secret.expose().as_bytes()) {
            Ok(mac) => mac,
            Err(_) => unreachable!("HMAC takes keys of any length"),
        };
        mac.update(text.as_bytes());
        mac
    }
}

/// The keys in force: the newest signs, all verify.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyRing {
    keys: Vec<SigningKey>,
}

impl KeyRing {
    /// A ring with these keys.
    pub fn new(keys: Vec<SigningKey>) -> Self {
        let mut ring = Self { keys };
        ring.keys.sort_by_key(|key| key.created_at);
        ring
    }

    /// When the newest key was made.
    pub fn newest_created_at(&self) -> Option<u64> {
        self.keys.last().map(|key| key.created_at)
    }

    /// The keys, oldest first; the last one signs.
    pub fn keys(&self) -> &[SigningKey] {
        &self.keys
    }

    /// Takes a key out, so that nothing that it signed is good any more; whether it was there.
    pub fn remove(&mut self, key_id: &str) -> bool {
        let before = self.keys.len();
        self.keys.retain(|key| key.id != key_id);
        self.keys.len() < before
    }

    /// How many keys it holds.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Adds `key` as the one that signs, and forgets keys whose longest ticket has expired.
    pub fn rotate(&mut self, key: SigningKey, now: u64) {
        // A key signs until its successor is made, and that ticket lives EXECUTOR_TICKET_SECS.
        let mut successors: Vec<u64> = self.keys.iter().skip(1).map(|key| key.created_at).collect();
        successors.push(key.created_at);
        let mut retired_at = successors.into_iter();
        self.keys.retain(|_| retired_at.next().is_none_or(|at| now < at.saturating_add(EXECUTOR_TICKET_SECS)));
        self.keys.push(key);
    }

    /// The newest key's name, and its signature under `text`, which is no ticket's.
    pub(crate) fn sign_text(&self, text: &str) -> Option<(&str, Hmac<Sha256>)> {
        self.keys.last().map(|key| (key.id.as_str(), key.mac(text)))
    }

    /// The signature under `text` of the key with that name.
    pub(crate) fn signature_of(&self, key_id: &str, text: &str) -> Option<Hmac<Sha256>> {
        self.keys.iter().find(|key| key.id == key_id).map(|key| key.mac(text))
    }

    /// The ticket for `claims` at `ws_base` (`ws://host:port`, no slash at the end).
    ///
    /// # Errors
    /// [`NoSigningKey`] on an empty ring.
    pub fn sign(&self, ws_base: &str, claims: &Claims) -> Result<Secret, NoSigningKey> {
        let key = self.keys.last().ok_or(NoSigningKey)?;
        let parts = Parts::of(claims, &key.id);
        let signature = URL_SAFE_NO_PAD.encode(key.mac(&parts.canonical()).finalize().into_bytes());
        let registration = escape(claims.registration.as_str());
        Ok(Secret::new(format!("{ws_base}{PATH_PREFIX}{registration}?{}&sig={signature}", parts.query())))
    }

    /// Checks the ticket in the query of a request for `registration` (decoded path segment).
    ///
    /// # Errors
    /// The first reason to refuse it. The signature is checked before the times, so that a stranger learns nothing.
    pub fn verify(&self, registration: &str, query: &str, now: u64) -> Result<Claims, Rejection> {
        self.verify_with_key(registration, query, now).map(|(claims, _)| claims)
    }

    /// The same, and which key signed it.
    ///
    /// # Errors
    /// As [`KeyRing::verify`].
    pub fn verify_with_key(
        &self,
        registration: &str,
        query: &str,
        now: u64,
    ) -> Result<(Claims, &SigningKey), Rejection> {
        let (parts, signature) = Parts::parse(registration, query)?;
        let key = self.keys.iter().find(|key| key.id == parts.key_id).ok_or(Rejection::InvalidSignature)?;
        let signature = URL_SAFE_NO_PAD.decode(&signature).map_err(|_| Rejection::InvalidSignature)?;
        key.mac(&parts.canonical()).verify_slice(&signature).map_err(|_| Rejection::InvalidSignature)?;
        let claims = parts.claims()?;
        let life = claims.expires_at.saturating_sub(claims.issued_at);
        if life == 0 || life > EXECUTOR_TICKET_SECS || claims.issued_at > now.saturating_add(CLOCK_LEEWAY_SECS) {
            return Err(Rejection::InvalidExpiry);
        }
        if now >= claims.expires_at {
            return Err(Rejection::Expired);
        }
        Ok((claims, key))
    }
}

/// A ring without keys cannot sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no signing key")]
pub struct NoSigningKey;

/// The parts of a ticket as texts, in the order of the canonical text.
struct Parts {
    registration: String,
    role: String,
    shape: String,
    epoch: String,
    token: String,
    issued_at: String,
    expires_at: String,
    ticket_id: String,
    client: Option<String>,
    key_id: String,
}

impl Parts {
    fn of(claims: &Claims, key_id: &str) -> Self {
        Self {
            registration: claims.registration.as_str().to_owned(),
            role: match claims.role {
                Role::Executor => "executor".to_owned(),
                Role::Harness => "harness".to_owned(),
            },
            shape: match claims.shape {
                Shape::Pair => "pair".to_owned(),
                Shape::Streams => "streams".to_owned(),
            },
            epoch: claims.epoch.to_string(),
            token: claims.token.as_str().to_owned(),
            issued_at: claims.issued_at.to_string(),
            expires_at: claims.expires_at.to_string(),
            ticket_id: claims.ticket_id.clone(),
            client: match claims.role {
                Role::Executor => None,
                Role::Harness => Some(URL_SAFE_NO_PAD.encode(serde_json::to_vec(&claims.client).unwrap_or_default())),
            },
            key_id: key_id.to_owned(),
        }
    }

    fn named(&self) -> impl Iterator<Item = (&'static str, &String)> {
        let named = [
            ("role", Some(&self.role)),
            ("shape", Some(&self.shape)),
            ("epoch", Some(&self.epoch)),
            ("tok", Some(&self.token)),
            ("iat", Some(&self.issued_at)),
            ("exp", Some(&self.expires_at)),
            ("jti", Some(&self.ticket_id)),
            ("cli", self.client.as_ref()),
            ("kid", Some(&self.key_id)),
        ];
        named.into_iter().filter_map(|(name, value)| Some((name, value?)))
    }

    fn query(&self) -> String {
        self.named().map(|(name, value)| format!("{name}={}", escape(value))).collect::<Vec<_>>().join("&")
    }

    /// One part per line, each escaped, so that no two sets of parts share a text.
    fn canonical(&self) -> String {
        format!("exedra-ticket-v1\n{}\n{}", escape(&self.registration), self.query())
    }

    fn parse(registration: &str, query: &str) -> Result<(Self, String), Rejection> {
        let mut found: BTreeMap<&str, String> = BTreeMap::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or(Rejection::MalformedQuery)?;
            if !["role", "shape", "epoch", "tok", "iat", "exp", "jti", "cli", "kid", "sig"].contains(&name) {
                return Err(Rejection::ExtraQueryParam);
            }
            let value = percent_decode_str(value).decode_utf8().map_err(|_| Rejection::MalformedQuery)?;
            if found.insert(name, value.into_owned()).is_some() {
                return Err(Rejection::MalformedQuery);
            }
        }
        // One of a version that told nothing of clients has none.
        let client = found.remove("cli");
        let mut take = |name: &str, missing: Rejection| found.remove(name).ok_or(missing);
        let parts = Self {
            registration: registration.to_owned(),
            role: take("role", Rejection::MissingRole)?,
            shape: take("shape", Rejection::MalformedQuery)?,
            epoch: take("epoch", Rejection::MalformedQuery)?,
            token: take("tok", Rejection::MalformedQuery)?,
            issued_at: take("iat", Rejection::MalformedQuery)?,
            expires_at: take("exp", Rejection::MissingExpiry)?,
            ticket_id: take("jti", Rejection::MalformedQuery)?,
            client,
            key_id: take("kid", Rejection::MalformedQuery)?,
        };
        Ok((parts, take("sig", Rejection::MissingSignature)?))
    }

    fn claims(self) -> Result<Claims, Rejection> {
        Ok(Claims {
            role: match self.role.as_str() {
                "executor" => Role::Executor,
                "harness" => Role::Harness,
                _ => return Err(Rejection::InvalidRole),
            },
            shape: match self.shape.as_str() {
                "pair" => Shape::Pair,
                "streams" => Shape::Streams,
                _ => return Err(Rejection::MalformedQuery),
            },
            epoch: self.epoch.parse().map_err(|_| Rejection::MalformedQuery)?,
            issued_at: self.issued_at.parse().map_err(|_| Rejection::MalformedQuery)?,
            expires_at: self.expires_at.parse().map_err(|_| Rejection::InvalidExpiry)?,
            registration: RegistrationId::new(self.registration),
            token: TokenId::new(self.token),
            ticket_id: self.ticket_id,
            client: self.client.as_deref().map_or(Ok(Client::default()), client)?,
        })
    }
}

/// What is said of a client.
fn client(text: &str) -> Result<Client, Rejection> {
    let json = URL_SAFE_NO_PAD.decode(text).map_err(|_| Rejection::MalformedQuery)?;
    serde_json::from_slice(&json).map_err(|_| Rejection::MalformedQuery)
}

fn escape(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

#[cfg(test)]
mod tests;
