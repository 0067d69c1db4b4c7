//! After a run whose processes of ours logged all they could: no log holds a token or a ticket.
//!
//! In flow the logs and the tokens in play, out flows the first place where one was found. What a ticket is, is known by
//! the name of its signature in a URL.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::World;

/// What comes before the signature in a ticket.
const SIGNATURE: &str = "sig=";
/// What stands there where it was masked.
const MASKED: &str = "<redacted>";
/// In no log at the usual level: that it is there shows that there is something to look at.
const LEVEL: &str = "DEBUG";

/// Looks through every log of the run.
pub(super) async fn none_logged(world: &World) -> Result<()> {
    let secrets = world.secrets.borrow().clone();
    ensure!(!secrets.is_empty() && secrets.iter().all(|secret| secret.len() > 20), "there were no secrets to look for");
    let (mut raised, mut open) = (0, vec![world.dir.clone()]);
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir)? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "err" || extension == "out") {
                let text = String::from_utf8_lossy(&std::fs::read(&path)?).into_owned();
                raised += usize::from(text.contains(LEVEL));
                check(&path, &text, &secrets)?;
            }
        }
    }
    // Two servers, one of them twice, an executor, a listener and two clients.
    ensure!(raised >= 7, "only {raised} logs were at that level");
    Ok(())
}

fn check(path: &Path, text: &str, secrets: &[String]) -> Result<()> {
    for (line, number) in text.lines().zip(1..) {
        let found = secrets.iter().any(|secret| line.contains(secret.as_str()));
        ensure!(!found, "a token is in {}:{number}", path.display());
        for (at, _) in line.match_indices(SIGNATURE) {
            let value = line.get(at + SIGNATURE.len()..).context("a line is cut at characters")?;
            ensure!(value.starts_with(MASKED), "a ticket is in {}:{number}", path.display());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_or_a_ticket_is_found() {
        let look = |text: &str| check(Path::new("log"), text, &["tok-1234".to_owned()]);
        look("all is well\nsig=<redacted>&x=1\n").unwrap();
        assert_eq!(look("fine\nBearer tok-1234\n").unwrap_err().to_string(), "a token is in log:2");
        assert_eq!(look("ws://x/?kid=1&sig=abc\n").unwrap_err().to_string(), "a ticket is in log:1");
        assert!(look("sig=<redacted> sig=abc").is_err());
    }
}
