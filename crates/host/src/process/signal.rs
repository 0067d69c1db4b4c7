//! Signals to whole trees: who belongs to a child, by mark, ancestry, session and group.
//!
//! In flow the numbers of children and the marks they carry, out flow the processes that were signalled. Choosing is pure,
//! over a snapshot; a process is signalled only if it still is the one of the snapshot. Knows no table and no exit.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, getpid, kill_process, kill_process_group, pidfd_open, pidfd_send_signal,
    test_kill_process_group,
};

use super::census::{self, Stat};
use super::mark::Given;

/// How long to look again for those that were forked while we killed. Whoever has been killed forks no more, so that it is
/// over when a look finds nobody new.
const LONGEST: Duration = Duration::from_secs(30);

/// A child that we started, as the root of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Root {
    /// Its number, which is that of its process group and session too.
    pub pid: i32,
    /// Whether it has been reaped: then its number may stand for somebody else.
    pub reaped: bool,
}

/// Whose trees are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kin {
    /// The children that we started.
    pub roots: Vec<Root>,
    /// What they and their descendants carry.
    pub marks: Given,
}

/// Sends `signal` to each tree, once to each process. Blocks on `/proc`.
pub fn signal_trees(kin: impl Fn() -> Kin, signal: Signal) {
    for member in members(kin) {
        send(member, signal);
    }
}

/// Kills each tree, and those that are forked meanwhile. Blocks on `/proc`.
pub fn kill_trees(kin: impl Fn() -> Kin) {
    let mut seen = HashSet::new();
    let began = Instant::now();
    while began.elapsed() < LONGEST {
        kill_marked(&kin().marks);
        let mut found = members(&kin);
        found.retain(|member| !member.zombie && seen.insert((member.pid, member.started)));
        if found.is_empty() {
            return;
        }
        for member in found {
            send(member, Signal::KILL);
        }
    }
}

/// Kills whoever has one of `marks`, each as soon as it is seen: where many fork fast, those that are seen last are children
/// of those seen first, and a look at all of them before the first signal would always come too late.
fn kill_marked(marks: &Given) {
    if marks.is_empty() {
        return;
    }
    for pid in census::numbers() {
        let Some(number) = Pid::from_raw(pid) else { continue };
        // Held before the look, it means whom we look at.
        let Ok(pidfd) = pidfd_open(number, PidfdFlags::empty()) else { continue };
        if matches!(census::mark_of(pid), Ok(Some(mark)) if marks.contains(mark)) {
            let _ = pidfd_send_signal(pidfd, Signal::KILL);
        }
    }
}

/// Whether anything of the trees lives. Blocks on `/proc`.
pub fn any_alive(kin: impl Fn() -> Kin) -> bool {
    members(kin).iter().any(|member| !member.zombie)
}

/// Kills the process group of a child that has not been reaped.
pub fn kill_group(pid: i32) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = kill_process_group(pid, Signal::KILL);
    }
}

/// Sends SIGINT to the process group of a child that has not been reaped.
pub fn interrupt_group(pid: i32) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = kill_process_group(pid, Signal::INT);
    }
}

/// Whether the process group of a child has members.
pub fn group_exists(pid: i32) -> bool {
    Pid::from_raw(pid).is_some_and(|pid| !matches!(test_kill_process_group(pid), Err(Errno::SRCH)))
}

/// What belongs to the roots now. None of them is reaped between the two looks, or the snapshot could show a number in
/// the hands of its next holder.
fn members(kin: impl Fn() -> Kin) -> Vec<Stat> {
    let mut before = kin();
    loop {
        let snapshot = census::snapshot(!before.marks.is_empty());
        let after = kin();
        if before == after {
            return trees(&snapshot, &after);
        }
        before = after;
    }
}

/// The members of the trees: whoever has a mark, each root that is still ours, all of its session and group, and their
/// descendants.
///
/// While a session or group lives, no new process gets its number. So if a root was reaped and its number is in use by
/// a process, then nothing of ours is left, and the session of that number is somebody else's.
fn trees(snapshot: &[Stat], kin: &Kin) -> Vec<Stat> {
    let taken: HashSet<i32> = snapshot.iter().map(|stat| stat.pid).collect();
    let ours: HashSet<i32> =
        kin.roots.iter().filter(|root| !(root.reaped && taken.contains(&root.pid))).map(|root| root.pid).collect();
    let belongs = |stat: &Stat| {
        stat.mark.is_some_and(|mark| kin.marks.contains(mark))
            || [stat.pid, stat.session, stat.group].iter().any(|number| ours.contains(number))
    };
    let members: HashSet<i32> = snapshot.iter().filter(|stat| belongs(stat)).map(|stat| stat.pid).collect();
    with_descendants(snapshot, members)
}

/// `roots` as far as they are in the snapshot, and all that descends from them.
pub fn descent(snapshot: &[Stat], roots: &[Stat]) -> Vec<Stat> {
    let same = |stat: &&Stat| roots.iter().any(|root| (root.pid, root.started) == (stat.pid, stat.started));
    with_descendants(snapshot, snapshot.iter().filter(same).map(|stat| stat.pid).collect())
}

fn with_descendants(snapshot: &[Stat], mut members: HashSet<i32>) -> Vec<Stat> {
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

/// Sends `signal` to a process if it still is the one that was seen.
pub fn send(member: Stat, signal: Signal) {
    let own = getpid().as_raw_nonzero().get();
    let Some(pid) = Pid::from_raw(member.pid).filter(|_| member.pid > 1 && member.pid != own) else { return };
    let pidfd = pidfd_open(pid, PidfdFlags::empty());
    let same = census::stat(member.pid).is_some_and(|now| now.started == member.started);
    if !same {
        return;
    }
    let _ = match pidfd {
        Ok(pidfd) => pidfd_send_signal(pidfd, signal),
        Err(_) => kill_process(pid, signal),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(pid: i32, parent: i32, group: i32, session: i32) -> Stat {
        Stat { pid, parent, group, session, zombie: false, started: 0, mark: None }
    }

    fn pids(snapshot: &[Stat], roots: &[Root]) -> Vec<i32> {
        let kin = Kin { roots: roots.to_vec(), marks: Given::default() };
        trees(snapshot, &kin).iter().map(|member| member.pid).collect()
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
    fn a_mark_outlives_session_parent_and_root() {
        let mut given = Given::new(census::maker());
        let (ours, other) = (given.give(), given.give());
        let marked = |pid, mark| Stat { mark, ..stat(pid, 1, pid, pid) };
        let snapshot = [marked(300, ours), stat(301, 300, 301, 301), marked(302, other), stat(303, 1, 303, 303)];
        let kin = Kin { roots: vec![Root { pid: 100, reaped: true }], marks: Given::only(ours) };
        assert_eq!(trees(&snapshot, &kin).iter().map(|member| member.pid).collect::<Vec<_>>(), [300, 301]);
        assert_eq!(trees(&snapshot, &Kin { roots: vec![], marks: given }).len(), 3);
    }
}
