//! What registries and rendezvous know of the Noise channel: its name, the shape of public keys, who may open it.
//!
//! Keys come in as JSON and are checked for their lengths, never used; an authorization is a signed text that binds a
//! client's key to one executor's registration for a short time. The cipher itself is not here.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::Mac as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::ids::{ExecutorId, RegistrationId, TokenId};
use crate::secret::Secret;
use crate::ticket::{KeyRing, NoSigningKey};

/// The channel's name in JSON.
pub const PROFILE: &str = "noise_hybrid_ik_v1";
/// The suite's label in JSON.
pub const SUITE: &str = "Noise_hybridIK_X25519+MLKEM768_AESGCM_SHA256";
/// How long an authorization is good, in seconds: longer than the ticket that comes with it, for a slow handshake.
pub const AUTHORIZATION_SECS: u64 = 120;
/// Longest authorization that is looked at, in bytes.
pub const MAX_AUTHORIZATION: usize = 4_096;

/// A public key of either end. Its parts have the right lengths.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawKey")]
pub struct PublicKey {
    suite: String,
    x25519_public_key: String,
    mlkem768_public_key: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawKey {
    suite: String,
    x25519_public_key: String,
    mlkem768_public_key: String,
}

impl TryFrom<RawKey> for PublicKey {
    type Error = &'static str;

    fn try_from(raw: RawKey) -> Result<Self, Self::Error> {
        let is_of = |text: &str, len| STANDARD.decode(text).is_ok_and(|bytes| bytes.len() == len);
        let RawKey { suite, x25519_public_key, mlkem768_public_key } = raw;
        if suite != SUITE {
            return Err("a key of another suite");
        }
        if !is_of(&x25519_public_key, 32) || !is_of(&mlkem768_public_key, 1_184) {
            return Err("a key of a wrong length");
        }
        Ok(Self { suite, x25519_public_key, mlkem768_public_key })
    }
}

impl PublicKey {
    /// SHA-256 over all of it, in lower-case hex: the same for the same key, and for no other.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        for part in [&self.suite, &self.x25519_public_key, &self.mlkem768_public_key] {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        hash.finalize().iter().fold(String::with_capacity(64), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("PublicKey").field(&self.fingerprint()).finish()
    }
}

/// Which client's key may open a channel to which registration.
#[derive(Clone, Copy, Debug)]
pub struct Binding<'a> {
    /// The executor.
    pub executor: &'a ExecutorId,
    /// Its registration.
    pub registration: &'a RegistrationId,
    /// The client's key.
    pub client: &'a PublicKey,
}

impl Binding<'_> {
    /// One part a line; no part can hold a line's end, so that no two bindings share a text.
    fn text(&self, token: &str, expires_at: &str) -> String {
        let (registration, key) = (URL_SAFE_NO_PAD.encode(self.registration.as_str()), self.client.fingerprint());
        let token = URL_SAFE_NO_PAD.encode(token);
        format!("exedra-harness-key-v1\n{}\n{registration}\n{key}\n{token}\n{expires_at}", self.executor)
    }

    /// The text that says so, good before `expires_at` (seconds since 1970), on behalf of a token.
    ///
    /// # Errors
    /// There is no key to sign with.
    pub fn authorize(&self, keys: &KeyRing, token: &TokenId, expires_at: u64) -> Result<Secret, NoSigningKey> {
        let expires_at = expires_at.to_string();
        let (key, mac) = keys.sign_text(&self.text(token.as_str(), &expires_at)).ok_or(NoSigningKey)?;
        let mac = URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
        let token = URL_SAFE_NO_PAD.encode(token.as_str());
        Ok(Secret::new(format!("v1.{key}.{token}.{expires_at}.{mac}")))
    }

    /// The token behind `authorization`, if it says so and is good at `now`. The signature is compared in constant time,
    /// and before anything is believed.
    pub fn check(&self, keys: &KeyRing, authorization: &str, now: u64) -> Option<TokenId> {
        self.check_end(keys, authorization, now).map(|(token, _)| token)
    }

    /// The same, and before which second it is good.
    pub fn check_end(&self, keys: &KeyRing, authorization: &str, now: u64) -> Option<(TokenId, u64)> {
        if authorization.len() > MAX_AUTHORIZATION {
            return None;
        }
        let mut parts = authorization.split('.');
        let (version, key, token) = (parts.next()?, parts.next()?, parts.next()?);
        let (expires_at, mac, None) = (parts.next()?, parts.next()?, parts.next()) else { return None };
        let token = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
        let mac = URL_SAFE_NO_PAD.decode(mac).ok()?;
        let signed = keys.signature_of(key, &self.text(&token, expires_at))?;
        let is_good = version == "v1" && signed.verify_slice(&mac).is_ok();
        let expires_at: u64 = expires_at.parse().ok()?;
        let is_now =
            now < expires_at && expires_at <= now.saturating_add(AUTHORIZATION_SECS + crate::ticket::CLOCK_LEEWAY_SECS);
        (is_good && is_now).then(|| (TokenId::new(token), expires_at))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::ticket::SigningKey;

    fn key(seed: u8) -> PublicKey {
        let (x, m) = (STANDARD.encode([seed; 32]), STANDARD.encode([seed; 1_184]));
        serde_json::from_value(json!({"suite": SUITE, "x25519_public_key": x, "mlkem768_public_key": m})).unwrap()
    }

    #[test]
    fn a_key_is_read_and_written_as_it_is_and_what_is_none_is_refused() {
        let good = serde_json::to_value(key(1)).unwrap();
        assert_eq!(good["x25519_public_key"].as_str().unwrap().len(), 44);
        assert_eq!(good["mlkem768_public_key"].as_str().unwrap().len(), 1_580);
        assert_eq!(serde_json::from_value::<PublicKey>(good.clone()).unwrap(), key(1));
        assert_ne!(key(1).fingerprint(), key(2).fingerprint());
        assert_eq!(key(1).fingerprint().len(), 64);
        for (member, value) in [
            ("suite", json!("Noise_hybridIK_25519+MLKEM768_AESGCM_SHA256")),
            ("x25519_public_key", json!(STANDARD.encode([1; 31]))),
            ("x25519_public_key", json!(STANDARD.encode([1; 32]).trim_end_matches('='))),
            ("mlkem768_public_key", json!(STANDARD.encode([1; 1_185]))),
            ("mlkem768_public_key", json!("!")),
            ("mlkem768_public_key", json!(null)),
            ("surprise", json!(1)),
        ] {
            let mut bad = good.clone();
            bad[member] = value;
            assert!(serde_json::from_value::<PublicKey>(bad).is_err(), "{member}");
        }
    }

    #[test]
    fn an_authorization_is_good_for_one_executor_registration_and_key_and_for_its_time() {
        let mut keys = KeyRing::new(vec![SigningKey::generate(0).unwrap()]);
        let (box_1, box_2) = (ExecutorId::parse("box-1").unwrap(), ExecutorId::parse("box-2").unwrap());
        let (reg_1, reg_2) = (RegistrationId::new("reg-1"), RegistrationId::new("reg-2"));
        let (key_1, key_2) = (key(1), key(2));
        let binding = Binding { executor: &box_1, registration: &reg_1, client: &key_1 };
        let text = binding.authorize(&keys, &TokenId::new("tok.1\n"), 1_120).unwrap().expose().to_owned();
        assert!(text.len() < 300, "{text}");
        assert_eq!(binding.check(&keys, &text, 1_119), Some(TokenId::new("tok.1\n")));
        assert_eq!(binding.check(&keys, &text, 1_120), None, "expired");
        assert_eq!(binding.check(&keys, &text, 0), None, "of a future that it cannot be of");
        for other in [
            Binding { executor: &box_2, ..binding },
            Binding { registration: &reg_2, ..binding },
            Binding { client: &key_2, ..binding },
        ] {
            assert_eq!(other.check(&keys, &text, 1_000), None, "{other:?}");
        }
        for (i, _) in text.char_indices() {
            let altered = format!("{}{}{}", &text[..i], if &text[i..=i] == "1" { "2" } else { "1" }, &text[i + 1..]);
            // The last digit of base64 has bits that say nothing.
            if i + 1 < text.len() {
                assert_eq!(binding.check(&keys, &altered, 1_000), None, "{altered}");
            }
            assert_eq!(binding.check(&keys, &text[..i], 1_000), None);
        }
        for nonsense in ["", "....", "v1....", &"a.".repeat(9_999), &format!("{text}.")] {
            assert_eq!(binding.check(&keys, nonsense, 1_000), None);
        }
        let strange = KeyRing::new(vec![SigningKey::generate(0).unwrap()]);
        assert_eq!(binding.check(&strange, &text, 1_000), None);
        keys.rotate(SigningKey::generate(1_000).unwrap(), 1_000);
        assert!(binding.check(&keys, &text, 1_000).is_some(), "a new key leaves it good");
        let ticket_like = keys.sign_text("x").unwrap().0.to_owned();
        assert!(keys.signature_of(&ticket_like, "x").is_some());
    }
}
