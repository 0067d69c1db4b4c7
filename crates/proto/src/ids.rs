//! Identifiers as types of their own, so that one kind cannot be passed for another.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! text_id {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Wraps `text` as it is.
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id!(
    /// One registration of one executor instance, `reg-` and a UUID in our registry.
    RegistrationId
);
text_id!(
    /// The public name of a token (never the token itself), `tok-` and 16 hex digits in our registry.
    TokenId
);
text_id!(
    /// A session of an executor: the text of a version-4 UUID.
    SessionId
);
text_id!(
    /// A process inside a session: any text, chosen by the client, the empty one included.
    ProcessId
);

/// The name by which clients address an executor: 1 to 128 of `A-Z a-z 0-9 . _ @ + -`, starting with a letter or digit.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct ExecutorId(String);

/// Why a text is no [`ExecutorId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an executor id has 1 to 128 characters out of A-Z a-z 0-9 . _ @ + - and starts with a letter or a digit")]
pub struct InvalidExecutorId;

impl ExecutorId {
    /// Longest id, in bytes.
    pub const MAX_LEN: usize = 128;

    /// Checks `text`.
    ///
    /// # Errors
    /// [`InvalidExecutorId`] if it breaks the rule above.
    pub fn parse(text: &str) -> Result<Self, InvalidExecutorId> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._@+-".contains(&b);
        let starts_well = text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
        if starts_well && text.len() <= Self::MAX_LEN && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidExecutorId)
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for ExecutorId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for ExecutorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executor_ids_are_one_safe_path_segment() {
        for good in ["a", "box-1", "gpu.lab_3", "7", "me@host"] {
            assert!(ExecutorId::parse(good).is_ok(), "{good}");
        }
        let long = "x".repeat(129);
        for bad in ["", ".", "..", "-a", "a/b", "a b", "a?b", "ä", "a%2e", &long] {
            assert!(ExecutorId::parse(bad).is_err(), "{bad}");
        }
    }
}
