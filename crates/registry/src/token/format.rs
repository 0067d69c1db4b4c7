//! The text of a token, its hash and its id.
//!
//! Random bits flow in, a secret text and the hash that is kept flow out; and from a text that somebody presents, its
//! hash. It must not know who may do what.

use std::fmt;

use exedra_proto::ids::TokenId;
use exedra_proto::secret::Secret;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::Role;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Digits that hold 256 bits.
const SECRET_DIGITS: usize = 43;
/// Digits that hold 32 bits.
const SUM_DIGITS: usize = 6;

/// What is kept of a token: the SHA-256 of its text.
#[derive(Clone)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// The hash of a token's text.
    pub fn of(token: &Secret) -> Self {
        Self(Sha256::digest(token.expose().as_bytes()).into())
    }

    /// A hash that was kept.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// What is to be kept.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether both are the same, in a time that does not tell where they differ.
    pub fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<hash>")
    }
}

/// A new token.
///
/// # Errors
/// The system has no randomness.
pub fn generate(role: Role) -> Result<Secret, getrandom::Error> {
    let mut bits = [0; 32];
    getrandom::fill(&mut bits)?;
    let mut text = format!("exedra_{}_", letter(role));
    text.push_str(&base62(&mut bits, SECRET_DIGITS));
    let sum = checksum(&text);
    text.push_str(&sum);
    Ok(Secret::new(text))
}

/// A new id, by which people and records speak of a token: `tok-` and 16 hex digits.
///
/// # Errors
/// The system has no randomness.
pub fn new_id() -> Result<TokenId, getrandom::Error> {
    let mut bits = [0; 8];
    getrandom::fill(&mut bits)?;
    Ok(TokenId::new(format!("tok-{:016x}", u64::from_be_bytes(bits))))
}

/// Whether `text` has a token's form and its sum is right.
pub fn is_well_formed(text: &str) -> bool {
    let body = text.strip_prefix("exedra_").and_then(|rest| rest.strip_prefix(['x', 'c', 'a', 'j'])?.strip_prefix('_'));
    let Some(body) = body else { return false };
    body.len() == SECRET_DIGITS + SUM_DIGITS
        && body.bytes().all(|digit| digit.is_ascii_alphanumeric())
        && text.ends_with(&checksum(text.split_at(text.len() - SUM_DIGITS).0))
}

fn letter(role: Role) -> char {
    match role {
        Role::Executor => 'x',
        Role::Client => 'c',
        Role::Admin => 'a',
        Role::Join => 'j',
    }
}

/// The first 32 bits of the SHA-256.
fn checksum(text: &str) -> String {
    let mut sum = [0; 4];
    sum.copy_from_slice(Sha256::digest(text.as_bytes()).split_at(4).0);
    base62(&mut sum, SUM_DIGITS)
}

/// The number `bytes`, most significant first, as `digits` digits, least significant first.
fn base62(bytes: &mut [u8], digits: usize) -> String {
    let digit = |_| {
        let mut rest = 0;
        for byte in bytes.iter_mut() {
            let part = rest * 256 + u32::from(*byte);
            *byte = (part / 62) as u8;
            rest = part % 62;
        }
        char::from(ALPHABET[rest as usize])
    };
    (0..digits).map(digit).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn digits_are_those_of_the_number() {
        assert_eq!(base62(&mut [0, 0], 3), "000");
        assert_eq!(base62(&mut [0, 61], 3), "z00");
        assert_eq!(base62(&mut [0, 62], 3), "010");
        assert_eq!(base62(&mut [0xff, 0xff], 3), "13H", "65535 = 1 + 3 * 62 + 17 * 62²");
        assert_eq!(base62(&mut [0xff; 32], 44).pop(), Some('0'), "43 digits hold 256 bits");
        assert_eq!(base62(&mut [0xff; 4], 7).pop(), Some('0'), "6 digits hold 32 bits");
    }

    #[test]
    fn tokens_are_unique_and_match_what_scanners_look_for() {
        let tokens: BTreeSet<String> = (0..200).map(|_| generate(Role::Client).unwrap().expose().to_owned()).collect();
        assert_eq!(tokens.len(), 200);
        for token in &tokens {
            assert!(is_well_formed(token));
            assert_eq!(token.len(), 58);
            assert!(token.starts_with("exedra_c_"));
            assert!(token["exedra_c_".len()..].bytes().all(|b| b.is_ascii_alphanumeric()));
        }
        assert!(generate(Role::Executor).unwrap().expose().starts_with("exedra_x_"));
        assert!(generate(Role::Admin).unwrap().expose().starts_with("exedra_a_"));
    }

    #[test]
    fn a_slip_of_the_pen_is_found() {
        let token = generate(Role::Admin).unwrap().expose().to_owned();
        for at in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'c' { b'x' } else { b'c' };
            assert!(!is_well_formed(std::str::from_utf8(&bytes).unwrap()), "position {at}");
        }
        for bad in ["", "exedra_", "exedra_a_", "tok-1", &token[1..], &format!("{token}0"), &token.replace('_', "é")] {
            assert!(!is_well_formed(bad), "{bad}");
        }
    }

    #[test]
    fn ids_are_tok_and_16_hex_digits() {
        let id = new_id().unwrap();
        let hex = id.as_str().strip_prefix("tok-").unwrap();
        assert!(hex.len() == 16 && hex.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
    }

    #[test]
    fn a_hash_is_found_again_and_never_printed() {
        let token = generate(Role::Client).unwrap();
        let hash = TokenHash::of(&token);
        assert!(hash.matches(&TokenHash::from_bytes(hash.as_bytes()).unwrap()));
        assert!(!hash.matches(&TokenHash::of(&generate(Role::Client).unwrap())));
        assert!(TokenHash::from_bytes(&[1, 2, 3]).is_none());
        assert_eq!(format!("{hash:?}"), "<hash>");
    }
}
