//! Glob patterns over a disk: what matches when the sandbox is made.
//!
//! In flow a pattern and a disk, out flow the paths that match. `*`, `?` and `[…]` match within a name, `**` any number of
//! names; links are not followed. What would have to be guessed (braces, escapes) or takes too long is refused.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::disk::{Disk, Found};
use super::rules::Kind;

/// How deep `**` goes where the client does not say.
const DEPTH: usize = 32;
/// How many names are looked at for one pattern; beyond it the sandbox is refused.
const MOST_NAMES: usize = 200_000;

/// Why a pattern cannot be resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unresolved {
    /// It has something that is not understood.
    Syntax,
    /// There is too much to look at.
    TooMuch,
}

/// Whether `text` has anything special at all.
pub fn is_special(text: &str) -> bool {
    text.contains(['*', '?', '[', '{', '\\'])
}

/// The paths below `base` that match a relative `pattern`, at most `depth` names deep.
pub fn expand(disk: &impl Disk, base: &Path, pattern: &str, depth: Option<usize>) -> Result<Vec<PathBuf>, Unresolved> {
    if pattern.contains(['{', '}', '\\']) {
        return Err(Unresolved::Syntax);
    }
    let parts: Vec<&str> = pattern.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.iter().any(|part| *part == ".." || (part.contains("**") && *part != "**")) {
        return Err(Unresolved::Syntax);
    }
    let mut walk = Walk { disk, found: Vec::new(), left: MOST_NAMES, asked: depth.is_some() };
    walk.below(base, &parts, depth.unwrap_or(DEPTH))?;
    walk.found.sort();
    walk.found.dedup();
    Ok(walk.found)
}

struct Walk<'a, D> {
    disk: &'a D,
    found: Vec<PathBuf>,
    left: usize,
    /// Whether the client said how deep to go: what lies deeper is not meant then.
    asked: bool,
}

impl<D: Disk> Walk<'_, D> {
    fn below(&mut self, directory: &Path, parts: &[&str], depth: usize) -> Result<(), Unresolved> {
        let Some((first, rest)) = parts.split_first() else { return Ok(()) };
        if *first == "**" {
            if rest.is_empty() {
                self.found.push(directory.to_owned());
                return Ok(());
            }
            self.below(directory, rest, depth)?;
        }
        if depth == 0 {
            let all = self.asked || self.disk.names(directory).is_empty();
            return if all { Ok(()) } else { Err(Unresolved::TooMuch) };
        }
        for (name, found) in self.disk.names(directory) {
            self.left = self.left.checked_sub(1).ok_or(Unresolved::TooMuch)?;
            let path = directory.join(&name);
            let enters = found == Found::Real(Kind::Directory);
            if *first == "**" {
                if enters {
                    self.below(&path, parts, depth - 1)?;
                }
            } else if matches(first.as_bytes(), name.as_bytes()) {
                if rest.is_empty() {
                    self.found.push(path);
                } else if enters {
                    self.below(&path, rest, depth - 1)?;
                }
            }
        }
        Ok(())
    }
}

/// Whether one name matches one part.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => (0..=name.len()).any(|taken| matches(rest, &name[taken..])),
        (Some((b'?', rest)), Some((_, after))) => matches(rest, after),
        (Some((b'[', class)), Some((byte, after))) => match one_of(class, *byte) {
            Some((true, rest)) => matches(rest, after),
            Some((false, _)) => false,
            None => *byte == b'[' && matches(class, after),
        },
        (Some((byte, rest)), Some((same, after))) => byte == same && matches(rest, after),
        _ => false,
    }
}

/// Whether `byte` is in the class that begins here, and what follows it; none if it has no end.
fn one_of(class: &[u8], byte: u8) -> Option<(bool, &[u8])> {
    let negated = matches!(class.first(), Some(b'!' | b'^'));
    let body = &class[usize::from(negated)..];
    let end = body.iter().skip(1).position(|byte| *byte == b']')? + 1;
    let (members, rest) = (&body[..end], &body[end + 1..]);
    let mut within = false;
    let mut at = 0;
    while at < members.len() {
        let range = members.get(at + 1) == Some(&b'-') && at + 2 < members.len();
        let last = if range { members[at + 2] } else { members[at] };
        within |= (members[at]..=last).contains(&byte);
        at += if range { 3 } else { 1 };
    }
    Some((within != negated, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::disk::Machine;

    #[test]
    fn names() {
        let yes = |pattern: &str, name: &str| matches(pattern.as_bytes(), name.as_bytes());
        for (pattern, name) in
            [("*", ""), ("*.pem", ".pem"), ("a?c", "abc"), ("[a-c]x", "bx"), ("[!a]", "b"), ("[]]", "]")]
        {
            assert!(yes(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("*.pem", "pem"), ("?", ""), ("[a-c]x", "dx"), ("[!a]", "a"), ("a", "A"), ("a*", "ba")]
        {
            assert!(!yes(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn over_a_disk() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["a.pem", "x/b.pem", "x/y/c.pem", "x/y/d.txt", ".h/e.pem"] {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        std::os::unix::fs::symlink(dir.path(), dir.path().join("x/loop")).unwrap();
        let all = |pattern: &str, depth| {
            let found = expand(&Machine, dir.path(), pattern, depth).unwrap();
            found.iter().map(|path| path.strip_prefix(dir.path()).unwrap().display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(all("**/*.pem", None), [".h/e.pem", "a.pem", "x/b.pem", "x/y/c.pem"]);
        assert_eq!(all("**/*.pem", Some(2)), [".h/e.pem", "a.pem", "x/b.pem"]);
        assert_eq!(all("x/*", None), ["x/b.pem", "x/loop", "x/y"]);
        assert_eq!(all("x/**", None), ["x"]);
        assert_eq!(expand(&Machine, dir.path(), "*.{a,b}", None), Err(Unresolved::Syntax));
        assert_eq!(expand(&Machine, dir.path(), "../*", None), Err(Unresolved::Syntax));
    }
}
