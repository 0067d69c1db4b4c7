//! The mark of a process: a number that all its descendants inherit, whatever sessions, groups and parents they take.
//!
//! It is the soft limit of real-time run time, set so far beyond any use that it limits nothing. The child sets it before
//! it executes; fork and execution keep it, `/proc` shows it, and it needs no privilege. In flow our own number and start,
//! out flow marks that no other executor of this machine gives. A program that sets this very limit itself is no longer
//! known by it, and only by ancestry, session and group.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::Resource;

use super::launch::Rlimit;

/// Tells a mark from any limit that somebody sets in earnest; 146,000 years.
const TAG: u64 = 1 << 62;
/// Bits of a process number.
const PID_BITS: u32 = 22;
/// Bits of the time of its start, which tell two holders of a number apart.
const START_BITS: u32 = 12;
/// Bits of the count.
const COUNT_BITS: u32 = 28;
/// Counts that an owner takes at a time, so that what it has given is a few ranges.
const BLOCK: u32 = 64;
/// Ranges that are remembered; above it the two oldest become one, and what lies between them is taken for ours.
const RANGES: usize = 1024;

/// The next block of counts of this process.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// The executor that gave a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Maker(u64);

/// One mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mark(u64);

/// The marks that one owner of processes has given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    maker: Option<Maker>,
    ranges: Vec<Range<u32>>,
    /// What is left of the last block.
    free: Range<u32>,
}

impl Maker {
    /// A process and when it started; none if its number is beyond what the system gives.
    pub fn new(pid: i32, started: u64) -> Option<Self> {
        let pid = u64::try_from(pid).ok().filter(|pid| *pid < 1 << PID_BITS)?;
        Some(Self(pid << START_BITS | started & ((1 << START_BITS) - 1)))
    }

    fn mark(self, count: u32) -> Mark {
        Mark(TAG | self.0 << COUNT_BITS | u64::from(count))
    }
}

impl Mark {
    /// Whether a soft limit leaves room for a mark: there is none, or one of another executor around us.
    pub fn may_replace(soft: Option<u64>) -> bool {
        soft.is_none_or(|soft| Self::from_limit(soft).is_some())
    }

    /// Reads it back from a soft limit.
    pub fn from_limit(soft: u64) -> Option<Self> {
        (soft & TAG != 0 && soft >> 63 == 0).then_some(Self(soft))
    }

    /// What the child sets.
    pub fn limit(self) -> Rlimit {
        Rlimit { resource: Resource::Rttime, soft: self.0, hard: u64::MAX }
    }

    /// Who gave it.
    pub fn maker(self) -> Maker {
        Maker((self.0 & !TAG) >> COUNT_BITS)
    }

    fn count(self) -> u32 {
        (self.0 & ((1 << COUNT_BITS) - 1)) as u32
    }
}

impl Given {
    /// Nothing yet; without a maker, nothing ever.
    pub fn new(maker: Option<Maker>) -> Self {
        Self { maker, ranges: Vec::new(), free: 0..0 }
    }

    /// One more.
    pub fn give(&mut self) -> Option<Mark> {
        let maker = self.maker?;
        let count = self.free.next().unwrap_or_else(|| {
            let first = NEXT.fetch_add(BLOCK, Ordering::Relaxed) % (1 << COUNT_BITS);
            self.free = first + 1..first + BLOCK;
            first
        });
        match self.ranges.last_mut() {
            Some(last) if last.end == count => last.end += 1,
            _ => self.ranges.push(count..count + 1),
        }
        if self.ranges.len() > RANGES {
            let first = self.ranges.remove(0);
            self.ranges[0].start = self.ranges[0].start.min(first.start);
        }
        Some(maker.mark(count))
    }

    /// This one alone.
    pub fn only(mark: Option<Mark>) -> Self {
        let range = mark.map(|mark| mark.count()..mark.count() + 1);
        Self { maker: mark.map(Mark::maker), ranges: range.into_iter().collect(), free: 0..0 }
    }

    /// Whether it was given here.
    pub fn contains(&self, mark: Mark) -> bool {
        self.maker == Some(mark.maker()) && self.ranges.iter().any(|range| range.contains(&mark.count()))
    }

    /// Whether none was given.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_told_apart() {
        let (a, b) = (Maker::new(4_194_303, 0xffff_ffff).unwrap(), Maker::new(1, 0xffff_ffff).unwrap());
        let (mut first, mut second) = (Given::new(Some(a)), Given::new(Some(a)));
        let marks: Vec<Mark> = (0..200).map(|_| first.give().unwrap()).collect();
        let others: Vec<Mark> = (0..200).map(|_| second.give().unwrap()).collect();
        assert!(marks.iter().all(|mark| first.contains(*mark) && !second.contains(*mark) && mark.maker() == a));
        assert!(others.iter().all(|mark| second.contains(*mark) && !first.contains(*mark)));
        assert!(!first.contains(b.mark(marks[0].count())));
        assert!(Given::only(Some(marks[7])).contains(marks[7]) && !Given::only(Some(marks[7])).contains(marks[8]));
        assert_eq!(marks.iter().collect::<std::collections::HashSet<_>>().len(), 200);
        assert_eq!(Maker::new(4_194_304, 0), None);
    }

    #[test]
    fn no_limit_that_is_one_is_a_mark() {
        for limit in [0, 200_000, u64::MAX, u64::MAX >> 2, 1 << 63] {
            assert_eq!(Mark::from_limit(limit), None, "{limit}");
        }
        let mark = Maker::new(7, 9).unwrap().mark(3);
        assert_eq!(Mark::from_limit(mark.limit().soft), Some(mark));
    }

    #[test]
    fn without_a_maker_nothing_is_given() {
        let mut given = Given::new(None);
        assert_eq!(given.give(), None);
        assert!(given.is_empty() && Given::only(None).is_empty());
    }
}
