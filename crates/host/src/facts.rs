//! What kind of machine this is, as `environment/info` tells it.
//!
//! In flow what children inherit and the account's shell, out flows an [`EnvironmentInfo`]. A capability is only
//! announced if the methods of this crate keep it. It starts nothing and opens no file.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use exedra_proto::environment::{Capabilities, EnvironmentInfo, Shell};
use exedra_proto::path::{AbsolutePath, PathForm};

use crate::process::Host;

/// Shells that clients of the protocol know, by the name of their program.
const KNOWN: [&str; 3] = ["bash", "zsh", "sh"];
/// Tried in this order where the account's shell is none of them.
const FALLBACKS: [&str; 2] = ["/bin/bash", "/bin/sh"];
const CAPABILITIES: Capabilities = Capabilities {
    capability_discovery_sandbox: true,
    fs_watch_missing: true,
    environment_config_read: true,
    http_header_env_vars: true,
    sandboxed_file_streaming: true,
    file_write_streaming: true,
};

/// What kind of machine `host` is.
pub fn info(host: &Host) -> EnvironmentInfo {
    let environment = host.environment();
    let temporary = variable(environment, "TMPDIR");
    let shell = shell(Path::new(host.shell()), Path::is_file);
    EnvironmentInfo {
        shell,
        executor_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        cwd: std::env::current_dir().ok().and_then(uri),
        user_home_dir: home(environment).and_then(uri),
        platform_os: Some(std::env::consts::OS.to_owned()),
        prepend_path_dirs: Vec::new(),
        temporary_directories: temporary.clone().and_then(uri).into_iter().collect(),
        temp_dir: uri(temporary.unwrap_or_else(|| PathBuf::from("/tmp"))),
        capabilities: CAPABILITIES,
    }
}

/// The home that children have.
pub fn home(environment: &BTreeMap<OsString, OsString>) -> Option<PathBuf> {
    variable(environment, "HOME")
}

/// An absolute path that a variable holds.
pub fn variable(environment: &BTreeMap<OsString, OsString>, name: &str) -> Option<PathBuf> {
    environment.get(OsStr::new(name)).map(PathBuf::from).filter(|path| path.is_absolute())
}

/// `path` as it is written to clients that have not named one yet.
pub fn uri(path: PathBuf) -> Option<AbsolutePath> {
    AbsolutePath::native(path).ok().map(|path| path.with_form(PathForm::Uri))
}

fn shell(account: &Path, exists: impl Fn(&Path) -> bool) -> Shell {
    let known = |path: &Path| path.file_name()?.to_str().filter(|name| KNOWN.contains(name)).map(str::to_owned);
    let candidates = std::iter::once(account).chain(FALLBACKS.iter().map(Path::new));
    let found = candidates.filter(|path| exists(path)).find_map(|path| Some((known(path)?, path)));
    let (name, path) = found.unwrap_or_else(|| ("sh".to_owned(), Path::new("/bin/sh")));
    Shell { name, path: path.display().to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_that_clients_know() {
        let of = |account: &str, there: &[&str]| {
            let shell = shell(Path::new(account), |path| there.iter().any(|it| Path::new(it) == path));
            format!("{} {}", shell.name, shell.path)
        };
        assert_eq!(of("/usr/bin/zsh", &["/usr/bin/zsh", "/bin/bash"]), "zsh /usr/bin/zsh");
        assert_eq!(of("/usr/bin/fish", &["/usr/bin/fish", "/bin/bash", "/bin/sh"]), "bash /bin/bash");
        assert_eq!(of("/bin/bash", &["/bin/sh"]), "sh /bin/sh");
        assert_eq!(of("/sbin/nologin", &[]), "sh /bin/sh");
    }

    #[test]
    fn only_absolute_paths_are_told() {
        let pairs = [("HOME", "/h"), ("TMPDIR", "rel")].map(|(name, value)| (name.into(), value.into()));
        let environment = BTreeMap::from(pairs);
        assert_eq!(home(&environment), Some(PathBuf::from("/h")));
        assert_eq!(variable(&environment, "TMPDIR"), None);
        let text = serde_json::to_string(&uri(PathBuf::from("/a b"))).unwrap();
        assert_eq!(text, r#""file:///a%20b""#);
    }
}
