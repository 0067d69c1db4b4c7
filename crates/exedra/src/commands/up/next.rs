//! What `up` prints once it is up: what to paste next, or one line of JSON for scripts.
//!
//! In flow addresses and paths, out flows text on stdout. The token itself is never printed, only where it is.

use std::io;
use std::path::Path;

use serde::Serialize;

use crate::output;

/// How to use what runs.
#[derive(Debug, Serialize)]
pub struct Next<'a> {
    /// The server's URL.
    pub server: &'a str,
    /// The executor's id.
    pub executor: &'a str,
    /// A file with a client's token.
    pub token_file: &'a Path,
    /// The executor's own listener, for a stock Codex.
    pub listener: &'a str,
    /// Where the records are.
    pub data_dir: &'a Path,
    /// This process.
    pub pid: u32,
}

impl Next<'_> {
    /// Prints it.
    ///
    /// # Errors
    /// Stdout cannot be written.
    pub fn print(&self, json: bool) -> io::Result<()> {
        if json {
            return output::json(self);
        }
        let exe = std::env::current_exe().map_or_else(|_| "exedra".to_owned(), |path| quoted(&path));
        output::line(&self.text(&exe))
    }

    fn text(&self, exe: &str) -> String {
        let Self { server, executor, listener, .. } = self;
        let token_file = quoted(self.token_file);
        format!(
            "Exedra is up: server {server}, executor `{executor}`. Ctrl-C stops it.\n\
             \n\
             To run a command on the executor, through the server:\n\
             \x20 export EXEDRA_SERVER={server} EXEDRA_TOKEN=\"$(cat {token_file})\"\n\
             \x20 {exe} exec {executor} -- uname -a\n\
             \n\
             To let a stock Codex work on it, straight through its listener:\n\
             \x20 CODEX_EXEC_SERVER_URL={listener} codex"
        )
    }
}

/// A path as a shell reads it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_quoted_where_a_shell_needs_it() {
        assert_eq!(quoted(Path::new("/a/b-1.token")), "/a/b-1.token");
        assert_eq!(quoted(Path::new("/a b/it's")), r"'/a b/it'\''s'");
    }
}
