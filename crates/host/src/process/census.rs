//! Who is there: the processes of this machine as `/proc` shows them.
//!
//! In flow numbers, out flow what is on record of each. Knows no table, chooses nobody and signals nobody.

use rustix::process::{Resource, getpid, getrlimit};

use super::mark::{Maker, Mark};

/// What is on record of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stat {
    /// Its number.
    pub pid: i32,
    /// Who reaps it.
    pub parent: i32,
    /// Its process group.
    pub group: i32,
    /// Its session.
    pub session: i32,
    /// Whether it has ended.
    pub zombie: bool,
    /// In clock ticks since boot; tells two holders of a number apart.
    pub started: u64,
    /// What it inherited, where that was asked for.
    pub mark: Option<Mark>,
}

/// The numbers of everybody, as they are found.
pub fn numbers() -> impl Iterator<Item = i32> {
    let pid = |entry: std::fs::DirEntry| entry.file_name().to_str()?.parse().ok();
    std::fs::read_dir("/proc").into_iter().flatten().filter_map(move |entry| entry.ok().and_then(pid))
}

/// Everybody; the marks of those who live too, if `marks`.
pub fn snapshot(marks: bool) -> Vec<Stat> {
    let with_mark = |mut stat: Stat| {
        // Our children begin sessions; only threads of the kernel, and who is from outside of our PID namespace, show none.
        if marks && !stat.zombie && stat.session != 0 {
            stat.mark = mark_of(stat.pid).ok().flatten();
        }
        stat
    };
    numbers().filter_map(stat).map(with_mark).collect()
}

/// One of them, without its mark.
pub fn stat(pid: i32) -> Option<Stat> {
    parse(pid, &std::fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// The mark of one of them, zombies included.
///
/// # Errors
/// There is no such process, or the system does not show it.
pub fn mark_of(pid: i32) -> std::io::Result<Option<Mark>> {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits"))?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max realtime timeout"));
    let soft = line.ok_or(std::io::ErrorKind::Unsupported)?.split_ascii_whitespace().next();
    Ok(soft.and_then(|soft| soft.parse().ok()).and_then(Mark::from_limit))
}

/// Who we are where marks are given; none if the limit is in use here, or the system does not show it.
pub fn maker() -> Option<Maker> {
    let limit = getrlimit(Resource::Rttime);
    let pid = getpid().as_raw_nonzero().get();
    mark_of(pid).ok()?;
    let usable = limit.maximum.is_none() && Mark::may_replace(limit.current);
    usable.then(|| Maker::new(pid, stat(pid)?.started)).flatten()
}

/// `pid (name) state ppid pgrp session … starttime …`; the name may hold anything, parentheses included.
fn parse(pid: i32, line: &[u8]) -> Option<Stat> {
    let after_name = line.iter().rposition(|byte| *byte == b')')? + 1;
    let fields: Vec<&str> = std::str::from_utf8(&line[after_name..]).ok()?.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<i32>().ok();
    Some(Stat {
        pid,
        parent: number(1)?,
        group: number(2)?,
        session: number(3)?,
        zombie: matches!(*fields.first()?, "Z" | "X"),
        started: fields.get(19)?.parse().ok()?,
        mark: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_hold_anything() {
        let line = b"7 (a) b (c) S 3 4 5 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 1 2 3";
        let want = Stat { pid: 7, parent: 3, group: 4, session: 5, zombie: false, started: 4242, mark: None };
        assert_eq!(parse(7, line), Some(want));
        assert_eq!(parse(7, b"7 (x) Z 3"), None);
        assert_eq!(parse(7, b""), None);
    }

    #[test]
    fn we_find_ourselves() {
        let own = std::process::id() as i32;
        assert!(snapshot(true).iter().any(|stat| stat.pid == own && stat.started > 0));
        assert!(mark_of(own).is_ok());
        assert!(mark_of(-1).is_err());
    }
}
