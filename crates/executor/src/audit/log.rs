//! Reads a log that somebody wrote: verifies it as a whole, or hands out its lines.
//!
//! In flows a directory, and heads and keys that were kept elsewhere, out flow findings or the first fault and where it
//! is. It changes nothing, and may run while the executor writes.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use super::check::{Checker, Findings};
use super::error::AuditError;
use super::head::Head;
use super::segments::{HEAD_FILE, numbers, segment};

/// The longest line that is read, in bytes; anything longer is no line of ours.
const MAX_LINE: usize = 64 * 1024 * 1024;

/// Where something stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The segment.
    pub file: PathBuf,
    /// Its row, from 1.
    pub row: u64,
}

/// What the verification of a log came to.
#[derive(Debug)]
pub enum Verdict {
    /// All is as it was written.
    Sound(Findings),
    /// It is not.
    Faulty {
        /// What is wrong.
        fault: String,
        /// Where it was noticed; none for what is missing at the end.
        place: Option<Place>,
    },
}

/// Verifies the log in `dir`: all its lines, the head beside them, `heads` that were kept elsewhere. `key` must have
/// signed it, where one is given.
///
/// # Errors
/// It cannot be read.
pub fn verify(dir: &Path, heads: Vec<Head>, key: Option<String>) -> Result<Verdict, AuditError> {
    let mut kept = heads;
    if let Some(foreign) = kept.iter().find(|head| !head.is_genuine()) {
        let fault = format!("the head that was kept of line {} is not genuine", foreign.n);
        return Ok(Verdict::Faulty { fault, place: None });
    }
    // Before the lines: a writer at work may add some meanwhile.
    let beside = dir.join(HEAD_FILE);
    if beside.exists() {
        match read_head(&beside) {
            Ok(head) if head.is_genuine() => kept.push(head),
            _ => {
                let place = Some(Place { file: beside, row: 1 });
                return Ok(Verdict::Faulty { fault: "the head beside the log was changed".to_owned(), place });
            }
        }
    }
    let key = key.or_else(|| kept.first().map(|head| head.key.clone()));
    let mut checker = Checker::new(kept, key);
    let mut faulty = None;
    each_line(dir, &mut |place, line| {
        let taken = checker.take(line);
        faulty = taken.err().map(|fault| Verdict::Faulty { fault, place: Some(place.clone()) });
        faulty.is_none()
    })?;
    Ok(faulty.unwrap_or_else(|| match checker.finish() {
        Ok(findings) => Verdict::Sound(findings),
        Err(fault) => Verdict::Faulty { fault, place: None },
    }))
}

/// A head that was kept in a file.
///
/// # Errors
/// It cannot be read, or is none.
pub fn read_head(path: &Path) -> Result<Head, AuditError> {
    let failed = |source| AuditError::Io { path: path.to_owned(), source };
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let damaged = |cause: serde_json::Error| AuditError::Damaged { path: path.to_owned(), fault: cause.to_string() };
    serde_json::from_str(text.trim()).map_err(damaged)
}

/// Hands out the lines of all segments in order, without their line feeds, until `take` says false. What the last one
/// has after its last line feed is not a line yet.
///
/// # Errors
/// They cannot be read.
pub fn each_line(dir: &Path, take: &mut dyn FnMut(&Place, &[u8]) -> bool) -> Result<(), AuditError> {
    let numbers = numbers(dir).map_err(|source| AuditError::Io { path: dir.to_owned(), source })?;
    if numbers.is_empty() {
        let source = std::io::Error::new(std::io::ErrorKind::NotFound, "there is no log in it");
        return Err(AuditError::Io { path: dir.to_owned(), source });
    }
    for number in numbers {
        let path = segment(dir, number);
        let failed = |source| AuditError::Io { path: path.clone(), source };
        let mut reader = BufReader::with_capacity(1 << 20, File::open(&path).map_err(failed)?);
        let mut place = Place { file: path.clone(), row: 0 };
        let mut line = Vec::new();
        loop {
            line.clear();
            let read =
                std::io::Read::take(&mut reader, MAX_LINE as u64).read_until(b'\n', &mut line).map_err(failed)?;
            place.row += 1;
            match line.strip_suffix(b"\n") {
                Some(whole) => {
                    if !take(&place, whole) {
                        return Ok(());
                    }
                }
                None if read >= MAX_LINE => {
                    return Err(AuditError::Damaged { path, fault: format!("row {} is no line of a log", place.row) });
                }
                None => break,
            }
        }
    }
    Ok(())
}
