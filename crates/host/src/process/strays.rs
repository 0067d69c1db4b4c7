//! Strays: orphans that bear no mark of a process that is known. A program can take the mark off and leave its group,
//! its session and its parent; what it leaves then comes to us as a child, since we are who orphans of our children are
//! given to, and that is how it is found.
//!
//! In flow starts, ends and reapings of our children; out flow the strays that nobody who is still there can have left, and
//! those are killed. Whose a stray is cannot be seen. So each child has a [`Claim`] on whatever began after it did, until
//! it was ended, or has exited and left nothing; a stray goes when no claim on it is left. One list for the whole
//! program: orphans come to the program, not to a [`super::Host`].

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Signal, getpid};

use super::census::{self, Stat};
use super::mark::Mark;
use super::signal;
use super::wait::reap;

/// How long to look again for those that were forked while we killed.
const LONGEST: Duration = Duration::from_secs(30);
/// How long to wait for those that were killed, and between two looks at them.
const PATIENCE: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(2);
/// Orphans that are looked at when a child is reaped; where there are more, it is left to [`settle`].
const FEW: usize = 16;

static CLAIMS: Mutex<Claims> = Mutex::new(Claims { open: BTreeMap::new() });
static NUMBERS: AtomicU64 = AtomicU64::new(0);
/// Held while an orphan is reaped: the second to try would find that somebody took its exit.
static BURYING: Mutex<()> = Mutex::new(());
/// Whether orphans come to us, and if so whether all of them descend from children of ours.
static ORPHANS: OnceLock<Orphans> = OnceLock::new();
/// The list of the children of our first thread, open, so that one call tells whether there are any.
static CHILDREN: OnceLock<Option<File>> = OnceLock::new();

/// Whose orphans come to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Orphans {
    /// Those of our children.
    Ours,
    /// Others too: we are the first process of the machine or the container, or had children when we began, from a
    /// program that became this one.
    Anybodys,
}

/// What was done about strays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Were killed.
    pub killed: usize,
    /// Were left alone, since somebody else may have left them.
    pub left: usize,
}

/// A child's claim on what began after it did. Dropped, it is given up.
#[derive(Debug)]
pub struct Claim(u64);

/// See the module; pure.
#[derive(Debug, Default)]
struct Claims {
    open: BTreeMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    pid: i32,
    mark: Option<Mark>,
    /// When the child began, in clock ticks since boot, once somebody wanted to know.
    since: Option<u64>,
    reaped: bool,
}

/// Orphans come to us from here on.
pub fn begin() {
    CHILDREN.get_or_init(|| File::open(children()).ok());
    ORPHANS.get_or_init(|| {
        let alone = adopted().is_ok_and(|children| children.is_empty());
        if alone && getpid().as_raw_nonzero().get() != 1 { Orphans::Ours } else { Orphans::Anybodys }
    });
}

impl Claim {
    /// Of a child that was started and not reaped.
    pub fn open(pid: i32, mark: Option<Mark>) -> Self {
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        claims().open.insert(number, Entry { pid, mark, since: None, reaped: false });
        Self(number)
    }

    /// The child has exited and is about to be reaped: gives the claim up if it left nothing at all.
    pub fn exited(&self) {
        if ORPHANS.get().is_none() || is_childless() {
            return self.give_up();
        }
        let mut claims = claims();
        if let Some(entry) = claims.open.get_mut(&self.0) {
            entry.since = census::stat(entry.pid).map(|stat| stat.started);
        }
    }

    /// The child has been reaped: gives the claim up unless something is there that it may have left.
    pub fn reaped(&self) {
        let mut claims = claims();
        let Some(entry) = claims.open.get_mut(&self.0) else { return };
        entry.reaped = true;
        drop(claims);
        if adopted().is_ok_and(|orphans| orphans.len() <= FEW) {
            settle();
        }
    }

    /// All that the child left has been ended.
    pub fn give_up(&self) {
        claims().open.remove(&self.0);
    }

    /// Whether it was not given up.
    pub fn is_open(&self) -> bool {
        claims().open.contains_key(&self.0)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.give_up();
    }
}

/// Gives up the claims of those that were reaped and left nothing.
pub fn settle() {
    let orphans = orphans();
    claims().settle(&orphans);
}

/// Kills the strays that nobody can have left who still has a claim. Blocks on `/proc`.
pub fn sweep() -> Swept {
    let Some(whose) = ORPHANS.get() else { return Swept::default() };
    let mut killed = HashMap::new();
    let (began, mut last) = (Instant::now(), Instant::now());
    loop {
        let orphans = orphans();
        let (gone, left): (Vec<Stat>, Vec<Stat>) = {
            let mut claims = claims();
            claims.complete(|pid| Some(census::stat(pid)?.started));
            orphans.into_iter().filter(|orphan| !claims.knows(orphan)).partition(|orphan| !claims.is_claimed(orphan))
        };
        if *whose == Orphans::Anybodys {
            return Swept { killed: 0, left: gone.len() + left.len() };
        }
        let fresh = gone.iter().filter(|stray| killed.insert((stray.pid, stray.started), **stray).is_none()).count();
        if gone.is_empty() || last.elapsed() > PATIENCE || began.elapsed() > LONGEST {
            // When the program ends, nobody else may do it.
            killed.values().for_each(|stray: &Stat| _ = bury(stray));
            return Swept { killed: killed.len(), left: left.len() };
        }
        if fresh == 0 {
            std::thread::sleep(LOOK);
            continue;
        }
        last = Instant::now();
        for member in signal::descent(&census::snapshot(false), &gone) {
            signal::send(member, Signal::KILL);
        }
    }
}

/// Reaps an orphan if it has ended and nobody did it before; whether it is gone.
pub fn bury(orphan: &Stat) -> bool {
    let _one_at_a_time = BURYING.lock().unwrap_or_else(PoisonError::into_inner);
    match census::stat(orphan.pid) {
        Some(now) if now.started == orphan.started => now.zombie && reap(now.pid).is_some(),
        _ => true,
    }
}

/// Whether a child of the thread to which orphans come is an orphan that nobody waits for.
pub fn is_orphan(stat: &Stat) -> bool {
    own_session() != Some(stat.session) && !claims().is_leader(stat.pid)
}

/// The children of the thread to which the system gives orphans, which is the first one.
pub fn adopted() -> io::Result<Vec<i32>> {
    let children = std::fs::read_to_string(children())?;
    Ok(children.split_ascii_whitespace().filter_map(|child| child.parse().ok()).collect())
}

/// Whether that thread has no child.
fn is_childless() -> bool {
    match CHILDREN.get() {
        Some(Some(list)) => list.read_at(&mut [0; 16], 0).is_ok_and(|read| read == 0),
        _ => adopted().is_ok_and(|orphans| orphans.is_empty()),
    }
}

fn children() -> String {
    format!("/proc/self/task/{}/children", getpid().as_raw_nonzero())
}

impl Claims {
    fn settle(&mut self, orphans: &[Stat]) {
        let marks: HashSet<Mark> = self.open.values().filter_map(|entry| entry.mark).collect();
        self.open.retain(|_, entry| {
            let may_have_left = |orphan: &Stat| match orphan.mark.filter(|mark| marks.contains(mark)) {
                Some(mark) => entry.mark == Some(mark),
                None => entry.since.is_none_or(|since| since <= orphan.started),
            };
            !entry.reaped || orphans.iter().any(may_have_left)
        });
    }

    /// Asks when those began of whom it is not known.
    fn complete(&mut self, started: impl Fn(i32) -> Option<u64>) {
        for entry in self.open.values_mut().filter(|entry| entry.since.is_none() && !entry.reaped) {
            entry.since = started(entry.pid);
        }
    }

    /// Whether it bears the mark of somebody who still has a claim, or is a child that we started.
    fn knows(&self, orphan: &Stat) -> bool {
        let marked = orphan.mark.is_some_and(|mark| self.open.values().any(|entry| entry.mark == Some(mark)));
        marked || self.is_leader(orphan.pid)
    }

    /// Whether somebody who still has a claim may have left it.
    fn is_claimed(&self, orphan: &Stat) -> bool {
        self.open.values().any(|entry| entry.since.is_none_or(|since| since <= orphan.started))
    }

    fn is_leader(&self, pid: i32) -> bool {
        self.open.values().any(|entry| entry.pid == pid && !entry.reaped)
    }
}

/// The orphans that live, with their marks. Whoever shares our session is none: our children begin sessions of their own,
/// and nothing can come back into ours.
fn orphans() -> Vec<Stat> {
    let (mut pids, own) = (adopted().unwrap_or_default(), own_session());
    // While some end, the system may leave others out.
    if !pids.is_empty() {
        pids.extend(adopted().unwrap_or_default());
        pids.sort_unstable();
        pids.dedup();
    }
    let living = pids.into_iter().filter_map(census::stat).filter(|stat| !stat.zombie && Some(stat.session) != own);
    living.map(|stat| Stat { mark: census::mark_of(stat.pid).ok().flatten(), ..stat }).collect()
}

/// As `/proc` shows it to us: 0 if whoever leads it is outside of our PID namespace, as in a container that was entered.
fn own_session() -> Option<i32> {
    census::stat(getpid().as_raw_nonzero().get()).map(|stat| stat.session)
}

fn claims() -> MutexGuard<'static, Claims> {
    CLAIMS.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::mark::Given;
    use super::*;

    fn stat(pid: i32, started: u64, mark: Option<Mark>) -> Stat {
        Stat { pid, parent: 1, group: pid, session: pid, zombie: false, started, mark }
    }

    fn entry(pid: i32, since: Option<u64>, mark: Option<Mark>, reaped: bool) -> Entry {
        Entry { pid, mark, since, reaped }
    }

    fn claims(entries: Vec<Entry>) -> Claims {
        Claims { open: (0..).zip(entries).collect() }
    }

    #[test]
    fn a_stray_is_claimed_by_whoever_was_there_before_it() {
        let claims = claims(vec![entry(100, Some(50), None, false)]);
        assert!(claims.is_claimed(&stat(200, 50, None)) && claims.is_claimed(&stat(200, 60, None)));
        assert!(!claims.is_claimed(&stat(200, 49, None)));
        assert!(!Claims::default().is_claimed(&stat(200, 49, None)));
        let unknown = self::claims(vec![entry(100, None, None, false)]);
        assert!(unknown.is_claimed(&stat(200, 1, None)), "when it began is not known");
    }

    #[test]
    fn a_mark_of_somebody_who_is_there_says_whose_it_is_and_any_other_says_nothing() {
        let mut given = Given::new(census::maker());
        let (live, gone) = (given.give(), given.give());
        let claims = claims(vec![entry(100, Some(50), live, false)]);
        assert!(claims.knows(&stat(200, 60, live)) && claims.knows(&stat(100, 60, None)));
        assert!(!claims.knows(&stat(200, 60, gone)) && !claims.knows(&stat(200, 60, None)));
    }

    #[test]
    fn who_was_reaped_keeps_a_claim_as_long_as_something_is_there_that_it_may_have_left() {
        let mut given = Given::new(census::maker());
        let (a, b) = (given.give(), given.give());
        let all = || {
            claims(vec![
                entry(100, Some(50), a, true),
                entry(101, Some(60), b, true),
                entry(102, Some(10), given.clone().give(), false),
            ])
        };
        let after = |orphans: &[Stat]| {
            let mut claims = all();
            claims.settle(orphans);
            claims.open.into_values().map(|entry| entry.pid).collect::<Vec<_>>()
        };
        assert_eq!(after(&[]), [102], "who runs may still leave something");
        assert_eq!(after(&[stat(200, 55, None)]), [100, 102]);
        assert_eq!(after(&[stat(200, 65, None)]), [100, 101, 102]);
        assert_eq!(after(&[stat(200, 65, b)]), [101, 102], "its mark says whose it is");
    }
}
