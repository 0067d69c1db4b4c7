//! Which executors a token reaches: an id, or a pattern in which `*` stands for any characters.
//!
//! In flow the pattern's text and an executor id, out flows yes or no, in time linear in both but for their product at
//! worst; there is no other special character.

use std::fmt;

use exedra_proto::ids::ExecutorId;
use serde::Serialize;

/// A pattern of executor ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Pattern(String);

/// Why a text is no [`Pattern`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a pattern of executor ids has 1 to 128 characters out of A-Z a-z 0-9 . _ @ + - and `*`, which stands for any")]
pub struct InvalidPattern;

impl Pattern {
    /// All executors.
    pub fn any() -> Self {
        Self("*".to_owned())
    }

    /// Checks `text`.
    ///
    /// # Errors
    /// [`InvalidPattern`] if it breaks the rule above, and so could match nothing.
    pub fn parse(text: &str) -> Result<Self, InvalidPattern> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._@+-*".contains(&byte);
        let fits = (1..=ExecutorId::MAX_LEN).contains(&text.len()) && text.bytes().all(allowed);
        if fits { Ok(Self(text.to_owned())) } else { Err(InvalidPattern) }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it covers `executor`.
    pub fn covers(&self, executor: &ExecutorId) -> bool {
        matches(&self.0, executor.as_str())
    }
}

/// Whether all of `text` is as `pattern` says, in which `*` stands for any characters, none included.
pub fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Behind the last star seen: where to go on in the pattern, and up to where the star has eaten.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p + 1, t));
            p += 1;
        } else if pattern.get(p) == text.get(t) {
            (p, t) = (p + 1, t + 1);
        } else if let Some((behind, eaten)) = star {
            star = Some((behind, eaten + 1));
            (p, t) = (behind, eaten + 1);
        } else {
            return false;
        }
    }
    pattern.iter().skip(p).all(|byte| *byte == b'*')
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(pattern: &str, id: &str) -> bool {
        Pattern::parse(pattern).unwrap().covers(&ExecutorId::parse(id).unwrap())
    }

    #[test]
    fn a_star_stands_for_any_characters_and_nothing_else_is_special() {
        for (pattern, id) in [
            ("*", "a"),
            ("box", "box"),
            ("gpu-*", "gpu-"),
            ("gpu-*", "gpu-7"),
            ("*-7", "gpu-7"),
            ("g*-*7", "gpu-lab-77"),
            ("a*b*c", "aXbXbXc"),
            ("**", "a"),
            ("*a*a*", "aa"),
            ("a.b", "a.b"),
        ] {
            assert!(covers(pattern, id), "{pattern} {id}");
        }
        for (pattern, id) in [
            ("box", "box2"),
            ("box", "bo"),
            ("gpu-*", "gpu"),
            ("*-7", "gpu-77"),
            ("a*b*c", "aXbX"),
            ("a.b", "aXb"),
            ("*a*a*", "a"),
            ("Box", "box"),
        ] {
            assert!(!covers(pattern, id), "{pattern} {id}");
        }
    }

    #[test]
    fn a_hostile_pattern_costs_little() {
        let pattern = format!("{}b", "a*".repeat(63));
        assert!(!covers(&pattern, &"a".repeat(128)));
    }

    #[test]
    fn what_could_match_nothing_is_refused() {
        let too_long = "a".repeat(129);
        for bad in ["", "a b", "a?b", "[ab]", "a/b", "é", too_long.as_str()] {
            assert_eq!(Pattern::parse(bad), Err(InvalidPattern), "{bad}");
        }
    }
}
