//! A signed head: "up to this line the log was like this". Kept elsewhere, it shows that a tail was cut off.
//!
//! In flow the number and the hash of a line, out flows a signed statement, as a line of JSON. Pure.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::identity::{self, Identity};

/// What the hash of the line before the first one is said to be.
pub const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// What is signed begins with this.
const DOMAIN: &str = "exedra-audit-head/1";

/// A signed head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Number of the last line.
    pub n: u64,
    /// Hash of that line, as hex.
    pub hash: String,
    /// When it was signed, in milliseconds since 1970.
    pub at: u64,
    /// The signing key, as hex.
    pub key: String,
    /// The signature, as hex.
    pub sig: String,
}

impl Head {
    /// Signs.
    pub fn sign(identity: &Identity, n: u64, hash: &str, at: u64) -> Self {
        let sig = identity.sign(&message(n, hash, at));
        Self { n, hash: hash.to_owned(), at, key: identity.public_key(), sig }
    }

    /// Whether the signature is that of the key it names.
    pub fn is_genuine(&self) -> bool {
        identity::is_signed(&self.key, &message(self.n, &self.hash, self.at), &self.sig)
    }
}

/// The hash of a line, without its line feed, as hex.
pub fn hash(line: &[u8]) -> String {
    identity::hex(&Sha256::digest(line))
}

fn message(n: u64, hash: &str, at: u64) -> Vec<u8> {
    format!("{DOMAIN}\n{n}\n{hash}\n{at}\n").into_bytes()
}
