//! What the flags, the environment, the configuration file and the defaults come to.
//!
//! In flow flags as typed and the environment, out flow values that are there, or a failure that says which setting is
//! missing. Tokens enter the process here and leave it as [`Secret`]s.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use exedra_client::Server;
use exedra_client::connect::BearerSource;
use exedra_proto::secret::Secret;

use crate::config::ConfigFile;
use crate::env;
use crate::exit::Failure;

/// Largest token file, in bytes; anything larger is some other file.
const MAX_TOKEN_FILE: u64 = 16 * 1024;

/// The data directory: the flag's, or the default one.
///
/// # Errors
/// There is no home directory to put it in.
pub fn data_dir(flag: Option<PathBuf>) -> Result<PathBuf, Failure> {
    flag.or_else(|| default_data_dir(env::text(env::XDG_DATA_HOME), env::text(env::HOME))).ok_or_else(|| {
        Failure::usage("there is no place for the data directory: HOME is not set", "name one with --data-dir DIR")
    })
}

fn default_data_dir(xdg: Option<String>, home: Option<String>) -> Option<PathBuf> {
    let base = absolute(xdg).or_else(|| absolute(home).map(|home| home.join(".local/share")))?;
    Some(base.join("exedra"))
}

/// The file of the executor's own key: the flag's, or the default one.
///
/// # Errors
/// There is no home directory to put it in.
pub fn identity(flag: Option<PathBuf>) -> Result<PathBuf, Failure> {
    flag.or_else(|| Some(state_dir()?.join("identity"))).ok_or_else(|| {
        Failure::usage("there is no place for the identity: HOME is not set", "name a file with --identity FILE")
    })
}

/// Where the credentials are that executors got for join tokens; none, if there is no home directory to put them in.
pub fn credentials() -> Option<PathBuf> {
    Some(state_dir()?.join("credentials"))
}

/// Where an executor's output may wait on disk, the best place first. A home that is not there is not made.
pub fn spools() -> Vec<PathBuf> {
    let is_home_there = absolute(env::text(env::HOME)).is_some_and(|home| home.is_dir());
    let has_place = is_home_there || absolute(env::text(env::XDG_STATE_HOME)).is_some();
    let own = state_dir().filter(|_| has_place).map(|dir| dir.join("spool"));
    let shared = std::env::temp_dir().join(format!("exedra-spool-{}", rustix::process::getuid().as_raw()));
    own.into_iter().chain([shared]).collect()
}

/// What this program has of its own on this machine unless flags say otherwise: keys, tokens, a server's data.
pub fn own() -> Vec<PathBuf> {
    let data = default_data_dir(env::text(env::XDG_DATA_HOME), env::text(env::HOME));
    let settings = config_file().and_then(|file| file.parent().map(Path::to_owned));
    [state_dir(), data, settings].into_iter().flatten().collect()
}

/// What this program keeps between its runs.
fn state_dir() -> Option<PathBuf> {
    let base = absolute(env::text(env::XDG_STATE_HOME))
        .or_else(|| absolute(env::text(env::HOME)).map(|home| home.join(".local/state")))?;
    Some(base.join("exedra"))
}

/// Has this process trust the certificates of the flag's file, or of the variable's, where there is one.
///
/// # Errors
/// The file cannot be used.
pub fn trust(flag: Option<PathBuf>) -> Result<(), Failure> {
    let Some(file) = flag.or_else(|| variable(env::EXEDRA_CA_FILE).map(PathBuf::from)) else { return Ok(()) };
    exedra_link::ws::trust_only(&file).map_err(|text| {
        Failure::usage(
            format!("these certificates cannot be trusted: {text}"),
            "name a PEM file with --ca-file, or leave it and EXEDRA_CA_FILE out to trust those of the system",
        )
    })
}

/// A server, and the token for it.
#[derive(Debug)]
pub struct Access {
    /// The server's URL.
    pub server: String,
    /// The client's token.
    pub token: Secret,
    /// The file in which it is, if it is in one.
    file: Option<PathBuf>,
}

impl Access {
    /// The server, asked with the token as it is at each time.
    ///
    /// # Errors
    /// The URL or the token cannot be used.
    pub fn server(&self, insecure_http: bool) -> Result<Server, Failure> {
        let server = Server::new(&self.server, &self.token, insecure_http).context("cannot use this server")?;
        let Some(file) = self.file.clone() else { return Ok(server) };
        Ok(server.reading(BearerSource::new(move || token_file(&file).map_err(|error| format!("{error:#}")))))
    }

    /// From the flags, then the environment, then the configuration file, which is read only if something is missing.
    ///
    /// # Errors
    /// Something is missing everywhere, or a file cannot be read.
    pub fn resolve(server: Option<String>, token_file: Option<&Path>) -> Result<Self, Failure> {
        let server = server.and_then(given).or_else(|| variable(env::EXEDRA_SERVER));
        let token = token_file.is_none().then(|| variable(env::EXEDRA_TOKEN).map(Secret::new)).flatten();
        let file = token_file.map(Path::to_owned).or_else(|| variable(env::EXEDRA_TOKEN_FILE).map(PathBuf::from));
        let file = file.filter(|_| token.is_none());
        let token = token.map_or_else(|| file.as_deref().map(self::token_file).transpose(), |token| Ok(Some(token)))?;
        if let (Some(server), Some(token)) = (&server, &token) {
            return Ok(Self { server: server.clone(), token: token.clone(), file });
        }
        let config = config_file().map_or_else(|| Ok(ConfigFile::default()), |path| ConfigFile::load(&path))?;
        let (token, file) = match (token, config.token, config.token_file) {
            (Some(token), ..) => (Some(token), file),
            (None, Some(token), _) => (Some(token), None),
            (None, None, Some(file)) => (Some(self::token_file(&file)?), Some(file)),
            (None, None, None) => (None, None),
        };
        let server = server.or(config.server).ok_or_else(|| {
            Failure::usage(
                format!("no server is named: neither --server nor {} is set", env::EXEDRA_SERVER),
                "add --server http://HOST:8900, or --url ws://HOST:PORT to go straight to a listener",
            )
        })?;
        let token = token.ok_or_else(|| {
            Failure::usage(
                format!("there is no token: neither {} nor {} is set", env::EXEDRA_TOKEN, env::EXEDRA_TOKEN_FILE),
                "make one on the server with `exedra token create --role client`, and put it into the variable \
                 EXEDRA_TOKEN or into a file for --token-file",
            )
        })?;
        Ok(Self { server, token, file })
    }
}

fn config_file() -> Option<PathBuf> {
    let base = absolute(env::text(env::XDG_CONFIG_HOME))
        .or_else(|| absolute(env::text(env::HOME)).map(|home| home.join(".config")))?;
    Some(base.join("exedra/config.toml"))
}

fn variable(name: &str) -> Option<String> {
    env::text(name).and_then(given)
}

/// Blank is the same as absent.
fn given(text: String) -> Option<String> {
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

fn absolute(text: Option<String>) -> Option<PathBuf> {
    text.map(PathBuf::from).filter(|path| path.is_absolute())
}

/// The token in `file`, white space around it removed.
///
/// # Errors
/// The file cannot be read, or holds no token.
pub fn token_file(file: &Path) -> anyhow::Result<Secret> {
    let size = std::fs::metadata(file).with_context(|| format!("cannot read the token file {}", file.display()))?.len();
    anyhow::ensure!(size <= MAX_TOKEN_FILE, "{} is too large for a token file", file.display());
    let text =
        std::fs::read_to_string(file).with_context(|| format!("cannot read the token file {}", file.display()))?;
    let token = text.trim();
    anyhow::ensure!(!token.is_empty(), "the token file {} is empty", file.display());
    Ok(Secret::new(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_directory_follows_the_xdg_rules() {
        let dir = |xdg: Option<&str>, home: Option<&str>| default_data_dir(xdg.map(Into::into), home.map(Into::into));
        assert_eq!(dir(Some("/x"), Some("/h")), Some("/x/exedra".into()));
        assert_eq!(dir(Some("relative"), Some("/h")), Some("/h/.local/share/exedra".into()));
        assert_eq!(dir(None, Some("/h")), Some("/h/.local/share/exedra".into()));
        assert_eq!(dir(None, Some("")), None);
        assert_eq!(dir(None, None), None);
    }

    #[test]
    fn a_token_file_holds_one_token() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, " secret-7\n").unwrap();
        assert_eq!(token_file(&file).unwrap().expose(), "secret-7");
        std::fs::write(&file, " \n").unwrap();
        assert!(token_file(&file).unwrap_err().to_string().contains("is empty"));
        assert!(token_file(&dir.path().join("none")).is_err());
    }
}
