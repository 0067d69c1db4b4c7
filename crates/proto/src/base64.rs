//! Standard padded base64, the form in which the protocol carries bytes inside JSON.
//!
//! [`Base64Text`] keeps what the peer sent undecoded, because a bad text must be answered with the code of the method
//! that received it; [`Base64Bytes`] is the outgoing side.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize, Serializer};

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
        STANDARD.decode(&self.0).map_err(|e| e.to_string())
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

/// Appends the base64 of `bytes` to `out`.
pub fn append(out: &mut String, bytes: &[u8]) {
    STANDARD.encode_string(bytes, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_texts_are_those_of_stock_peers() {
        assert_eq!(Base64Text("!!!".into()).decode().unwrap_err(), "Invalid symbol 33, offset 0.");
        assert_eq!(Base64Text("aGk".into()).decode().unwrap_err(), "Invalid padding");
        assert_eq!(Base64Text("aGk=".into()).decode().unwrap(), b"hi");
    }
}
