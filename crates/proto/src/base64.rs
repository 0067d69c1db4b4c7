//! Standard padded base64, the form in which the protocol carries bytes inside JSON.
//!
//! [`Base64Text`] keeps what the peer sent undecoded, because a bad text must be answered with the code of the method
//! that received it; [`Base64Bytes`] is the outgoing side.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::PAD;
use bytes::Bytes;
use serde::{Deserialize, Serialize, Serializer};

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
type Standard = base64::engine::Simd;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
type Standard = base64::engine::GeneralPurpose;

/// Made once: it asks the processor what that can do.
static STANDARD: LazyLock<Standard> = LazyLock::new(|| {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    return Standard::standard(PAD);
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    return Standard::new(&base64::alphabet::STANDARD, PAD);
});

/// What is encoded at a time when a text is appended to, in bytes: a multiple of 3, and small enough for the stack.
const PIECE: usize = 3 * 1024;
/// The same as text.
const TEXT_PIECE: usize = PIECE / 3 * 4;

/// Base64 text as received, not yet checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Base64Text(pub String);

impl Base64Text {
    /// Encodes `bytes`.
    pub fn encode(bytes: &[u8]) -> Self {
        Self(STANDARD.encode(bytes))
    }

    /// The bytes.
    ///
    /// # Errors
    /// A text such as `Invalid symbol 33, offset 0.` or `Invalid padding` that stock peers send too.
    pub fn decode(&self) -> Result<Vec<u8>, String> {
        decode(&self.0)
    }

    /// Upper bound of the decoded length, in bytes.
    pub fn decoded_len_estimate(&self) -> usize {
        self.0.len() / 4 * 3 + 3
    }

    /// The decoded length of good base64, in bytes.
    pub fn decoded_len(&self) -> usize {
        let padding = self.0.bytes().rev().take(2).filter(|byte| *byte == b'=').count();
        (self.0.len() / 4 * 3).saturating_sub(padding)
    }
}

/// Bytes of a message: as base64 text in it, or raw behind it ([`crate::binary`]). In JSON it is always base64.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "Base64Text")]
pub enum Chunk {
    /// As it came, not yet checked.
    Text(Base64Text),
    /// The bytes themselves.
    Raw(Bytes),
}

impl Chunk {
    /// The bytes.
    ///
    /// # Errors
    /// As [`Base64Text::decode`].
    pub fn decode(&self) -> Result<Bytes, String> {
        match self {
            Self::Text(text) => text.decode().map(Bytes::from),
            Self::Raw(bytes) => Ok(bytes.clone()),
        }
    }

    /// Upper bound of the decoded length, in bytes.
    pub fn decoded_len_estimate(&self) -> usize {
        match self {
            Self::Text(text) => text.decoded_len_estimate(),
            Self::Raw(bytes) => bytes.len(),
        }
    }

    /// The decoded length of good base64, in bytes.
    pub fn decoded_len(&self) -> usize {
        match self {
            Self::Text(text) => text.decoded_len(),
            Self::Raw(bytes) => bytes.len(),
        }
    }
}

impl From<Base64Text> for Chunk {
    fn from(text: Base64Text) -> Self {
        Self::Text(text)
    }
}

impl Serialize for Chunk {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => text.serialize(serializer),
            Self::Raw(bytes) => Base64Bytes(bytes).serialize(serializer),
        }
    }
}

/// Bytes that serialise as standard padded base64 without an intermediate value of ours.
#[derive(Clone, Copy, Debug)]
pub struct Base64Bytes<'a>(pub &'a [u8]);

impl Serialize for Base64Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(self.0))
    }
}

/// The bytes of a text.
///
/// # Errors
/// As [`Base64Text::decode`].
pub fn decode(text: &str) -> Result<Vec<u8>, String> {
    if text.len() > TEXT_PIECE
        && let Some(bytes) = decode_long(text)
    {
        return Ok(bytes);
    }
    STANDARD.decode(text).map_err(|e| e.to_string())
}

/// The bytes of a text that is good and has no padding but at its end, into memory that need not be cleared before.
fn decode_long(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 3);
    let mut room = [0; PIECE];
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(rest.len().min(TEXT_PIECE));
        let length = STANDARD.decode_slice(piece, &mut room).ok()?;
        if length < PIECE && !behind.is_empty() {
            return None;
        }
        bytes.extend_from_slice(room.get(..length)?);
        rest = behind;
    }
    Some(bytes)
}

/// Appends the base64 of `bytes` to `out`. Of bytes in pieces the text is the same if all but the last are a multiple of 3
/// long.
pub fn append(out: &mut String, bytes: &[u8]) {
    out.reserve(bytes.len().div_ceil(3) * 4);
    let mut text = [0; TEXT_PIECE];
    for piece in bytes.chunks(PIECE) {
        // It fits, and it is ASCII.
        let length = STANDARD.encode_slice(piece, &mut text).unwrap_or_default();
        out.push_str(text.get(..length).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_appended_to_is_the_encoded_one() {
        let bytes: Vec<u8> = (0..4 * PIECE + 7).map(|at| (at * 31 / 7).to_le_bytes()[0]).collect();
        for length in [0, 1, 2, 3, 100, PIECE - 1, PIECE, PIECE + 1, bytes.len() - 1, bytes.len()] {
            let bytes = &bytes[..length];
            let mut text = "x".to_owned();
            append(&mut text, bytes);
            let encoded = Base64Text::encode(bytes);
            assert_eq!(text.strip_prefix('x'), Some(encoded.0.as_str()), "{length} bytes");
            assert_eq!(encoded.decode().as_deref(), Ok(bytes));
            // Far behind the start, too, where it is decoded in larger steps.
            let mut bad = encoded.0;
            if length > 0 {
                let at = bad.len() - 4;
                bad.replace_range(at..=at, "!");
                assert_eq!(Base64Text(bad).decode(), Err(format!("Invalid symbol 33, offset {at}.")));
            }
        }
    }

    #[test]
    fn a_long_text_is_good_or_bad_as_a_whole() {
        let whole = |text: &str| STANDARD.decode(text).map_err(|error| error.to_string());
        let good = Base64Text::encode(&(0..3 * PIECE + 1).map(|at| at.to_le_bytes()[0]).collect::<Vec<_>>()).0;
        assert!(decode_long(&good).is_some());
        for at in [0, TEXT_PIECE - 4, TEXT_PIECE - 2, TEXT_PIECE - 1, TEXT_PIECE, 2 * TEXT_PIECE, good.len() - 1] {
            for change in ["=", "==", "=AA=", "", "A", "!", "ä"] {
                let mut text = good.clone();
                if text.get(at..at + change.len()).is_some() {
                    text.replace_range(at..at + change.len(), change);
                }
                assert_eq!(decode(&text), whole(&text), "{change} at {at}");
                text.insert_str(at, change);
                assert_eq!(decode(&text), whole(&text), "{change} inserted at {at}");
            }
        }
    }

    #[test]
    fn error_texts_are_those_of_stock_peers() {
        assert_eq!(Base64Text("!!!".into()).decode().unwrap_err(), "Invalid symbol 33, offset 0.");
        assert_eq!(Base64Text("aGk".into()).decode().unwrap_err(), "Invalid padding");
        assert_eq!(Base64Text("aGk=".into()).decode().unwrap(), b"hi");
    }
}
