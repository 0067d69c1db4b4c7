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
/// and assignments, and full lines of a private key whose beginning was not seen.
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
    r"^[A-Za-z0-9+/]{64}={0,2}\r?$",
];

/// Where a private key begins and ends, all encodings of RFC 7468 and OpenSSH's.
const KEY_BEGINS: &str = r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----";
const KEY_ENDS: &str = r"-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----";
/// Lines within that are no base64 (RFC 1421, OpenPGP).
const KEY_HEADERS: &[&[u8]] = &[b"Proc-Type:", b"DEK-Info:", b"Version:", b"Comment:"];

/// What to mask.
#[derive(Clone, Debug)]
pub struct Patterns {
    all: Vec<Regex>,
    key_begins: Regex,
    key_ends: Regex,
}

/// Masks one stream.
#[derive(Debug)]
pub struct Masker {
    patterns: Patterns,
    held: Vec<u8>,
    /// What is held begins within a private key.
    in_key: bool,
}

/// What is to be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Span {
    from: usize,
    to: usize,
    /// It is to be counted; of two at one place, the one that is not comes first.
    is_new: bool,
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
        Ok(Self {
            all: all.map(build).collect::<Result<_, _>>()?,
            key_begins: build(KEY_BEGINS)?,
            key_ends: build(KEY_ENDS)?,
        })
    }

    /// The private keys in `bytes`, line by line, and where each line ends with whether that is within one.
    fn keys(&self, bytes: &[u8], mut in_key: bool) -> (Vec<Span>, Vec<(usize, bool)>) {
        let (mut spans, mut lines, mut start) = (Vec::new(), Vec::new(), 0);
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let text = line.trim_ascii_end();
            let mut at = 0;
            if in_key {
                let end = self.key_ends.find(text).map(|found| found.end());
                in_key = end.is_none() && is_of_key(text);
                let to = end.unwrap_or(if in_key { text.len() } else { 0 });
                if to > 0 {
                    spans.push(Span { from: start, to: start + to, is_new: false });
                }
                at = to;
            }
            while !in_key && let Some(begin) = self.key_begins.find_at(text, at) {
                let end = self.key_ends.find_at(text, begin.end()).map(|found| found.end());
                in_key = end.is_none();
                at = end.unwrap_or(text.len());
                spans.push(Span { from: start + begin.start(), to: start + at, is_new: true });
            }
            start += line.len();
            lines.push((start, in_key));
        }
        (spans, lines)
    }
}

impl Masker {
    /// With nothing held back.
    pub fn new(patterns: Patterns) -> Self {
        Self { patterns, held: Vec::new(), in_key: false }
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
        let (mut spans, lines) = self.patterns.keys(&self.held, self.in_key);
        for pattern in &self.patterns.all {
            let found = pattern.find_iter(&self.held);
            spans.extend(found.map(|found| Span { from: found.start(), to: found.end(), is_new: true }));
        }
        spans.sort_unstable();
        let mut end = ready;
        if ready < self.held.len() {
            end = spans
                .iter()
                .filter(|span| span.from < ready && span.to > ready)
                .map(|span| span.from)
                .fold(ready, usize::min);
            // A match that fills all that may be held is given out as far as it came.
            if end == 0 {
                end = ready;
            }
        }
        let mut masked = Masked { bytes: Vec::with_capacity(end), count: 0 };
        let mut at = 0;
        for Span { from, to, is_new } in spans {
            if from >= end {
                break;
            }
            if from >= at {
                masked.bytes.extend_from_slice(self.held.get(at..from).unwrap_or_default());
                masked.bytes.extend_from_slice(MASK);
                masked.count += u64::from(is_new);
            }
            at = at.max(to.min(end));
        }
        masked.bytes.extend_from_slice(self.held.get(at..end).unwrap_or_default());
        // In the midst of a line, it is what that line comes to.
        let at = lines.iter().find(|(line_end, _)| *line_end >= end).filter(|_| end > 0);
        self.in_key = at.map_or(self.in_key, |(_, in_key)| *in_key);
        self.held.drain(..end);
        masked
    }
}

/// Whether a line may be part of a private key.
fn is_of_key(line: &[u8]) -> bool {
    let text = line.trim_ascii();
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=".contains(byte);
    text.iter().all(is_base64) || KEY_HEADERS.iter().any(|header| text.starts_with(header))
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
    fn a_private_key_is_masked_from_its_beginning_to_its_end() {
        let key = |kind: &str, width: usize| {
            let body: String = (0..7 * width + 5).map(|at| char::from(b'a' + (at % 26) as u8)).collect();
            let lines: Vec<&str> =
                body.as_bytes().chunks(width).map(|line| std::str::from_utf8(line).unwrap()).collect();
            format!("-----BEGIN {kind}PRIVATE KEY-----\n{}\n-----END {kind}PRIVATE KEY-----", lines.join("\n"))
        };
        for (kind, width) in [("", 64), ("RSA ", 64), ("OPENSSH ", 70), ("EC ", 76)] {
            let text = format!("before\n{}\nafter is shown\n", key(kind, width));
            for size in [1, 7, 64, text.len()] {
                let pieces: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
                let (out, count) = run(&pieces, &[]);
                let shown: Vec<&str> = out.lines().filter(|line| *line != "[masked]").collect();
                assert_eq!((shown, count), (vec!["before", "after is shown"], 1), "{kind}{size}");
            }
        }
        let encrypted = key("RSA ", 64).replacen('\n', "\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n", 1);
        assert!(!run(&[encrypted.as_bytes()], &[]).0.contains("DEK"));
        let json = format!("{{\"key\": \"{}\\n\", \"more\": 1}}\n", key("", 64).replace('\n', "\\n"));
        assert_eq!(run(&[json.as_bytes()], &[]), ("{\"key\": \"[masked]\\n\", \"more\": 1}\n".to_owned(), 1));
        let none = "-----BEGIN PRIVATE KEY-----\nnothing of a key follows\nshown\n";
        assert_eq!(run(&[none.as_bytes()], &[]).0, "[masked]\nnothing of a key follows\nshown\n");
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
