//! The text of a token, as it is shown: what it looks like, and whether a text is one.
//!
//! A token is `exedra_`, the letter of its role, `_`, 43 base62 digits that hold 256 random bits, and 6 that hold a checksum over
//! all before. Random bits flow in, a secret text flows out. Who makes one needs no registry; what it may do is known there alone.

use sha2::{Digest as _, Sha256};

use crate::secret::Secret;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Digits that hold 256 bits.
const SECRET_DIGITS: usize = 43;
/// Digits that hold 32 bits.
const SUM_DIGITS: usize = 6;

/// The letter of a token of an executor.
pub const EXECUTOR: char = 'x';
/// The letter of a token of a client.
pub const CLIENT: char = 'c';
/// The letter of a token of an administrator.
pub const ADMIN: char = 'a';
/// The letter of a token that is traded for one of an executor.
pub const JOIN: char = 'j';

/// The token of a role's letter, with these 256 bits.
pub fn format(letter: char, mut bits: [u8; 32]) -> Secret {
    let mut text = format!("exedra_{letter}_");
    text.push_str(&base62(&mut bits, SECRET_DIGITS));
    let sum = checksum(&text);
    text.push_str(&sum);
    Secret::new(text)
}

/// The letter of `text`'s role, if `text` has a token's form and its sum is right.
pub fn letter(text: &str) -> Option<char> {
    let rest = text.strip_prefix("exedra_")?;
    let letter = rest.chars().next().filter(|letter| [EXECUTOR, CLIENT, ADMIN, JOIN].contains(letter))?;
    let body = rest.strip_prefix(letter)?.strip_prefix('_')?;
    let is_whole = body.len() == SECRET_DIGITS + SUM_DIGITS
        && body.bytes().all(|digit| digit.is_ascii_alphanumeric())
        && text.ends_with(&checksum(text.split_at(text.len() - SUM_DIGITS).0));
    is_whole.then_some(letter)
}

/// The SHA-256 of a token's text, which is all that a registry keeps of it.
pub fn sha256(token: &Secret) -> [u8; 32] {
    Sha256::digest(token.expose().as_bytes()).into()
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
    fn a_slip_of_the_pen_is_found() {
        let token = format(ADMIN, [0xa5; 32]).expose().to_owned();
        assert_eq!(letter(&token), Some(ADMIN));
        for at in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'c' { b'x' } else { b'c' };
            assert_eq!(letter(std::str::from_utf8(&bytes).unwrap()), None, "position {at}");
        }
        for bad in ["", "exedra_", "exedra_a_", "tok-1", &token[1..], &format!("{token}0"), &token.replace('_', "é")] {
            assert_eq!(letter(bad), None, "{bad}");
        }
    }
}
