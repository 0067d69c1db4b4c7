//! Checks the lines of a log one after the other: numbers, hashes, signatures. Pure.
//!
//! In flow lines and heads that were kept, out flows the first fault, with the numbers of the lines that it is about, or
//! what was found in the end. Knows no file.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::head::{GENESIS, Head, hash};

/// What a sound log holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Findings {
    /// Number of its first line; not 0 where older files were taken away.
    pub first: u64,
    /// Lines in all.
    pub lines: u64,
    /// Signed heads among them.
    pub heads: u64,
    /// Lines after the last head, which nothing signs yet.
    pub unsigned: u64,
    /// The key that signs, as hex.
    pub key: Option<String>,
    /// Heads that were kept elsewhere and found to be in the log.
    pub kept_heads: u64,
    /// Bytes of a line at the end that was not written whole.
    pub unfinished: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Checker {
    findings: Findings,
    next: Option<Next>,
    doubt: Option<u64>,
    kept: BTreeMap<u64, Vec<Head>>,
    /// The key that must sign, where one is known.
    trusted: Option<String>,
    /// Whether the first line must be line 0.
    from_0: bool,
}

#[derive(Debug)]
struct Next {
    n: u64,
    previous: String,
}

/// What every line has, and what heads have besides.
#[derive(Deserialize)]
struct Line<'a> {
    n: u64,
    at: u64,
    #[serde(borrow)]
    prev: Cow<'a, str>,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    key: Option<String>,
    sig: Option<String>,
}

impl Checker {
    /// For a log from its beginning. `kept` are heads that were kept elsewhere, `trusted` the key that must sign.
    pub fn new(kept: Vec<Head>, trusted: Option<String>) -> Self {
        let mut checker = Self { trusted, ..Self::default() };
        for head in kept {
            checker.kept.entry(head.n).or_default().push(head);
        }
        checker
    }

    /// The same for a log whose first file is there: nothing can be missing before its first line.
    #[must_use]
    pub fn beginning_at_line_0(mut self) -> Self {
        self.from_0 = true;
        self
    }

    /// The next line, without its line feed.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(), String> {
        let line: Line<'_> = match serde_json::from_slice(bytes) {
            Ok(line) => line,
            Err(cause) => return Err(format!("{} was changed: it cannot be read ({cause})", self.due())),
        };
        let hash = hash(bytes);
        match &self.next {
            None if line.n == 0 && line.prev != GENESIS => return Err("line 0 was changed".to_owned()),
            None if line.n > 0 && self.from_0 => return Err(missing(0, line.n - 1)),
            None => self.findings.first = line.n,
            Some(next) if line.n > next.n => return Err(missing(next.n, line.n - 1)),
            Some(next) if line.n < next.n => {
                return Err(format!(
                    "line {} stands where line {} was written: lines were moved or repeated",
                    line.n, next.n
                ));
            }
            Some(next) => {
                let fits = line.prev == next.previous.as_str();
                self.compare(line.n, fits)?;
            }
        }
        self.sign(&line)?;
        for head in self.kept.remove(&line.n).unwrap_or_default() {
            if head.hash != hash {
                return Err(format!("line {} was changed: it is not the one that a head kept elsewhere signs", line.n));
            }
            self.findings.kept_heads += 1;
        }
        self.findings.lines += 1;
        self.next = Some(Next { n: line.n + 1, previous: hash });
        Ok(())
    }

    /// After the last line.
    ///
    /// # Errors
    /// A doubt that no later line could settle, or lines that a head kept elsewhere knows are missing.
    pub fn finish(self) -> Result<Findings, String> {
        if let Some(doubtful) = self.doubt {
            return Err(format!("line {doubtful} or the one after it was changed"));
        }
        if let Some(last) = self.kept.keys().next_back() {
            let from = self.next.as_ref().map_or(0, |next| next.n);
            return Err(match self.kept.keys().next() {
                Some(first) if *first < self.findings.first => {
                    format!("the log begins at line {}, a head kept elsewhere signs line {first}", self.findings.first)
                }
                _ => format!("{}: the log was cut off, a head kept elsewhere signs line {last}", missing(from, *last)),
            });
        }
        Ok(self.findings)
    }

    /// Leaves kept heads of lines before the first one alone: where older files were taken away they say nothing.
    pub fn forget_heads_before_the_first(&mut self) {
        let first = self.findings.first;
        self.kept.retain(|n, _| *n >= first);
    }

    /// Takes what stands after the last line feed for the beginning of the next line, if it is one.
    ///
    /// # Errors
    /// It is not.
    pub fn unfinished(&mut self, bytes: &[u8]) -> Result<(), String> {
        let (n, previous) = self.position().unwrap_or_else(|| (0, GENESIS.to_owned()));
        let (number, link) = (format!(r#"{{"n":{n},"at":"#), format!(r#","prev":"{previous}","kind":""#));
        let begins = match bytes.strip_prefix(number.as_bytes()) {
            None => number.as_bytes().starts_with(bytes),
            Some(rest) => {
                let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
                let rest = rest.get(digits..).unwrap_or_default();
                rest.strip_prefix(link.as_bytes()).map_or_else(|| link.as_bytes().starts_with(rest), is_text)
            }
        };
        self.findings.unfinished = bytes.len() as u64;
        if begins { Ok(()) } else { Err(format!("{} bytes after the last line are no line", bytes.len())) }
    }

    /// How to go on writing after the last line: its number plus one, and its hash.
    pub fn position(&self) -> Option<(u64, String)> {
        self.next.as_ref().map(|next| (next.n, next.previous.clone()))
    }

    /// The key that signs, as far as it was seen.
    pub fn key(&self) -> Option<&str> {
        self.findings.key.as_deref()
    }

    /// A line whose `prev` does not fit was changed itself, or the one before it was: the next line tells.
    fn compare(&mut self, n: u64, fits: bool) -> Result<(), String> {
        match (self.doubt, fits) {
            (None, true) => Ok(()),
            (None, false) => {
                self.doubt = Some(n - 1);
                Ok(())
            }
            (Some(doubtful), true) => Err(format!("line {doubtful} was changed")),
            (Some(doubtful), false) => Err(format!("line {} was changed", doubtful + 1)),
        }
    }

    fn sign(&mut self, line: &Line<'_>) -> Result<(), String> {
        if !matches!(line.kind.as_ref(), "head" | "opened") {
            self.findings.unsigned += 1;
            return Ok(());
        }
        let Some(key) = &line.key else { return Err(format!("line {} was changed: it names no key", line.n)) };
        let expected = self.trusted.as_ref().or(self.findings.key.as_ref());
        if let Some(expected) = expected.filter(|expected| *expected != key) {
            return Err(format!("line {} is signed with the key {key}, expected is {expected}", line.n));
        }
        self.findings.key = Some(key.clone());
        if line.kind == "opened" {
            self.findings.unsigned += 1;
            return Ok(());
        }
        let sig = line.sig.clone().unwrap_or_default();
        let head =
            Head { n: line.n.saturating_sub(1), hash: line.prev.to_string(), at: line.at, key: key.clone(), sig };
        if !head.is_genuine() {
            return Err(format!("line {} was changed: its signature is not genuine", line.n));
        }
        // In doubt, what is signed is not what stands there.
        if self.doubt.is_none() {
            (self.findings.heads, self.findings.unsigned) = (self.findings.heads + 1, 0);
        }
        Ok(())
    }

    fn due(&self) -> String {
        self.next.as_ref().map_or_else(|| "the first line".to_owned(), |next| format!("line {}", next.n))
    }
}

/// Whether it can be of a line: UTF-8, which may end within a character, and no control characters.
fn is_text(bytes: &[u8]) -> bool {
    let whole = match std::str::from_utf8(bytes) {
        Ok(_) => true,
        Err(error) => error.error_len().is_none(),
    };
    whole && bytes.iter().all(|byte| *byte >= b' ')
}

fn missing(first: u64, last: u64) -> String {
    if first == last { format!("line {first} is missing") } else { format!("lines {first} to {last} are missing") }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::audit::chain::Chain;
    use crate::audit::record::{FORMAT, Record};
    use crate::identity::Identity;

    struct Log {
        lines: Vec<Vec<u8>>,
        heads: Vec<Head>,
    }

    /// `count` lines with a head after each ten.
    fn log(count: usize) -> Log {
        let (identity, now) = (Identity::from_seed(&[9; 32]).unwrap(), Instant::now());
        let mut chain = Chain::after(0, GENESIS.to_owned());
        let key = identity.public_key();
        let opened = Record::Opened { format: FORMAT, version: "1", key, pid: 1, torn: None };
        let mut log = Log { lines: vec![chain.append(&opened, 0, now)], heads: Vec::new() };
        while log.lines.len() < count {
            if log.lines.len() % 10 == 9 {
                let (head, line) = chain.sign(&identity, 5, now);
                log.heads.push(head);
                log.lines.push(line);
            } else {
                log.lines.push(chain.append(&Record::Stopped, 3, now));
            }
        }
        log
    }

    fn check(lines: &[Vec<u8>], kept: Vec<Head>) -> Result<Findings, String> {
        let mut checker = Checker::new(kept, None);
        lines.iter().try_for_each(|line| checker.take(line))?;
        checker.finish()
    }

    #[test]
    fn a_sound_log_is_found_sound() {
        let log = log(25);
        let findings = check(&log.lines, log.heads.clone()).unwrap();
        assert_eq!((findings.lines, findings.heads, findings.unsigned, findings.kept_heads), (25, 2, 5, 2));
        assert_eq!(check(&log.lines[7..], vec![]).unwrap().first, 7);
    }

    #[test]
    fn every_single_change_is_found_and_placed() {
        let log = log(25);
        for at in 0..24 {
            let mut lines = log.lines.clone();
            let text = String::from_utf8(lines[at].clone()).unwrap();
            for (from, to) in
                [("\"at\":", "\"at\":9"), ("\"prev\":\"", "\"prev\":\"f"), ("\"kind\":\"", "\"kind\":\"x")]
            {
                lines[at] = text.replacen(from, to, 1).into_bytes();
                let fault = check(&lines, vec![]).unwrap_err();
                let near = [at.saturating_sub(1), at].map(|n| format!("line {n}"));
                assert!(near.iter().any(|near| fault.contains(near)), "{at}: {fault}");
            }
            lines[at] = b"{".to_vec();
            assert!(check(&lines, vec![]).is_err());
            let mut lines = log.lines.clone();
            lines.remove(at);
            if at > 0 {
                assert_eq!(check(&lines, vec![]).unwrap_err(), format!("line {at} is missing"));
            }
            let mut lines = log.lines.clone();
            lines.swap(at, at + 1);
            assert!(check(&lines, vec![]).is_err(), "{at}");
        }
        let mut lines = log.lines.clone();
        lines[3] = String::from_utf8(lines[3].clone()).unwrap().replace("stopped", "stoqqed").into_bytes();
        assert_eq!(check(&lines, vec![]).unwrap_err(), "line 3 was changed");
    }

    #[test]
    fn a_cut_tail_is_found_up_to_the_last_head_kept() {
        let log = log(25);
        let kept = log.heads[1].clone();
        assert_eq!(kept.n, 18);
        assert!(check(&log.lines[..20], vec![kept.clone()]).is_ok());
        let fault = check(&log.lines[..15], vec![kept.clone()]).unwrap_err();
        assert_eq!(fault, "lines 15 to 18 are missing: the log was cut off, a head kept elsewhere signs line 18");
        assert!(check(&log.lines[..15], vec![]).is_ok());
        assert!(check(&[], vec![kept]).is_err());
    }

    #[test]
    fn only_the_beginning_of_the_next_line_may_stand_at_the_end() {
        let log = log(25);
        let mut checker = Checker::new(vec![], None).beginning_at_line_0();
        log.lines[..24].iter().for_each(|line| checker.take(line).unwrap());
        let next = &log.lines[24];
        for len in 1..=next.len() {
            checker.unfinished(&next[..len]).unwrap();
        }
        let mut split = next[..next.len() - 2].to_vec();
        split.extend(&"\u{e9}".as_bytes()[..1]);
        checker.unfinished(&split).unwrap();
        let mut control = split.clone();
        control.push(0);
        for wrong in [&[0; 7][..], b"garbage", &log.lines[23], &log.lines[0], &control, b"{\"n\":24,\"at\":x"] {
            let fault = checker.unfinished(wrong).unwrap_err();
            assert_eq!(fault, format!("{} bytes after the last line are no line", wrong.len()));
        }
    }

    #[test]
    fn where_the_first_file_is_there_nothing_may_be_missing_before_it() {
        let log = log(25);
        assert_eq!(
            Checker::default().beginning_at_line_0().take(&log.lines[3]).unwrap_err(),
            "lines 0 to 2 are missing"
        );
        assert!(Checker::default().take(&log.lines[3]).is_ok());
    }

    #[test]
    fn a_log_written_anew_with_another_key_is_found() {
        let (log, other) = (log(25), Identity::from_seed(&[8; 32]).unwrap());
        let mut checker = Checker::new(vec![], Some(other.public_key()));
        assert!(checker.take(&log.lines[0]).unwrap_err().contains("expected is"));
        // A head that somebody else signs.
        let mut lines = log.lines[..12].to_vec();
        let mut chain = Chain::after(12, hash(&lines[11]));
        lines.push(chain.sign(&other, 1, Instant::now()).1);
        assert!(check(&lines, vec![]).unwrap_err().contains("line 12 is signed with the key"));
    }
}
