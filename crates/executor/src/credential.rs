//! The executor's own credential for one server and one name, made here and traded for a join token.
//!
//! In flows the path of a file, out flow the credential and whether the server has said that it knows it. It is on the disk before
//! any server hears of it, so that nothing is lost with an answer. A file that cannot be read, that others may read, or that
//! holds something else is an error and never a reason for a new credential.

use std::io;
use std::path::{Path, PathBuf};

use exedra_proto::ids::ExecutorId;
use exedra_proto::secret::Secret;
use exedra_proto::token;
use sha2::{Digest as _, Sha256};
use url::Url;

use crate::identity::hex;
use crate::private::{self, Unusable};

/// What a file with a credential begins with.
const MAGIC: &str = "exedra-credential-1 ";
/// What follows the credential from the time on when the server knows it.
const JOINED: &str = " joined";

/// A credential and the file that keeps it.
#[derive(Clone, Debug)]
pub struct Credential {
    path: PathBuf,
    secret: Secret,
    is_joined: bool,
}

/// Why there is no credential.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// The file or its directory cannot be read or made.
    #[error("cannot use the credential {}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Others than its owner may read or write it, or somebody else owns it.
    #[error("the credential {} must be a file of ours with mode 0600, it has mode {mode:04o} and owner {owner}", .path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// Who owns it.
        owner: u32,
    },
    /// It holds something else.
    #[error("the credential {} is damaged: it does not hold a token of an executor", .0.display())]
    Corrupt(PathBuf),
    /// The system gives no random bytes.
    #[error("cannot make a credential: the system gives no random bytes")]
    NoRandom,
}

impl CredentialError {
    /// What the caller can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Exposed { .. } => Some(
                "if nobody else can have read it, set its mode to 0600; else revoke the token, remove the file and join again",
            ),
            Self::Corrupt(_) => Some("restore the file from a backup; without it, remove it and join again"),
            Self::Io { .. } | Self::NoRandom => None,
        }
    }
}

impl Credential {
    /// Where in `dir` the credential for this server and this name is kept: one file for each pair of them, whatever slashes the URL
    /// ends with.
    pub fn place(dir: &Path, base_url: &str, executor: &ExecutorId) -> PathBuf {
        let base = base_url.trim();
        let base = Url::parse(base).map_or_else(|_| base.to_owned(), String::from);
        let digest = hex(&Sha256::digest(base.trim_end_matches('/').as_bytes()));
        dir.join(format!("{executor}.{}", digest.get(..16).unwrap_or_default()))
    }

    /// The credential in the file at `path`; none if there is no such file.
    ///
    /// # Errors
    /// It is there and cannot be used.
    pub fn load(path: &Path) -> Result<Option<Self>, CredentialError> {
        let corrupt = || CredentialError::Corrupt(path.to_owned());
        let text = match private::read(path) {
            Ok(text) => text,
            Err(unusable) if unusable.is_missing() => return Ok(None),
            Err(Unusable::Io(source)) => return Err(CredentialError::Io { path: path.to_owned(), source }),
            Err(Unusable::Exposed { mode, owner }) => {
                return Err(CredentialError::Exposed { path: path.to_owned(), mode, owner });
            }
            Err(Unusable::NoText) => return Err(corrupt()),
        };
        let kept = text.expose().strip_prefix(MAGIC).and_then(|text| text.strip_suffix('\n')).ok_or_else(corrupt)?;
        let (secret, is_joined) = kept.strip_suffix(JOINED).map_or((kept, false), |secret| (secret, true));
        if token::letter(secret) != Some(token::EXECUTOR) {
            return Err(corrupt());
        }
        Ok(Some(Self { path: path.to_owned(), secret: Secret::new(secret), is_joined }))
    }

    /// The same; made, with its directory, if there is no such file.
    ///
    /// # Errors
    /// It is there and cannot be used, or it cannot be made.
    pub fn load_or_create(path: &Path) -> Result<Self, CredentialError> {
        if let Some(credential) = Self::load(path)? {
            return Ok(credential);
        }
        let failed = |source| CredentialError::Io { path: path.to_owned(), source };
        let mut bits = [0; 32];
        getrandom::fill(&mut bits).map_err(|_| CredentialError::NoRandom)?;
        let secret = token::format(token::EXECUTOR, bits);
        private::create(path, &text(&secret, false)).map_err(failed)?;
        // Somebody may have been quicker.
        Self::load(path)?.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))
    }

    /// The credential.
    pub fn secret(&self) -> &Secret {
        &self.secret
    }

    /// The file that keeps it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the server has said that it knows it.
    pub fn is_joined(&self) -> bool {
        self.is_joined
    }

    /// Its SHA-256, as 64 hex digits.
    pub fn sha256(&self) -> String {
        hex(&token::sha256(&self.secret))
    }

    /// Keeps that the server has said that it knows it.
    ///
    /// # Errors
    /// It cannot be written; the credential stays, and can be traded for again.
    pub fn joined(&mut self) -> Result<(), CredentialError> {
        self.is_joined = true;
        let written = private::replace(&self.path, &text(&self.secret, true));
        written.map_err(|source| CredentialError::Io { path: self.path.clone(), source })
    }
}

fn text(secret: &Secret, is_joined: bool) -> Secret {
    Secret::new(format!("{MAGIC}{}{}\n", secret.expose(), if is_joined { JOINED } else { "" }))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn it_is_made_once_for_its_owner_alone_and_remembers_that_it_joined() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state/credentials/box");
        assert!(Credential::load(&path).unwrap().is_none());
        let mut first = Credential::load_or_create(&path).unwrap();
        assert!(!first.is_joined() && token::letter(first.secret().expose()) == Some('x'));
        let again = Credential::load_or_create(&path).unwrap();
        assert_eq!(again.secret(), first.secret());
        first.joined().unwrap();
        let joined = Credential::load(&path).unwrap().unwrap();
        assert!(joined.is_joined() && joined.secret() == first.secret());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
        assert!(!format!("{joined:?}").contains(&first.secret().expose()[9..]));
        assert!(first.sha256().len() == 64 && first.sha256() == joined.sha256());
    }

    #[test]
    fn there_is_one_for_each_server_and_name() {
        let place = |base: &str, id: &str| Credential::place(Path::new("/s"), base, &ExecutorId::parse(id).unwrap());
        let box_at_h = place("http://h:1", "box");
        assert!(box_at_h.to_str().unwrap().starts_with("/s/box."), "{box_at_h:?}");
        for same in [" http://h:1/ ", "HTTP://H:1//"] {
            assert_eq!(place(same, "box"), box_at_h, "{same}");
        }
        for (base, id) in [("http://h:2", "box"), ("https://h:1", "box"), ("http://h:1/a", "box"), ("http://h:1", "b")]
        {
            assert_ne!(place(base, id), box_at_h, "{base} {id}");
        }
    }

    #[test]
    fn what_cannot_be_used_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("credential");
        let good = Credential::load_or_create(&dir.path().join("good")).unwrap();
        let good = good.secret().expose();
        let client = token::format(token::CLIENT, [7; 32]);
        for damaged in [
            String::new(),
            good.to_owned(),
            format!("{MAGIC}{good}"),
            format!("{MAGIC}{}\n", &good[1..]),
            format!("{MAGIC}{good} joine\n"),
            format!("{MAGIC}{}\n", client.expose()),
        ] {
            std::fs::write(&path, &damaged).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            let error = Credential::load_or_create(&path).unwrap_err();
            assert!(matches!(error, CredentialError::Corrupt(_)), "{damaged}");
            assert!(!format!("{error} {error:?}").contains(&good[9..]));
            assert_eq!(std::fs::read_to_string(&path).unwrap(), damaged);
        }
        std::fs::write(&path, text(&Secret::new(good), true).expose()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let exposed = Credential::load_or_create(&path);
        assert!(matches!(exposed, Err(CredentialError::Exposed { mode: 0o640, .. })));
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(dir.path().join("good"), &path).unwrap();
        assert!(matches!(Credential::load_or_create(&path), Err(CredentialError::Io { .. })), "no link is followed");
    }
}
