//! Signals to whole trees: who belongs to a child, by ancestry and by session, as `/proc` shows it.
//!
//! In flow the numbers of children, out flow the processes that were signalled. Choosing is pure, over a snapshot; a
//! process is signalled only if it still is the one of the snapshot. Knows no table and no exit.

use std::collections::HashSet;

use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, getpid, kill_process, kill_process_group, pidfd_open, pidfd_send_signal,
    test_kill_process_group,
};

/// How often to look again for those that were forked while we signalled.
const ROUNDS: usize = 4;

/// A child that we started, as the root of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Root {
    /// Its number, which is that of its process group and session too.
    pub pid: i32,
    /// Whether it has been reaped: then its number may stand for somebody else.
    pub reaped: bool,
}

/// One line of the snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stat {
    pid: i32,
    parent: i32,
    group: i32,
    session: i32,
    zombie: bool,
    /// In clock ticks since boot; tells two holders of a number apart.
    started: u64,
}

/// Sends `signal` to each tree, once to each process. Blocks on `/proc`.
pub fn signal_trees(roots: impl Fn() -> Vec<Root>, signal: Signal) {
    for member in members(roots) {
        send(member, signal);
    }
}

/// Kills each tree, and those that are forked meanwhile. Blocks on `/proc`.
pub fn kill_trees(roots: impl Fn() -> Vec<Root>) {
    let mut seen = HashSet::new();
    for _ in 0..ROUNDS {
        let mut found = members(&roots);
        found.retain(|member| !member.zombie && seen.insert((member.pid, member.started)));
        if found.is_empty() {
            return;
        }
        for member in found {
            send(member, Signal::KILL);
        }
    }
}

/// Whether anything of the trees lives. Blocks on `/proc`.
pub fn any_alive(roots: impl Fn() -> Vec<Root>) -> bool {
    members(roots).iter().any(|member| !member.zombie)
}

/// Kills the process group of a child that has not been reaped.
pub fn kill_group(pid: i32) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = kill_process_group(pid, Signal::KILL);
    }
}

/// Whether the process group of a child has members.
pub fn group_exists(pid: i32) -> bool {
    Pid::from_raw(pid).is_some_and(|pid| !matches!(test_kill_process_group(pid), Err(Errno::SRCH)))
}

/// What belongs to the roots now. None of them is reaped between the two looks, or the snapshot could show a number in
/// the hands of its next holder.
fn members(roots: impl Fn() -> Vec<Root>) -> Vec<Stat> {
    let mut before = roots();
    loop {
        let snapshot = snapshot();
        let after = roots();
        if before == after {
            return trees(&snapshot, &after);
        }
        before = after;
    }
}

/// The members of the trees: each root that is still ours, all of its session and group, and their descendants.
///
/// While a session or group lives, no new process gets its number. So if a root was reaped and its number is in use by
/// a process, then nothing of ours is left, and the session of that number is somebody else's.
fn trees(snapshot: &[Stat], roots: &[Root]) -> Vec<Stat> {
    let taken: HashSet<i32> = snapshot.iter().map(|stat| stat.pid).collect();
    let ours: HashSet<i32> =
        roots.iter().filter(|root| !(root.reaped && taken.contains(&root.pid))).map(|root| root.pid).collect();
    let belongs = |stat: &Stat| ours.contains(&stat.pid) || ours.contains(&stat.session) || ours.contains(&stat.group);
    let mut members: HashSet<i32> = snapshot.iter().filter(|stat| belongs(stat)).map(|stat| stat.pid).collect();
    loop {
        let before = members.len();
        for stat in snapshot {
            if members.contains(&stat.parent) {
                members.insert(stat.pid);
            }
        }
        if members.len() == before {
            break;
        }
    }
    snapshot.iter().filter(|stat| members.contains(&stat.pid)).copied().collect()
}

fn send(member: Stat, signal: Signal) {
    let own = getpid().as_raw_nonzero().get();
    let Some(pid) = Pid::from_raw(member.pid).filter(|_| member.pid > 1 && member.pid != own) else { return };
    let pidfd = pidfd_open(pid, PidfdFlags::empty());
    let same = stat(member.pid).is_some_and(|now| now.started == member.started);
    if !same {
        return;
    }
    let _ = match pidfd {
        Ok(pidfd) => pidfd_send_signal(pidfd, signal),
        Err(_) => kill_process(pid, signal),
    };
}

fn snapshot() -> Vec<Stat> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pid = |entry: std::fs::DirEntry| entry.file_name().to_str()?.parse().ok();
    entries.filter_map(|entry| entry.ok().and_then(pid)).filter_map(stat).collect()
}

fn stat(pid: i32) -> Option<Stat> {
    parse(pid, &std::fs::read(format!("/proc/{pid}/stat")).ok()?)
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
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(pid: i32, parent: i32, group: i32, session: i32) -> Stat {
        Stat { pid, parent, group, session, zombie: false, started: 0 }
    }

    fn pids(snapshot: &[Stat], roots: &[Root]) -> Vec<i32> {
        trees(snapshot, roots).iter().map(|member| member.pid).collect()
    }

    #[test]
    fn a_tree_is_descent_session_and_group() {
        let snapshot = [
            stat(1, 0, 1, 1),
            stat(100, 50, 100, 100),
            stat(101, 100, 100, 100),
            stat(102, 1, 102, 100),
            stat(103, 101, 103, 103),
            stat(104, 103, 104, 104),
            stat(105, 1, 100, 7),
            stat(200, 50, 200, 200),
        ];
        assert_eq!(pids(&snapshot, &[Root { pid: 100, reaped: false }]), [100, 101, 102, 103, 104, 105]);
    }

    #[test]
    fn a_reused_number_is_not_ours() {
        let left = [stat(101, 1, 100, 100), stat(102, 101, 102, 102)];
        let root = Root { pid: 100, reaped: true };
        assert_eq!(pids(&left, &[root]), [101, 102]);
        let reused = [stat(100, 1, 100, 100), stat(101, 100, 100, 100)];
        assert!(pids(&reused, &[root]).is_empty());
    }

    #[test]
    fn names_may_hold_anything() {
        let line = b"7 (a) b (c) S 3 4 5 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 1 2 3";
        let want = Stat { pid: 7, parent: 3, group: 4, session: 5, zombie: false, started: 4242 };
        assert_eq!(parse(7, line), Some(want));
        assert_eq!(parse(7, b"7 (x) Z 3"), None);
        assert_eq!(parse(7, b""), None);
    }

    #[test]
    fn we_find_ourselves() {
        let own = getpid().as_raw_nonzero().get();
        assert!(snapshot().iter().any(|stat| stat.pid == own && stat.started > 0));
    }
}
