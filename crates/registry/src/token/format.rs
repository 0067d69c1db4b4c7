//! The text of a token, its hash and its id.
//!
//! Random bits flow in, a secret text and the hash that is kept flow out; and from a text that somebody presents, its
//! hash. It must not know who may do what.

use std::fmt;

use exedra_proto::ids::TokenId;
use exedra_proto::secret::Secret;
use exedra_proto::token;
use subtle::ConstantTimeEq as _;

use super::Role;

/// What is kept of a token: the SHA-256 of its text.
#[derive(Clone)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// The hash of a token's text.
    pub fn of(token: &Secret) -> Self {
        Self(token::sha256(token))
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
    Ok(token::format(letter(role), bits))
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
    token::letter(text).is_some()
}

fn letter(role: Role) -> char {
    match role {
        Role::Executor => token::EXECUTOR,
        Role::Client => token::CLIENT,
        Role::Admin => token::ADMIN,
        Role::Join => token::JOIN,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

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
