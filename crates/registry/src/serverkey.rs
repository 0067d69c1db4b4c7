//! The server's own key, from which the AWS pair of a token is made, so that no such secret is stored.
//!
//! A file flows in, made when it is first needed, and access key and secret of any token flow out. Whether there is such a
//! token, and whether it is good, others know. No byte of the key goes into an error or a log.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use exedra_proto::base64::Base64Text;
use exedra_proto::ids::TokenId;
use exedra_proto::secret::Secret;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::error::RegistryError;

/// With which an access key begins.
const PREFIX: &str = "EXED";
/// Digits of a token's id, and so of its access key.
const DIGITS: usize = 16;
/// Bytes of the key.
const LEN: usize = 32;

/// The key.
#[derive(Clone)]
pub struct ServerKey {
    key: [u8; LEN],
}

impl std::fmt::Debug for ServerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServerKey(<redacted>)")
    }
}

impl ServerKey {
    /// Reads the key, or makes it. Blocks on the disk.
    ///
    /// # Errors
    /// The file cannot be used, or makes no sense: it is never replaced silently.
    pub fn open(path: &Path) -> Result<Self, RegistryError> {
        let io = |error| RegistryError::io(path, error);
        match std::fs::read_to_string(path) {
            Ok(text) => parse(&text).ok_or_else(|| RegistryError::Keys {
                path: path.to_owned(),
                reason: "it does not hold 32 bytes in base64".to_owned(),
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let mut key = [0; LEN];
                getrandom::fill(&mut key)?;
                match save(path, &key) {
                    Ok(()) => Ok(Self { key }),
                    // Another process was quicker; its key is whole, since it was put in place whole.
                    Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Self::open(path),
                    Err(error) => Err(io(error)),
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                Err(RegistryError::Keys { path: path.to_owned(), reason: "it is no text".to_owned() })
            }
            Err(error) => Err(io(error)),
        }
    }

    /// The token's secret for signatures.
    pub fn secret(&self, token: &TokenId) -> Secret {
        let mut mac = match Hmac::<Sha256>::new_from_slice(&self.key) {
            Ok(mac) => mac,
            Err(_) => unreachable!("HMAC takes keys of any length"),
        };
        mac.update(b"exedra-aws-secret-v1\n");
        mac.update(token.as_str().as_bytes());
        let text = Base64Text::encode(&mac.finalize().into_bytes()).0;
        Secret::new(text.trim_end_matches('='))
    }
}

/// The token's access key; none for an id that none of ours has.
pub fn access_key(token: &TokenId) -> Option<String> {
    let digits = token.as_str().strip_prefix("tok-")?;
    let is_ours = digits.len() == DIGITS && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_ours.then(|| format!("{PREFIX}{}", digits.to_ascii_uppercase()))
}

/// The token of an access key; none for one that is not of ours.
pub fn token_of(access_key: &str) -> Option<TokenId> {
    let digits = access_key.strip_prefix(PREFIX)?;
    let is_ours = digits.len() == DIGITS && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F'));
    is_ours.then(|| TokenId::new(format!("tok-{}", digits.to_ascii_lowercase())))
}

fn parse(text: &str) -> Option<ServerKey> {
    let key = Base64Text(text.trim().to_owned()).decode().ok()?.try_into().ok()?;
    Some(ServerKey { key })
}

/// Puts a whole file at `path`, unless there is one.
fn save(path: &Path, key: &[u8]) -> std::io::Result<()> {
    let beside = path.with_extension(format!("new-{}", std::process::id()));
    let written = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside);
    let placed = written.and_then(|mut file| {
        file.write_all(format!("{}\n", Base64Text::encode(key).0).as_bytes())?;
        file.sync_all()?;
        std::fs::hard_link(&beside, path)
    });
    let removed = std::fs::remove_file(&beside);
    placed.and(removed)?;
    match path.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_pair_is_always_the_same_and_another_for_another_token_or_server() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("server-key");
        let (one, two) = (TokenId::new("tok-0123456789abcdef"), TokenId::new("tok-0123456789abcdee"));
        let key = ServerKey::open(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
        let secret = key.secret(&one);
        assert_eq!(ServerKey::open(&path).unwrap().secret(&one), secret);
        assert_ne!(key.secret(&two), secret);
        assert_ne!(ServerKey::open(&dir.path().join("other")).unwrap().secret(&one), secret);
        assert_eq!(access_key(&one).as_deref(), Some("EXED0123456789ABCDEF"));
        assert_eq!(token_of("EXED0123456789ABCDEF"), Some(one));
        for bad in ["", "EXED", "EXED0123456789abcdef", "AKIA0123456789ABCDEF", "EXED0123456789ABCDE%"] {
            assert_eq!(token_of(bad), None, "{bad}");
        }
        assert_eq!(access_key(&TokenId::new("tok-x")), None);
    }

    #[test]
    fn a_damaged_file_is_told_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("server-key");
        for bad in [&b""[..], b"AAAA", b"\xff\xfe"] {
            std::fs::write(&path, bad).unwrap();
            assert!(matches!(ServerKey::open(&path), Err(RegistryError::Keys { .. })));
            assert_eq!(std::fs::read(&path).unwrap(), bad);
        }
    }
}
