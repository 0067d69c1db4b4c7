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

/// The longest line that is read, in bytes, twice the largest message of a client; anything longer is no line of ours.
const MAX_LINE: usize = 128 * 1024 * 1024;

/// Where something stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The segment.
    pub file: PathBuf,
    /// Its row, from 1.
    pub row: u64,
}

/// What stands after the last line feed of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rest {
    /// Where.
    pub place: Place,
    /// Behind so many bytes of the file.
    pub at: u64,
    /// What.
    pub bytes: Vec<u8>,
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
    match head_beside(dir) {
        Ok(head) => kept.extend(head),
        Err(AuditError::Damaged { path, fault }) => {
            return Ok(Verdict::Faulty { fault, place: Some(Place { file: path, row: 1 }) });
        }
        Err(error) => return Err(error),
    }
    let key = key.or_else(|| kept.first().map(|head| head.key.clone()));
    let numbers = some_numbers(dir)?;
    let mut checker = Checker::new(kept, key);
    if numbers.first() == Some(&1) {
        checker = checker.beginning_at_line_0();
    }
    let mut faulty = None;
    let rests = lines_of(dir, &numbers, &mut |place, line| {
        let taken = checker.take(line);
        faulty = taken.err().map(|fault| Verdict::Faulty { fault, place: Some(place.clone()) });
        faulty.is_none()
    })?;
    if let Some(faulty) = faulty {
        return Ok(faulty);
    }
    let newest = numbers.last().map(|number| segment(dir, *number));
    for rest in rests {
        let taken = match newest.as_ref() == Some(&rest.place.file) {
            true => checker.unfinished(&rest.bytes),
            false => Err(trailing(rest.bytes.len())),
        };
        if let Err(fault) = taken {
            return Ok(Verdict::Faulty { fault, place: Some(rest.place) });
        }
    }
    Ok(match checker.finish() {
        Ok(findings) => Verdict::Sound(findings),
        Err(fault) => Verdict::Faulty { fault, place: None },
    })
}

/// The head beside the log in `dir`, if there is one.
///
/// # Errors
/// It cannot be read, or is not genuine.
pub fn head_beside(dir: &Path) -> Result<Option<Head>, AuditError> {
    let path = dir.join(HEAD_FILE);
    match read_head(&path) {
        Ok(head) if head.is_genuine() => Ok(Some(head)),
        Err(AuditError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(AuditError::Io { path, source }) if source.kind() != std::io::ErrorKind::InvalidData => {
            Err(AuditError::Io { path, source })
        }
        _ => Err(AuditError::Damaged { path, fault: "the head beside the log was changed".to_owned() }),
    }
}

/// The fault of a segment that another one follows, and that has `bytes` after its last line.
pub fn trailing(bytes: usize) -> String {
    format!("{bytes} bytes after the last line of a file that is not the newest: it was changed")
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
    lines_of(dir, &some_numbers(dir)?, take).map(drop)
}

/// The same for the segments of these `numbers`; what each has after its last line feed.
///
/// # Errors
/// They cannot be read.
pub fn lines_of(
    dir: &Path,
    numbers: &[u64],
    take: &mut dyn FnMut(&Place, &[u8]) -> bool,
) -> Result<Vec<Rest>, AuditError> {
    let mut rests = Vec::new();
    for number in numbers {
        let path = segment(dir, *number);
        let failed = |source| AuditError::Io { path: path.clone(), source };
        let mut reader = BufReader::with_capacity(1 << 20, File::open(&path).map_err(failed)?);
        let mut place = Place { file: path.clone(), row: 0 };
        let (mut line, mut at) = (Vec::new(), 0);
        loop {
            line.clear();
            let read =
                std::io::Read::take(&mut reader, MAX_LINE as u64).read_until(b'\n', &mut line).map_err(failed)?;
            place.row += 1;
            match line.strip_suffix(b"\n") {
                Some(whole) => {
                    at += read as u64;
                    if !take(&place, whole) {
                        return Ok(rests);
                    }
                }
                None if read >= MAX_LINE => {
                    return Err(AuditError::Damaged { path, fault: format!("row {} is no line of a log", place.row) });
                }
                None if read == 0 => break,
                None => {
                    rests.push(Rest { place, at, bytes: line });
                    break;
                }
            }
        }
    }
    Ok(rests)
}

/// The numbers of the segments in `dir`.
fn some_numbers(dir: &Path) -> Result<Vec<u64>, AuditError> {
    let numbers = numbers(dir).map_err(|source| AuditError::Io { path: dir.to_owned(), source })?;
    if numbers.is_empty() {
        let source = std::io::Error::new(std::io::ErrorKind::NotFound, "there is no log in it");
        return Err(AuditError::Io { path: dir.to_owned(), source });
    }
    Ok(numbers)
}
