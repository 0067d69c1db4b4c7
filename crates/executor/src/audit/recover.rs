//! Where a log goes on that was there before, and whether it is one to go on with.
//!
//! In flow the segments and the head beside them, out flows where the next line goes, or what is wrong. Nothing is changed
//! before all was found sound; then a line that was not written whole, since the machine went down, is moved to a file of
//! its own. What is beyond [`READ_WHOLE`] is checked where its files meet, and no further: that is for `audit verify`.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::check::Checker;
use super::error::AuditError;
use super::head::{GENESIS, Head};
use super::log::{Rest, head_beside, lines_of, trailing};
use super::segments::{HEAD_FILE, numbers, segment};

/// The newest segments are read whole as long as they have no more bytes together; the newest one with lines always is.
const READ_WHOLE: u64 = 64 * 1024 * 1024;
/// The end of a file is looked at in pieces of this size, in bytes.
const PIECE: u64 = 64 * 1024;

/// Where a log goes on.
#[derive(Debug, PartialEq, Eq)]
pub struct Position {
    /// Number of the next line.
    pub next: u64,
    /// Hash of the last one.
    pub previous: String,
    /// The segment that it goes into.
    pub segment: u64,
    /// Bytes of a torn line that was moved away.
    pub torn: Option<u64>,
    /// The key that signed so far.
    pub key: Option<String>,
}

/// Checks what is in `dir`, which must be held, and finds its end.
///
/// # Errors
/// What is there is damaged, or cannot be read.
pub fn recover(dir: &Path) -> Result<Position, AuditError> {
    let numbers = numbers(dir).map_err(|source| AuditError::Io { path: dir.to_owned(), source })?;
    let head = head_beside(dir)?;
    let mut position = Position {
        next: 0,
        previous: GENESIS.to_owned(),
        segment: numbers.last().copied().unwrap_or(1),
        torn: None,
        key: head.as_ref().map(|head| head.key.clone()),
    };
    let from = whole_from(dir, &numbers)?;
    let (older, newest) = numbers.split_at(from);
    meet(dir, older, newest.first().copied())?;
    let begins = older.is_empty() && numbers.first() == Some(&1);
    let rest = read(dir, newest, begins, head.as_ref(), &mut position)?;
    match (&head, position.next) {
        (Some(head), next) if next > 0 && position.key.as_ref() != Some(&head.key) => {
            let fault = "the head beside the log is signed with another key".to_owned();
            return Err(AuditError::Damaged { path: dir.join(HEAD_FILE), fault });
        }
        (Some(head), 0) => {
            let fault = format!("all its lines are missing, the head beside them signs line {}", head.n);
            return Err(AuditError::Damaged { path: dir.join(HEAD_FILE), fault });
        }
        (None, next) if next > 0 => tracing::warn!(
            ?dir,
            "there is no head beside the audit: lines that were cut off its end would not be noticed"
        ),
        _ => {}
    }
    position.torn = rest.map(|rest| put_aside(dir, position.segment, &rest)).transpose()?;
    Ok(position)
}

/// The index of the first segment that is read whole.
fn whole_from(dir: &Path, numbers: &[u64]) -> Result<usize, AuditError> {
    let (mut from, mut bytes) = (numbers.len(), 0);
    while from > 0 {
        let path = segment(dir, numbers[from - 1]);
        let size = path.metadata().map_err(|source| AuditError::Io { path, source })?.len();
        // The one before the newest may hold the last line: the newest may be empty.
        if bytes + size > READ_WHOLE && from + 2 <= numbers.len() {
            break;
        }
        (from, bytes) = (from - 1, bytes + size);
    }
    Ok(from)
}

/// Reads `newest` whole, which begin with line 0 if `begins`; what stands after the last line.
fn read(
    dir: &Path,
    newest: &[u64],
    begins: bool,
    head: Option<&Head>,
    position: &mut Position,
) -> Result<Option<Rest>, AuditError> {
    let mut checker = Checker::new(head.cloned().into_iter().collect(), None);
    if begins {
        checker = checker.beginning_at_line_0();
    }
    let mut damaged = None;
    let rests = lines_of(dir, newest, &mut |place, line| {
        damaged = checker.take(line).err().map(|fault| AuditError::Damaged { path: place.file.clone(), fault });
        damaged.is_none()
    })?;
    if let Some(damaged) = damaged {
        return Err(damaged);
    }
    let path = segment(dir, position.segment);
    let (mut rest, mut stray) = (None, None);
    for found in rests {
        if found.place.file == path {
            rest = Some(found);
        } else {
            stray.get_or_insert(found);
        }
    }
    if let Some(stray) = stray {
        return Err(AuditError::Damaged { fault: trailing(stray.bytes.len()), path: stray.place.file });
    }
    let key = checker.key().map(str::to_owned);
    let Some((next, previous)) = checker.position() else { return Ok(rest) };
    (position.next, position.previous, position.key) = (next, previous, key.or(position.key.take()));
    checker.forget_heads_before_the_first();
    checker.finish().map_err(|fault| AuditError::Damaged { path, fault })?;
    Ok(rest)
}

/// Checks that each of `older` goes on where the one before ends, and `then` after the last.
fn meet(dir: &Path, older: &[u64], then: Option<u64>) -> Result<(), AuditError> {
    if older.is_empty() {
        return Ok(());
    }
    let mut before: Option<Vec<u8>> = None;
    for number in older.iter().copied().chain(then) {
        let path = segment(dir, number);
        let (first, last) = ends(&path).map_err(|source| AuditError::Io { path: path.clone(), source })?;
        let mut checker = Checker::default();
        if before.is_none() && number == 1 {
            checker = checker.beginning_at_line_0();
        }
        let mut check = || {
            before.iter().try_for_each(|line| checker.take(line))?;
            checker.take(&first)
        };
        check()
            .and_then(|()| checker.finish().map(drop))
            .map_err(|fault| AuditError::Damaged { path: path.clone(), fault })?;
        before = Some(last);
    }
    Ok(())
}

/// The first and the last line of a file; both empty if it has none.
fn ends(path: &Path) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let mut file = BufReader::new(File::open(path)?);
    let mut first = Vec::new();
    file.read_until(b'\n', &mut first)?;
    if first.pop() != Some(b'\n') {
        return Ok((Vec::new(), Vec::new()));
    }
    let len = file.seek(SeekFrom::End(0))?;
    let (mut from, mut tail) = (len, Vec::new());
    loop {
        let feeds = tail.iter().filter(|byte| **byte == b'\n').count();
        if from == 0 || feeds >= 2 {
            break;
        }
        from = from.saturating_sub(PIECE.max(tail.len() as u64));
        file.seek(SeekFrom::Start(from))?;
        tail.clear();
        file.by_ref().take(len - from).read_to_end(&mut tail)?;
    }
    let whole = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at);
    tail.truncate(whole);
    let begin = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    Ok((first, tail.split_off(begin)))
}

/// Moves what is no whole line to a file of its own; how many bytes it has.
fn put_aside(dir: &Path, number: u64, rest: &Rest) -> Result<u64, AuditError> {
    let path = segment(dir, number);
    let failed = |source| AuditError::Io { path: path.clone(), source };
    let aside: PathBuf = dir.join(format!("torn-{number:08}-{}", rest.at));
    let mut file =
        OpenOptions::new().mode(0o600).create(true).truncate(true).write(true).open(&aside).map_err(failed)?;
    file.write_all(&rest.bytes).and_then(|()| file.sync_all()).map_err(failed)?;
    let segment = OpenOptions::new().write(true).open(&path).map_err(failed)?;
    segment.set_len(rest.at).and_then(|()| segment.sync_all()).map_err(failed)?;
    tracing::warn!(bytes = rest.bytes.len(), file = ?aside, "the audit ends in the middle of a line: what there is of it was put aside");
    Ok(rest.bytes.len() as u64)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::audit::chain::Chain;
    use crate::audit::record::Record;

    /// Three files with two lines each.
    fn three(dir: &Path) -> Vec<Vec<u8>> {
        let mut chain = Chain::after(0, GENESIS.to_owned());
        let lines: Vec<Vec<u8>> = (0..6).map(|at| chain.append(&Record::Stopped, at, Instant::now())).collect();
        for (number, pair) in (1..).zip(lines.chunks(2)) {
            std::fs::write(segment(dir, number), [&pair[0][..], b"\n", &pair[1], b"\n"].concat()).unwrap();
        }
        lines
    }

    #[test]
    fn the_ends_of_a_file_are_found_whatever_its_size() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        for (middle, last) in [(0, 1), (10, 200_000), (300_000, 3), (PIECE as usize, PIECE as usize)] {
            let content = ["a".to_owned(), "m".repeat(middle), "z".repeat(last)].map(|line| line + "\n").concat();
            std::fs::write(&path, content).unwrap();
            assert_eq!(ends(&path).unwrap(), (b"a".to_vec(), vec![b'z'; last]), "{middle} {last}");
        }
        std::fs::write(&path, "one\n").unwrap();
        assert_eq!(ends(&path).unwrap(), (b"one".to_vec(), b"one".to_vec()));
        std::fs::write(&path, "none").unwrap();
        assert_eq!(ends(&path).unwrap(), (vec![], vec![]));
    }

    #[test]
    fn older_files_must_meet() {
        let dir = tempfile::tempdir().unwrap();
        let lines = three(dir.path());
        meet(dir.path(), &[1, 2], Some(3)).unwrap();
        meet(dir.path(), &[2], Some(3)).unwrap();
        let fault = |older: &[u64], then| meet(dir.path(), older, then).unwrap_err().to_string();
        assert!(fault(&[1], Some(3)).contains("lines 2 to 3 are missing"));
        std::fs::write(segment(dir.path(), 1), [&lines[1][..], b"\n"].concat()).unwrap();
        assert!(fault(&[1, 2], Some(3)).contains("line 0 is missing"));
        let altered = String::from_utf8(lines[3].clone()).unwrap().replace("\"at\":3", "\"at\":4");
        std::fs::write(segment(dir.path(), 2), [&lines[2][..], b"\n", altered.as_bytes(), b"\n"].concat()).unwrap();
        assert!(fault(&[2], Some(3)).contains("line 3 or the one after it was changed"));
    }
}
