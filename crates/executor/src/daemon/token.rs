//! Where the daemon's token comes from: read anew for every registration, so that it can be changed while it runs.
//!
//! In flows a source, out flows a secret or the text why there is none, in the words of stock. No text holds the token.

use std::path::PathBuf;

use exedra_link::dial::registry::BEARER_VARIABLE;
use exedra_link::error::RegisterError;
use exedra_proto::secret::Secret;

/// Where a token comes from.
#[derive(Clone, Debug)]
pub enum TokenSource {
    /// It does not change.
    Fixed(Secret),
    /// This environment variable.
    Env(String),
    /// This file; white space around the token does not matter.
    File(PathBuf),
}

impl TokenSource {
    /// The variable from which stock executors take it.
    pub fn stock() -> Self {
        Self::Env(BEARER_VARIABLE.to_owned())
    }

    /// Reads it.
    ///
    /// # Errors
    /// [`RegisterError::Credential`]: there is none, or it is blank.
    pub fn read(&self) -> Result<Secret, RegisterError> {
        let (text, what) = match self {
            Self::Fixed(secret) => (secret.expose().to_owned(), "executor registry bearer token".to_owned()),
            Self::Env(name) => {
                let what = format!("executor registry bearer token environment variable `{name}`");
                let text = std::env::var(name);
                (text.map_err(|_| RegisterError::Credential(format!("{what} is not set")))?, what)
            }
            Self::File(path) => {
                let what = format!("executor registry bearer token file `{}`", path.display());
                let text = std::fs::read_to_string(path);
                (text.map_err(|cause| RegisterError::Credential(format!("{what} cannot be read: {cause}")))?, what)
            }
        };
        match text.trim() {
            "" => Err(RegisterError::Credential(format!("{what} is empty"))),
            token => Ok(Secret::new(token)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cause(source: &TokenSource) -> String {
        source.read().unwrap_err().to_string()
    }

    #[test]
    fn stock_texts_for_the_variable() {
        let unset = TokenSource::Env("EXEDRA_TEST_THIS_IS_NOT_SET".into());
        let expected = "executor registry authentication error: executor registry bearer token environment variable \
                        `EXEDRA_TEST_THIS_IS_NOT_SET` is not set";
        assert_eq!(cause(&unset), expected);
    }

    #[test]
    fn a_file_is_read_anew_each_time_and_trimmed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let source = TokenSource::File(path.clone());
        assert!(cause(&source).contains("cannot be read: No such file"));
        std::fs::write(&path, " \n").unwrap();
        assert!(cause(&source).ends_with("is empty"));
        for token in ["first", "second"] {
            std::fs::write(&path, format!("  {token}\n")).unwrap();
            assert_eq!(source.read().unwrap().expose(), token);
        }
        assert!(!format!("{:?}", TokenSource::Fixed(Secret::new("tok"))).contains("tok"));
    }
}
