//! The chain: numbers lines, gives each the hash of the one before, and says when a head is due. Pure.
//!
//! In flow records and times, out flow lines and heads. Knows no file and no clock.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::head::{Head, hash};
use super::record::Record;
use crate::identity::Identity;

/// A head is due after as many lines.
pub const HEAD_LINES: u64 = 64;
/// A head is due when the oldest line without one is this old.
pub const HEAD_AGE: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    next: u64,
    previous: String,
    unsigned: u64,
    unsigned_since: Option<Instant>,
}

#[derive(Serialize)]
struct Line<'a> {
    n: u64,
    at: u64,
    prev: &'a str,
    #[serde(flatten)]
    record: &'a Record,
}

impl Chain {
    /// After `next` lines, the last of which has the hash `previous` ([`super::head::GENESIS`] if there is none); they are
    /// taken for signed.
    pub fn after(next: u64, previous: String) -> Self {
        Self { next, previous, unsigned: 0, unsigned_since: None }
    }

    /// The line for `record`, without its line feed. `at` is in milliseconds since 1970.
    pub fn append(&mut self, record: &Record, at: u64, now: Instant) -> Vec<u8> {
        if !matches!(record, Record::Head { .. }) {
            self.unsigned += 1;
            self.unsigned_since.get_or_insert(now);
        }
        let line = Line { n: self.next, at, prev: &self.previous, record };
        // Texts, numbers and maps with text for keys: encoding them cannot fail.
        let line = serde_json::to_vec(&line).unwrap_or_default();
        self.previous = hash(&line);
        self.next += 1;
        line
    }

    /// When a head is due; none while every line has one.
    pub fn head_due(&self) -> Option<Instant> {
        let since = self.unsigned_since?;
        Some(if self.unsigned >= HEAD_LINES { since } else { since + HEAD_AGE })
    }

    /// The head of all lines so far, and the line that says so, to be written next.
    pub fn sign(&mut self, identity: &Identity, at: u64, now: Instant) -> (Head, Vec<u8>) {
        let head = Head::sign(identity, self.next.saturating_sub(1), &self.previous, at);
        let line = self.append(&Record::Head { key: head.key.clone(), sig: head.sig.clone() }, at, now);
        (self.unsigned, self.unsigned_since) = (0, None);
        (head, line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::head::GENESIS;

    #[test]
    fn lines_are_numbered_and_chained() {
        let now = Instant::now();
        let mut chain = Chain::after(0, GENESIS.to_owned());
        let first = chain.append(&Record::Stopped, 7, now);
        let expected = format!(r#"{{"n":0,"at":7,"prev":"{GENESIS}","kind":"stopped"}}"#);
        assert_eq!(String::from_utf8(first.clone()).unwrap(), expected);
        let second = String::from_utf8(chain.append(&Record::Stopped, 8, now)).unwrap();
        assert!(second.starts_with(&format!(r#"{{"n":1,"at":8,"prev":"{}","#, hash(&first))), "{second}");
    }

    #[test]
    fn a_head_is_due_after_64_lines_or_10_seconds() {
        let identity = Identity::from_seed(&[3; 32]).unwrap();
        let now = Instant::now();
        let mut chain = Chain::after(0, GENESIS.to_owned());
        assert_eq!(chain.head_due(), None);
        chain.append(&Record::Stopped, 0, now);
        assert_eq!(chain.head_due(), Some(now + HEAD_AGE));
        for _ in 1..HEAD_LINES {
            chain.append(&Record::Stopped, 0, now + Duration::from_secs(1));
        }
        assert_eq!(chain.head_due(), Some(now));
        let (head, line) = chain.sign(&identity, 5, now);
        assert_eq!((head.n, head.is_genuine()), (HEAD_LINES - 1, true));
        assert!(line.starts_with(format!(r#"{{"n":64,"at":5,"prev":"{}""#, head.hash).as_bytes()));
        assert_eq!(chain.head_due(), None);
        for altered in
            [Head { n: 1, ..head.clone() }, Head { at: 6, ..head.clone() }, Head { key: "00".into(), ..head }]
        {
            assert!(!altered.is_genuine());
        }
    }
}
