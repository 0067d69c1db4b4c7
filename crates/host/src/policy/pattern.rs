//! Patterns over one text: `*` is any text, `?` one character, everything else itself.

/// A pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// From its text; every text is one.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether only one text fits.
    pub fn is_exact(&self) -> bool {
        !self.0.contains(['*', '?'])
    }

    /// Whether all of `text` fits.
    pub fn fits(&self, text: &str) -> bool {
        let (pattern, text): (Vec<char>, Vec<char>) = (self.0.chars().collect(), text.chars().collect());
        let (mut p, mut t) = (0, 0);
        let mut star: Option<(usize, usize)> = None;
        while t < text.len() {
            match pattern.get(p) {
                Some('*') => {
                    star = Some((p, t));
                    p += 1;
                }
                Some(c) if *c == '?' || *c == text[t] => {
                    p += 1;
                    t += 1;
                }
                _ => {
                    let Some((at, taken)) = star else { return false };
                    star = Some((at, taken + 1));
                    p = at + 1;
                    t = taken + 1;
                }
            }
        }
        pattern[p..].iter().all(|c| *c == '*')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits() {
        let fits = |pattern: &str, text: &str| Pattern::new(pattern).fits(text);
        for (pattern, text) in
            [("", ""), ("*", ""), ("a*c", "abbc"), ("?b?", "xby"), ("a*b*c", "a1b2b3c"), ("ä?", "äö")]
        {
            assert!(fits(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("", "x"), ("?", ""), ("a", "A"), ("a*c", "abd"), ("*a", "ab"), ("[a]", "a")] {
            assert!(!fits(pattern, text), "{pattern} {text}");
        }
        assert!(Pattern::new("a").is_exact() && !Pattern::new("a*").is_exact());
    }
}
