//! The keys that an issuer publishes (RFC 7517), and when they are fetched again.
//!
//! In flow documents, key ids and `now` (seconds since 1970), out flow keys, or what to do first. It fetches nothing.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

/// Keys are fetched no sooner than this after the last time, in seconds, whoever shows unknown ones. So short that a client of
/// ours, which tries for 10 s unless it is told otherwise, outlasts it, and a registration also outlasts a fetch that fails.
pub const PAUSE: u64 = 8;
/// The same after the issuer could not be reached, counted from when it was given up: whoever waited for one that hangs is
/// told so, and does not wait again.
pub const PAUSE_AFTER_FAILURE: u64 = 5;
/// Keys older than this are fetched again when they are used, in seconds; so late is a key no longer taken that the
/// issuer has withdrawn.
pub const FRESH: u64 = 15 * 60;
/// Keys are used for so long when the issuer cannot be reached, in seconds.
pub const KEPT: u64 = 24 * 60 * 60;
/// Most keys of an issuer; more are left out.
const MAX_KEYS: usize = 100;

/// A key, and what it may be used for.
#[derive(Clone)]
pub struct Key {
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

/// The keys of one issuer, as far as they are known.
#[derive(Clone, Default)]
pub struct Cache {
    keys: Vec<Key>,
    fetched_at: Option<u64>,
    tried_at: Option<u64>,
    has_failed: bool,
    is_trying: bool,
    /// How often a fetch was begun.
    begun: u64,
    /// Which of them brought the keys.
    brought: u64,
}

/// What the cache says to somebody who needs a key.
pub enum Look {
    /// This one.
    Found {
        /// The key.
        key: DecodingKey,
        /// It is time to fetch the keys again.
        is_stale: bool,
    },
    /// They have to be fetched first.
    Fetch,
    /// The issuer has no such key.
    None,
    /// It is not among those that were fetched last, and could be new. They are fetched again in so many seconds at the soonest.
    Later(u64),
    /// The issuer cannot be reached, and is asked again in so many seconds at the soonest.
    Away(u64),
}

impl Cache {
    /// How often a fetch was begun. Whoever comes now is told that there is no such key by a later one alone: an earlier one
    /// may have looked before the key was published.
    pub fn begun(&self) -> u64 {
        self.begun
    }

    /// The key of that id that may be used with `algorithm`, for somebody who came after `since` fetches were begun. A token
    /// that names no key is for an issuer that has one.
    pub fn look(&self, id: Option<&str>, algorithm: Algorithm, since: u64, now: u64) -> Look {
        let is_younger = |than| self.fetched_at.is_some_and(|at| now.saturating_sub(at) < than);
        let pause = self.pause(now);
        let may_try = pause.is_none() && !self.is_trying;
        if is_younger(KEPT)
            && let Some(key) = self.find(id, algorithm)
        {
            return Look::Found { key: key.key.clone(), is_stale: !is_younger(FRESH) && may_try };
        }
        if self.brought > since || (is_younger(FRESH) && self.is_other(id, algorithm)) {
            return Look::None;
        }
        match pause.filter(|_| !self.is_trying) {
            None => Look::Fetch,
            Some(pause) if is_younger(KEPT) && !self.has_failed => Look::Later(pause),
            Some(pause) => Look::Away(pause),
        }
    }

    /// Begins to fetch, if it is time for it.
    pub fn begin(&mut self, now: u64) -> bool {
        let begins = !self.is_trying && self.pause(now).is_none();
        if begins {
            (self.tried_at, self.is_trying) = (Some(now), true);
            self.begun += 1;
        }
        begins
    }

    /// The keys came, or did not.
    pub fn settle(&mut self, keys: Option<Vec<Key>>, now: u64) {
        self.is_trying = false;
        self.has_failed = keys.is_none();
        match keys {
            Some(keys) => (self.keys, self.fetched_at, self.brought) = (keys, Some(now), self.begun),
            None => self.tried_at = Some(now),
        }
    }

    /// Whoever was fetching does not any more.
    pub fn abandon(&mut self) {
        if std::mem::take(&mut self.is_trying) {
            self.tried_at = None;
        }
    }

    /// In how many seconds it is time for the next fetch; none if it is.
    fn pause(&self, now: u64) -> Option<u64> {
        let pause = if self.has_failed { PAUSE_AFTER_FAILURE } else { PAUSE };
        // A clock that was set back is not waited for.
        let passed = now.checked_sub(self.tried_at?)?;
        pause.checked_sub(passed).filter(|rest| *rest > 0)
    }

    fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Option<&Key> {
        let mut fitting = self.keys.iter().filter(|key| key.algorithms.contains(&algorithm));
        if id.is_some() {
            return fitting.find(|key| key.id.as_deref() == id);
        }
        fitting.next().filter(|_| fitting.next().is_none())
    }

    /// Whether the key that is named is one for other algorithms, or none is named and several fit: no new key mends that.
    fn is_other(&self, id: Option<&str>, algorithm: Algorithm) -> bool {
        match id {
            Some(_) => self.keys.iter().any(|key| key.id.as_deref() == id && !key.algorithms.contains(&algorithm)),
            None => self.keys.iter().filter(|key| key.algorithms.contains(&algorithm)).count() > 1,
        }
    }
}

/// The keys of a document. What cannot be used is left out.
///
/// # Errors
/// It is no such document, or has no key that can be used.
pub fn parse(document: &[u8]) -> Result<Vec<Key>, String> {
    #[derive(Deserialize)]
    struct Document {
        keys: Vec<Value>,
    }
    let Document { keys } = serde_json::from_slice(document).map_err(|error| format!("no set of keys: {error}"))?;
    let keys: Vec<_> = keys.into_iter().filter_map(key).take(MAX_KEYS).collect();
    if keys.is_empty() { Err("there is no key in it that can be used".to_owned()) } else { Ok(keys) }
}

/// A public key for signatures, with the algorithms that are its kind's, or the one that it is for.
fn key(value: Value) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(value).ok()?;
    let is_for_signatures = match (&jwk.common.public_key_use, &jwk.common.key_operations) {
        (Some(PublicKeyUse::Signature) | None, None) => true,
        (Some(PublicKeyUse::Signature) | None, Some(operations)) => operations.contains(&KeyOperations::Verify),
        _ => false,
    };
    let kind: &[Algorithm] = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => &[
            Algorithm::RS256,
            Algorithm::RS384,
            Algorithm::RS512,
            Algorithm::PS256,
            Algorithm::PS384,
            Algorithm::PS512,
        ],
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => &[Algorithm::ES256],
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P384 => &[Algorithm::ES384],
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => &[Algorithm::EdDSA],
        _ => &[],
    };
    let mut algorithms = kind.to_vec();
    if let Some(only) = jwk.common.key_algorithm {
        algorithms.retain(|algorithm| named(*algorithm) == Some(only));
    }
    let key = DecodingKey::from_jwk(&jwk).ok()?;
    (is_for_signatures && !algorithms.is_empty()).then_some(Key { id: jwk.common.key_id, algorithms, key })
}

/// What a key calls its algorithm.
fn named(algorithm: Algorithm) -> Option<KeyAlgorithm> {
    match algorithm {
        Algorithm::RS256 => Some(KeyAlgorithm::RS256),
        Algorithm::RS384 => Some(KeyAlgorithm::RS384),
        Algorithm::RS512 => Some(KeyAlgorithm::RS512),
        Algorithm::PS256 => Some(KeyAlgorithm::PS256),
        Algorithm::PS384 => Some(KeyAlgorithm::PS384),
        Algorithm::PS512 => Some(KeyAlgorithm::PS512),
        Algorithm::ES256 => Some(KeyAlgorithm::ES256),
        Algorithm::ES384 => Some(KeyAlgorithm::ES384),
        Algorithm::EdDSA => Some(KeyAlgorithm::EdDSA),
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The point of RFC 7517's example.
    fn ec(change: Value) -> Value {
        let mut key = json!({
            "kty": "EC", "crv": "P-256", "kid": "e",
            "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
        });
        for (name, value) in change.as_object().unwrap() {
            key[name] = value.clone();
        }
        key
    }

    fn rsa(id: &str) -> Value {
        json!({"kty": "RSA", "kid": id, "n": "AQAB".repeat(86), "e": "AQAB"})
    }

    fn set(keys: &[Value]) -> Result<Vec<Key>, String> {
        parse(json!({"keys": keys}).to_string().as_bytes())
    }

    fn algorithms(key: Value) -> Vec<Algorithm> {
        set(&[key]).map_or(Vec::new(), |mut keys| keys.remove(0).algorithms)
    }

    #[test]
    fn a_key_is_used_for_what_it_is_for_and_for_nothing_else() {
        assert_eq!(algorithms(ec(json!({}))), [Algorithm::ES256]);
        assert_eq!(algorithms(ec(json!({"use": "sig", "alg": "ES256"}))), [Algorithm::ES256]);
        assert_eq!(algorithms(ec(json!({"key_ops": ["verify"]}))), [Algorithm::ES256]);
        assert_eq!(algorithms(rsa("r")).len(), 6);
        let mut narrow = rsa("r");
        narrow["alg"] = json!("PS256");
        assert_eq!(algorithms(narrow), [Algorithm::PS256]);
        for not in [
            ec(json!({"use": "enc"})),
            ec(json!({"key_ops": ["sign"]})),
            ec(json!({"alg": "RS256"})),
            ec(json!({"alg": "HS256"})),
            ec(json!({"alg": "ECDH-ES"})),
            ec(json!({"crv": "P-521"})),
            ec(json!({"kty": "oct", "k": "c2VjcmV0"})),
            json!({"kty": "oct", "kid": "o", "k": "c2VjcmV0", "alg": "HS256"}),
            json!(7),
        ] {
            assert!(algorithms(not.clone()).is_empty(), "{not}");
        }
        let mixed = set(&[json!({"kty": "new"}), ec(json!({})), json!(null)]).unwrap();
        assert_eq!(mixed.len(), 1, "what is not known does no harm");
        assert!(parse(b"{}").is_err() && parse(b"").is_err() && parse(br#"{"keys":[]}"#).is_err());
    }

    /// As somebody is told who comes now.
    fn found(cache: &Cache, id: Option<&str>, algorithm: Algorithm, now: u64) -> &'static str {
        found_since(cache, cache.begun(), id, algorithm, now)
    }

    fn found_since(cache: &Cache, since: u64, id: Option<&str>, algorithm: Algorithm, now: u64) -> &'static str {
        match cache.look(id, algorithm, since, now) {
            Look::Found { is_stale: false, .. } => "found",
            Look::Found { is_stale: true, .. } => "stale",
            Look::Fetch => "fetch",
            Look::None => "none",
            Look::Later(_) => "later",
            Look::Away(_) => "away",
        }
    }

    #[test]
    fn unknown_keys_make_for_one_fetch_in_a_while() {
        let mut cache = Cache::default();
        let look = |cache: &Cache, id, now| found(cache, Some(id), Algorithm::ES256, now);
        assert_eq!(look(&cache, "e", 100), "fetch");
        assert!(cache.begin(100) && !cache.begin(100), "one at a time");
        assert_eq!(look(&cache, "e", 100), "fetch", "whoever comes meanwhile waits for it");
        cache.settle(Some(set(&[ec(json!({}))]).unwrap()), 101);
        assert_eq!(look(&cache, "e", 101), "found");
        for now in 101..100 + PAUSE {
            let Look::Later(rest) = cache.look(Some("x"), Algorithm::ES256, 1, now) else { panic!("{now}") };
            assert_eq!(now + rest, 100 + PAUSE);
            assert!(!cache.begin(now));
        }
        assert_eq!(look(&cache, "x", 100 + PAUSE), "fetch");
        assert_eq!(look(&cache, "x", 50), "fetch", "the clock was set back");
    }

    #[test]
    fn a_key_is_missing_when_a_fetch_says_so_that_began_after_somebody_came_with_it() {
        let mut cache = Cache::default();
        let look = |cache: &Cache, since, now| found_since(cache, since, Some("x"), Algorithm::ES256, now);
        let keys = || Some(set(&[ec(json!({}))]).unwrap());
        let (first, _) = (cache.begun(), cache.begin(100));
        let second = cache.begun();
        cache.settle(keys(), 101);
        assert_eq!((look(&cache, first, 101), look(&cache, second, 101)), ("none", "later"));
        assert!(cache.begin(100 + PAUSE));
        cache.settle(None, 100 + PAUSE);
        assert_eq!((look(&cache, first, 100 + PAUSE), look(&cache, second, 100 + PAUSE)), ("none", "away"));
        assert!(cache.begin(200));
        cache.settle(keys(), 200);
        assert_eq!((look(&cache, second, 200), look(&cache, cache.begun(), 200)), ("none", "later"));
    }

    #[test]
    fn an_issuer_that_hung_is_asked_again_some_time_after_it_was_given_up() {
        let mut cache = Cache::default();
        assert!(cache.begin(100));
        cache.settle(None, 105);
        for now in 105..105 + PAUSE_AFTER_FAILURE {
            let Look::Away(rest) = cache.look(Some("e"), Algorithm::ES256, 1, now) else { panic!("{now}") };
            assert_eq!(now + rest, 105 + PAUSE_AFTER_FAILURE);
        }
        assert_eq!(found(&cache, Some("e"), Algorithm::ES256, 105 + PAUSE_AFTER_FAILURE), "fetch");
    }

    #[test]
    fn keys_are_kept_while_the_issuer_is_away_but_not_for_ever() {
        let mut cache = Cache::default();
        let look = |cache: &Cache, id, now| found(cache, Some(id), Algorithm::ES256, now);
        assert!(cache.begin(100));
        cache.settle(None, 100);
        assert_eq!(look(&cache, "e", 100), "away");
        assert_eq!(look(&cache, "e", 100 + PAUSE_AFTER_FAILURE), "fetch");
        assert!(cache.begin(200));
        cache.settle(Some(set(&[ec(json!({}))]).unwrap()), 200);
        assert_eq!(look(&cache, "e", 200 + FRESH - 1), "found");
        assert_eq!(look(&cache, "e", 200 + FRESH), "stale");
        assert!(cache.begin(200 + FRESH));
        cache.settle(None, 200 + FRESH);
        assert_eq!(look(&cache, "e", 200 + FRESH), "found", "and asked again a little later");
        assert_eq!(look(&cache, "x", 200 + FRESH), "away", "it may be new");
        assert!(cache.begin(200 + KEPT - 1));
        cache.settle(None, 200 + KEPT - 1);
        assert_eq!(look(&cache, "e", 200 + KEPT - 1), "found");
        assert_eq!(look(&cache, "e", 200 + KEPT), "away");
    }

    #[test]
    fn the_algorithm_has_to_be_the_keys_and_a_nameless_key_the_only_one() {
        let mut cache = Cache::default();
        cache.begin(0);
        cache.settle(Some(set(&[ec(json!({})), rsa("r"), rsa("s")]).unwrap()), 0);
        let look = |id, algorithm| found(&cache, id, algorithm, 1);
        assert_eq!(look(Some("r"), Algorithm::RS256), "found");
        for (id, algorithm) in [
            (Some("r"), Algorithm::ES256),
            (Some("r"), Algorithm::HS256),
            (Some("e"), Algorithm::RS256),
            (Some("e"), Algorithm::ES384),
            (None, Algorithm::RS256),
        ] {
            assert_eq!(look(id, algorithm), "none", "{id:?} {algorithm:?}");
        }
        assert_eq!(look(None, Algorithm::ES256), "found");
        assert_eq!(look(None, Algorithm::ES384), "later", "one that fits may be new");
        let look = |id, now| found(&cache, id, Algorithm::RS256, now);
        assert_eq!((look(Some("e"), FRESH), look(None, FRESH)), ("fetch", "fetch"), "the keys are old");
    }
}
