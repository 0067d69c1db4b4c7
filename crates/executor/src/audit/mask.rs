//! Masks what looks like a secret in a stream of bytes, also where it is spread over several pieces. Pure.
//!
//! In flow pieces of output, out flow pieces with matches replaced, a little later: the end of what came is held back as
//! long as a match might go on there. It catches what its patterns describe, and nothing else (docs/audit.md says so).

use regex::bytes::{Regex, RegexBuilder};

use super::error::AuditError;

/// What a match is replaced with.
pub const MASK: &[u8] = b"[masked]";
/// What a line without an end is held back at most, in bytes; a longer match may be missed.
const HELD: usize = 16 * 1024;
/// How much of a longer line stays, in bytes, for a match that begins there.
const TAIL: usize = 1024;

/// What is masked without being asked for: keys of well-known services, our own tokens, bearer headers, passwords in URLs
/// and assignments, the lines of a private key.
const DEFAULTS: &[&str] = &[
    r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    r"\bgh[opusr]_[A-Za-z0-9]{36,}",
    r"\bgithub_pat_[A-Za-z0-9_]{22,}",
    r"\bglpat-[A-Za-z0-9_-]{20,}",
    r"\bxox[abprs]-[A-Za-z0-9-]{10,}",
    r"\bsk-[A-Za-z0-9_-]{20,}",
    r"\bexedra_[A-Za-z0-9_]{20,}",
    r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}",
    r"(?i)\bbearer\s+[A-Za-z0-9._~+/-]{8,}=*",
    r"://[^/\s:@]+:[^/\s:@]+@",
    r#"(?i)\b[a-z0-9_-]*(?:password|passwd|secret|api_?key|access_?key|token)["']?\s*[=:]\s*["']?[^\s"']{4,}"#,
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    r"^[A-Za-z0-9+/]{64}={0,2}\r?$",
];

/// What to mask.
#[derive(Clone, Debug)]
pub struct Patterns(Vec<Regex>);

/// Masks one stream.
#[derive(Debug)]
pub struct Masker {
    patterns: Patterns,
    held: Vec<u8>,
}

/// Output with nothing in it that matched.
#[derive(Debug, PartialEq, Eq)]
pub struct Masked {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// How many matches were replaced.
    pub count: u64,
}

impl Patterns {
    /// The usual ones, and `more`.
    ///
    /// # Errors
    /// One of `more` is no regular expression, or too large a one.
    pub fn with(more: &[String]) -> Result<Self, AuditError> {
        let build = |pattern: &str| {
            let built = RegexBuilder::new(pattern).unicode(false).multi_line(true).size_limit(1 << 20).build();
            built.map_err(|error| AuditError::Pattern(pattern.to_owned(), error.to_string()))
        };
        let all = DEFAULTS.iter().copied().chain(more.iter().map(String::as_str));
        Ok(Self(all.map(build).collect::<Result<_, _>>()?))
    }
}

impl Masker {
    /// With nothing held back.
    pub fn new(patterns: Patterns) -> Self {
        Self { patterns, held: Vec::new() }
    }

    /// More output came; what can be said of it by now comes out.
    pub fn push(&mut self, bytes: &[u8]) -> Masked {
        self.held.extend_from_slice(bytes);
        let lines = self.held.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let tail = self.held.len() - lines;
        let ready = if tail > HELD { self.held.len() - TAIL } else { lines };
        self.release(ready)
    }

    /// Nothing more will come.
    pub fn finish(&mut self) -> Masked {
        self.release(self.held.len())
    }

    /// Gives out about the first `ready` bytes: a match across that place is not cut.
    fn release(&mut self, ready: usize) -> Masked {
        let mut spans: Vec<(usize, usize)> = Vec::new();
        for pattern in &self.patterns.0 {
            spans.extend(pattern.find_iter(&self.held).map(|found| (found.start(), found.end())));
        }
        spans.sort_unstable();
        let mut end = ready;
        if ready < self.held.len() {
            end = spans
                .iter()
                .filter(|(from, to)| *from < ready && *to > ready)
                .map(|(from, _)| *from)
                .fold(ready, usize::min);
            // A match that fills all that may be held is given out as far as it came.
            if end == 0 {
                end = ready;
            }
        }
        let mut masked = Masked { bytes: Vec::with_capacity(end), count: 0 };
        let mut at = 0;
        for (from, to) in spans {
            if from >= end {
                break;
            }
            if from >= at {
                masked.bytes.extend_from_slice(self.held.get(at..from).unwrap_or_default());
                masked.bytes.extend_from_slice(MASK);
                masked.count += 1;
            }
            at = at.max(to.min(end));
        }
        masked.bytes.extend_from_slice(self.held.get(at..end).unwrap_or_default());
        self.held.drain(..end);
        masked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(pieces: &[&[u8]], more: &[&str]) -> (String, u64) {
        let more: Vec<String> = more.iter().map(|text| (*text).to_owned()).collect();
        let mut masker = Masker::new(Patterns::with(&more).unwrap());
        let (mut out, mut count) = (Vec::new(), 0);
        let mut masked: Vec<Masked> = pieces.iter().map(|piece| masker.push(piece)).collect();
        masked.push(masker.finish());
        for masked in masked {
            out.extend(masked.bytes);
            count += masked.count;
        }
        (String::from_utf8(out).unwrap(), count)
    }

    #[test]
    fn what_looks_like_a_secret_is_masked_and_counted() {
        let secrets = [
            "AKIAIOSFODNN7EXAMPLE",
            "ghp_0123456789abcdefghijABCDEFGHIJ012345",
            "Authorization: Bearer abcdefgh.12345",
            "DB_PASSWORD=hunter22",
            "api_key: \"0123456789\"",
            "postgres://user:pw12@host/db",
        ];
        for secret in secrets {
            let (text, count) = run(&[format!("a {secret} b\nplain\n").as_bytes()], &[]);
            assert_eq!(count, 1, "{secret}: {text}");
            assert!(text.starts_with("a ") && text.ends_with("b\nplain\n") && text.contains("[masked]"), "{text}");
        }
        assert_eq!(run(&[b"nothing here\n"], &[]), ("nothing here\n".to_owned(), 0));
    }

    #[test]
    fn pieces_do_not_hide_a_secret() {
        let text = b"x ghp_0123456789abcdefghijABCDEFGHIJ012345 y\nz";
        for cut in 0..text.len() {
            let (out, count) = run(&[&text[..cut], &text[cut..]], &[]);
            assert_eq!((out.as_str(), count), ("x [masked] y\nz", 1), "{cut}");
        }
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(run(&bytes, &[]).0, "x [masked] y\nz");
    }

    #[test]
    fn a_line_without_end_is_not_held_back_for_ever() {
        let mut masker = Masker::new(Patterns::with(&[]).unwrap());
        let mut out = 0;
        for _ in 0..100 {
            out += masker.push(&[b'.'; 4096]).bytes.len();
            assert!(masker.held.len() <= HELD + 4096);
        }
        assert_eq!(out + masker.finish().bytes.len(), 100 * 4096);
    }

    #[test]
    fn patterns_of_the_owner_count_too() {
        assert_eq!(run(&[b"order 4711 and 4712\n"], &["47[0-9]{2}"]), ("order [masked] and [masked]\n".to_owned(), 2));
        assert!(matches!(Patterns::with(&["(".to_owned()]), Err(AuditError::Pattern(..))));
    }
}
