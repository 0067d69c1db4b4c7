//! The configuration file, `$XDG_CONFIG_HOME/exedra/config.toml`: what is asked for neither by flag nor by variable.
//!
//! In flows TOML text, out flow the settings in it. A file that others may read must not hold a token.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use exedra_proto::secret::Secret;
use serde::Deserialize;

use crate::exit::Failure;

/// What the file may say. Anything else in it is a mistake, and told.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigFile {
    /// URL of the server for `exec`.
    pub server: Option<String>,
    /// The client's token.
    pub token: Option<Secret>,
    /// A file with the client's token.
    pub token_file: Option<PathBuf>,
}

impl ConfigFile {
    /// Reads the file; without one, nothing is set.
    ///
    /// # Errors
    /// It cannot be read, makes no sense, or shows its token to others.
    pub fn load(path: &Path) -> Result<Self, Failure> {
        let told = |error: anyhow::Error| Failure::from(error.context(format!("cannot use {}", path.display())));
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(told(error.into())),
        };
        let config: Self = toml::from_str(&text).map_err(|error| {
            // The library's text would quote the line, which may hold the token.
            told(anyhow::Error::msg(match error.span() {
                Some(span) => format!("line {}: {}", line_of(&text, span.start), error.message()),
                None => error.message().to_owned(),
            }))
            .with_hint("it may say server = \"URL\", token = \"…\", token_file = \"PATH\"")
        })?;
        let mode = std::fs::metadata(path).map_err(|error| told(error.into()))?.mode();
        if config.token.is_some() && mode & 0o077 != 0 {
            let error = anyhow::anyhow!("it holds a token, and others may read it");
            return Err(told(error).with_hint(format!("chmod 600 {}", path.display())));
        }
        Ok(config)
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn load(text: &str, mode: u32) -> Result<ConfigFile, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        ConfigFile::load(&path).map_err(|failure| format!("{:#} hint: {:?}", failure.error, failure.hint))
    }

    #[test]
    fn the_settings_are_read() {
        let config = load("server = \"http://h:1\"\ntoken = \"secret\"\n", 0o600).unwrap();
        assert_eq!((config.server.as_deref(), config.token), (Some("http://h:1"), Some(Secret::new("secret"))));
        assert_eq!(load("", 0o644).unwrap(), ConfigFile::default());
        assert_eq!(ConfigFile::load(Path::new("/nowhere/config.toml")).unwrap(), ConfigFile::default());
    }

    #[test]
    fn a_token_is_for_its_owner_alone_and_in_no_message() {
        let open = load("token = \"hunter2\"\n", 0o644).unwrap_err();
        assert!(open.contains("chmod 600") && !open.contains("hunter2"), "{open}");
        for nonsense in ["tokn = \"hunter2\"\n", "token = hunter2\n", "\ntoken = \"hunter2\n"] {
            let wrong = load(nonsense, 0o600).unwrap_err();
            assert!(wrong.contains("line ") && !wrong.contains("hunter2"), "{wrong}");
        }
    }
}
