//! The executor's own key, made once: it signs the heads of the audit, and whoever knows its public half can check them.
//!
//! In flows the path of a file, out flow signatures. A file that cannot be read, that others may read, or that does not
//! hold a key is an error and never a reason for a new key: who pinned the old one would take us for somebody else.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use exedra_proto::base64::Base64Text;
use exedra_proto::secret::Secret;
use hmac::{Hmac, KeyInit as _, Mac as _};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use sha2::Sha256;

use crate::private::{self, Unusable};

/// What a file with a key begins with; the seed follows as base64.
const MAGIC: &str = "exedra-identity-1 ";
/// Bytes of a seed, as Ed25519 has it (RFC 8032).
const SEED: usize = 32;
/// What keeps digests apart from everything else that the seed is used for.
const DIGEST_KEY: &[u8] = b"exedra-digest/1";

/// The executor's key.
pub struct Identity {
    pair: Ed25519KeyPair,
    digests: Hmac<Sha256>,
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The file or its directory cannot be read or made.
    #[error("cannot use the identity {}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Others than its owner may read or write it, or somebody else owns it.
    #[error("the identity {} must be a file of ours with mode 0600, it has mode {mode:04o} and owner {owner}", .path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// Who owns it.
        owner: u32,
    },
    /// It holds something else.
    #[error("the identity {} is damaged: it does not hold a key", .0.display())]
    Corrupt(PathBuf),
    /// The system gives no random bytes.
    #[error("cannot make an identity: the system gives no random bytes")]
    NoRandom,
}

impl IdentityError {
    /// What the caller can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Exposed { .. } => Some("if nobody else can have read it, set its mode to 0600; else remove it"),
            Self::Corrupt(_) => Some("restore the file from a backup; without it, a new identity has to be made known"),
            Self::Io { .. } | Self::NoRandom => None,
        }
    }
}

impl Identity {
    /// The key in the file at `path`; made, with its directory, if there is no such file.
    ///
    /// # Errors
    /// It is there and cannot be used, or it cannot be made.
    pub fn load_or_create(path: &Path) -> Result<Self, IdentityError> {
        match Self::load(path) {
            Err(IdentityError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            loaded => return loaded,
        }
        let mut seed = [0_u8; SEED];
        getrandom::fill(&mut seed).map_err(|_| IdentityError::NoRandom)?;
        let text = Secret::new(format!("{MAGIC}{}\n", Base64Text::encode(&seed).0));
        private::create(path, &text).map_err(|source| IdentityError::Io { path: path.to_owned(), source })?;
        // Somebody may have been quicker.
        Self::load(path)
    }

    /// The key in the file at `path`.
    ///
    /// # Errors
    /// There is none, or it cannot be used.
    pub fn load(path: &Path) -> Result<Self, IdentityError> {
        let corrupt = || IdentityError::Corrupt(path.to_owned());
        let text = private::read(path).map_err(|unusable| match unusable {
            Unusable::Io(source) => IdentityError::Io { path: path.to_owned(), source },
            Unusable::Exposed { mode, owner } => IdentityError::Exposed { path: path.to_owned(), mode, owner },
            Unusable::NoText => corrupt(),
        })?;
        let encoded = text.expose().trim_end().strip_prefix(MAGIC).ok_or_else(corrupt)?;
        let seed = Base64Text(encoded.to_owned()).decode().map_err(|_| corrupt())?;
        Self::from_seed(&seed).ok_or_else(corrupt)
    }

    /// From the bytes of a seed; none if they are not as many as a seed has.
    pub fn from_seed(seed: &[u8]) -> Option<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).ok()?;
        let mut key = Hmac::<Sha256>::new_from_slice(seed).ok()?;
        key.update(DIGEST_KEY);
        let digests = Hmac::new_from_slice(&key.finalize().into_bytes()).ok()?;
        Some(Self { pair, digests })
    }

    /// The public half, as lower-case hex.
    pub fn public_key(&self) -> String {
        hex(self.pair.public_key().as_ref())
    }

    /// A signature of `message`, as lower-case hex.
    pub fn sign(&self, message: &[u8]) -> String {
        hex(self.pair.sign(message).as_ref())
    }

    /// A digest of `value` under `name` that only the holder of this identity can compute, as lower-case hex: equal values
    /// can be told, and a short one cannot be guessed by who has the digest alone.
    pub fn digest(&self, name: &str, value: &str) -> String {
        let mut mac = self.digests.clone();
        for part in [name, value] {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part.as_bytes());
        }
        hex(mac.finalize().into_bytes().get(..16).unwrap_or_default())
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("public_key", &self.public_key()).finish_non_exhaustive()
    }
}

/// Whether `signature` is one of `message` by the holder of `key`; both as hex.
pub fn is_signed(key: &str, message: &[u8], signature: &str) -> bool {
    let (Some(key), Some(signature)) = (unhex(key), unhex(signature)) else { return false };
    UnparsedPublicKey::new(&ED25519, key).verify(message, &signature).is_ok()
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble & 15)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn set_mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn it_is_made_once_and_is_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state/exedra/identity");
        let first = Identity::load_or_create(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
        let again = Identity::load_or_create(&path).unwrap();
        assert_eq!(first.public_key(), again.public_key());
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        let signature = first.sign(b"head");
        assert!(is_signed(&again.public_key(), b"head", &signature));
        assert!(!is_signed(&again.public_key(), b"heads", &signature));
        assert!(!is_signed("zz", b"head", &signature) && !is_signed("ä", b"head", &signature));
        assert!(!format!("{first:?}").contains(&std::fs::read_to_string(&path).unwrap()[MAGIC.len()..50]));
    }

    #[test]
    fn what_cannot_be_used_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("identity");
        for damaged in ["", "exedra-identity-1 ", "exedra-identity-1 AAAA\n", "hello", "exedra-identity-1 !!\n"] {
            std::fs::write(&path, damaged).unwrap();
            set_mode(&path, 0o600);
            assert!(matches!(Identity::load_or_create(&path), Err(IdentityError::Corrupt(_))), "{damaged}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), damaged);
        }
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(matches!(Identity::load_or_create(&path), Err(IdentityError::Corrupt(_))));
        set_mode(&path, 0o644);
        assert!(matches!(Identity::load_or_create(&path), Err(IdentityError::Exposed { mode: 0o644, .. })));
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/dev/null", &path).unwrap();
        assert!(matches!(Identity::load_or_create(&path), Err(IdentityError::Io { .. })));
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(Identity::load_or_create(&path).is_err());
    }

    #[test]
    fn digests_depend_on_name_value_and_key() {
        let (one, two) = (Identity::from_seed(&[1; 32]).unwrap(), Identity::from_seed(&[2; 32]).unwrap());
        let digest = one.digest("A", "b");
        assert_eq!(digest.len(), 32);
        assert_eq!(digest, one.digest("A", "b"));
        for other in [one.digest("A", "c"), one.digest("Ab", ""), two.digest("A", "b")] {
            assert_ne!(digest, other);
        }
        assert!(Identity::from_seed(&[1; 31]).is_none());
    }
}
