//! Every environment variable that the binary itself reads, in one place.
//!
//! In flows the process's environment, out flow texts; what they mean is decided in `settings`. The proxy variables
//! (`HTTPS_PROXY` and its kin) are read by the HTTP library and are not named here.

use std::collections::BTreeMap;
use std::ffi::OsString;

/// URL of the server for `exec`, where `--server` is not given.
pub const EXEDRA_SERVER: &str = "EXEDRA_SERVER";
/// The bearer token, for `exec` (role client) and `exec-server --remote` (role executor).
pub const EXEDRA_TOKEN: &str = "EXEDRA_TOKEN";
/// A join token for `exec-server --remote`, where neither `--join` nor `--join-file` is given.
pub const EXEDRA_JOIN_TOKEN: &str = "EXEDRA_JOIN_TOKEN";
/// A file with the token, for both, where neither `--token-file` nor [`EXEDRA_TOKEN`] is given. It is read again before
/// each request, so that the token in it may be replaced.
pub const EXEDRA_TOKEN_FILE: &str = "EXEDRA_TOKEN_FILE";
/// A PEM file with the certificates to trust, where `--ca-file` is not given.
pub const EXEDRA_CA_FILE: &str = "EXEDRA_CA_FILE";
/// What is logged to stderr: a level, or `target=level` parts with commas between.
pub const EXEDRA_LOG: &str = "EXEDRA_LOG";
/// How it is logged: `text`, or `json`, one object a line.
pub const EXEDRA_LOG_FORMAT: &str = "EXEDRA_LOG_FORMAT";
/// The executor's bearer token under its upstream name, after [`EXEDRA_TOKEN`].
pub const CODEX_EXEC_SERVER_REMOTE_BEARER_TOKEN: &str = "CODEX_EXEC_SERVER_REMOTE_BEARER_TOKEN";
/// Base of the default data directory.
pub const XDG_DATA_HOME: &str = "XDG_DATA_HOME";
/// Base of the configuration file.
pub const XDG_CONFIG_HOME: &str = "XDG_CONFIG_HOME";
/// Base of the place for what a program keeps between its runs, such as the executor's own key.
pub const XDG_STATE_HOME: &str = "XDG_STATE_HOME";
/// Base of all of them where they are not set.
pub const HOME: &str = "HOME";
/// Set by a server for the one that it starts to take its place: its stdin is a socket to the old one. Not for people.
pub const EXEDRA_HANDOVER: &str = "EXEDRA_HANDOVER";
/// If it is set and not empty, the log has no colours.
pub const NO_COLOR: &str = "NO_COLOR";
/// The kind of terminal, handed to a remote command that gets a PTY.
pub const TERM: &str = "TERM";

/// Variables that hold a secret, or lead to one: commands that an executor runs never inherit them.
pub const SECRETS: &[&str] =
    &[EXEDRA_TOKEN, EXEDRA_TOKEN_FILE, EXEDRA_JOIN_TOKEN, CODEX_EXEC_SERVER_REMOTE_BEARER_TOKEN];

/// The value of `name`; none if it is unset or not UTF-8.
pub fn text(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The environment that commands may inherit: all of ours without [`SECRETS`].
pub fn for_commands() -> BTreeMap<OsString, OsString> {
    std::env::vars_os().filter(|(name, _)| !SECRETS.iter().any(|secret| name == secret)).collect()
}
