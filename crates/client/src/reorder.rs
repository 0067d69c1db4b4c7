//! Puts numbered items in order (the events of a process, the pieces of a body): a pure state machine.
//!
//! In flow items with their numbers in whatever order they come, and the time; out flow the same items from number 1
//! on, each once. A number that stays away too long, or behind which too much piles up, is a [`Gap`]: a loss that must
//! be told. Knows neither what an item is nor where it comes from.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Most items held behind a missing one, as stock clients do.
pub const HELD_ITEMS: usize = 256;
/// Most bytes held behind a missing item, as stock clients do.
pub const HELD_BYTES: usize = 1024 * 1024;
/// Most bytes held while what is missing is known to come.
pub const FORGIVEN_BYTES: usize = 64 * 1024 * 1024;
/// How long a missing item is waited for. A connection keeps its order, so that a gap closes at once or never.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// One sequence of items.
#[derive(Debug)]
pub struct Reorder<T> {
    patience: Duration,
    next: u64,
    held: BTreeMap<u64, (usize, T)>,
    held_bytes: usize,
    /// Since when `next` is missing while something later is here.
    gap_since: Option<Instant>,
    /// What is missing is on its way by other means.
    forgiving: bool,
}

/// Events that did not come although later ones did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{first} to {last} of the numbered events were lost")]
pub struct Gap {
    /// The first missing number.
    pub first: u64,
    /// The last missing number.
    pub last: u64,
}

impl<T> Default for Reorder<T> {
    fn default() -> Self {
        Self::with_patience(PATIENCE)
    }
}

impl<T> Reorder<T> {
    /// Waits for a missing item for `patience`.
    pub fn with_patience(patience: Duration) -> Self {
        Self { patience, next: 1, held: BTreeMap::new(), held_bytes: 0, gap_since: None, forgiving: false }
    }

    /// Takes an item of `bytes` size. One that was here before is dropped: the first of a number counts.
    ///
    /// # Errors
    /// [`Gap`] if more is held than the limits allow.
    pub fn push(&mut self, seq: u64, bytes: usize, item: T, now: Instant) -> Result<(), Gap> {
        if seq < self.next || self.held.contains_key(&seq) {
            return Ok(());
        }
        self.held_bytes += bytes;
        self.held.insert(seq, (bytes, item));
        self.watch(now);
        match self.gap() {
            Some(gap) if self.holds_too_much() => Err(gap),
            _ => Ok(()),
        }
    }

    /// Whether what is missing is on its way by other means, as after a break: then it is waited for, however long it
    /// takes, with [`FORGIVEN_BYTES`] behind it.
    pub fn forgive(&mut self, forgiving: bool, now: Instant) {
        if std::mem::replace(&mut self.forgiving, forgiving) != forgiving {
            self.gap_since = None;
            self.watch(now);
        }
    }

    /// The number of the next item.
    pub fn next_number(&self) -> u64 {
        self.next
    }

    /// The item of that number, if it is here and was not popped.
    pub fn get(&self, seq: u64) -> Option<&T> {
        self.held.get(&seq).map(|(_, item)| item)
    }

    fn holds_too_much(&self) -> bool {
        match self.forgiving {
            true => self.held_bytes > FORGIVEN_BYTES,
            false => self.held.len() > HELD_ITEMS || self.held_bytes > HELD_BYTES,
        }
    }

    /// The next item in order, if it is here.
    pub fn pop(&mut self, now: Instant) -> Option<T> {
        let (bytes, item) = self.held.remove(&self.next)?;
        self.next += 1;
        self.held_bytes -= bytes;
        self.gap_since = None;
        self.watch(now);
        Some(item)
    }

    /// When [`Self::check`] should be asked; none while nothing is missing.
    pub fn deadline(&self) -> Option<Instant> {
        self.gap_since.filter(|_| !self.forgiving).map(|since| since + self.patience)
    }

    /// Whether what is missing has been missing for too long.
    ///
    /// # Errors
    /// [`Gap`] if so.
    pub fn check(&self, now: Instant) -> Result<(), Gap> {
        match (self.deadline(), self.gap()) {
            (Some(deadline), Some(gap)) if now >= deadline => Err(gap),
            _ => Ok(()),
        }
    }

    /// Bytes that were pushed and not yet popped.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    fn watch(&mut self, now: Instant) {
        match self.gap() {
            Some(_) => self.gap_since = self.gap_since.or(Some(now)),
            None => self.gap_since = None,
        }
    }

    fn gap(&self) -> Option<Gap> {
        let (&first_held, _) = self.held.first_key_value()?;
        (first_held > self.next).then(|| Gap { first: self.next, last: first_held - 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A small generator with a fixed seed (splitmix64), so that a failure repeats.
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, n: usize) -> usize {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) % n as u64) as usize
        }
    }

    fn drain(reorder: &mut Reorder<u64>, now: Instant, into: &mut Vec<u64>) {
        while let Some(item) = reorder.pop(now) {
            into.push(item);
        }
    }

    /// Against the plain model: whatever the order and however many copies, out comes 1, 2, 3 … exactly once, and
    /// never an item before its turn.
    #[test]
    fn any_order_and_any_copies_come_out_as_counted() {
        let mut dice = Dice(20_261_122);
        let now = Instant::now();
        for round in 0..2_000 {
            let count = 1 + dice.below(60);
            let mut arrivals: Vec<u64> = (1..=count as u64).collect();
            for _ in 0..dice.below(30) {
                arrivals.push(1 + dice.below(count) as u64);
            }
            for i in (1..arrivals.len()).rev() {
                arrivals.swap(i, dice.below(i + 1));
            }
            let (mut reorder, mut out, mut seen) = (Reorder::default(), Vec::new(), Vec::new());
            for seq in arrivals {
                reorder.push(seq, 1, seq, now).unwrap();
                seen.push(seq);
                if dice.below(3) > 0 {
                    drain(&mut reorder, now, &mut out);
                    let model = (1..).take_while(|n| seen.contains(n)).count();
                    assert_eq!(out.len(), model, "round {round}");
                }
            }
            drain(&mut reorder, now, &mut out);
            assert_eq!(out, (1..=count as u64).collect::<Vec<_>>(), "round {round}");
            assert_eq!(reorder.deadline(), None);
            assert_eq!(reorder.held_bytes, 0);
        }
    }

    #[test]
    fn a_gap_is_told_after_its_time_and_not_before() {
        let start = Instant::now();
        let mut reorder = Reorder::default();
        reorder.push(1, 1, 1, start).unwrap();
        reorder.push(4, 1, 4, start).unwrap();
        assert_eq!(reorder.pop(start), Some(1));
        assert_eq!(reorder.pop(start), None);
        assert_eq!(reorder.check(start + PATIENCE - Duration::from_millis(1)), Ok(()));
        assert_eq!(reorder.check(start + PATIENCE), Err(Gap { first: 2, last: 3 }));
    }

    #[test]
    fn a_gap_that_closes_starts_no_clock_for_the_next() {
        let start = Instant::now();
        let mut reorder = Reorder::default();
        reorder.push(2, 1, 2, start).unwrap();
        reorder.push(4, 1, 4, start).unwrap();
        let later = start + PATIENCE - Duration::from_millis(1);
        reorder.push(1, 1, 1, later).unwrap();
        assert_eq!(reorder.pop(later), Some(1));
        assert_eq!(reorder.pop(later), Some(2));
        assert_eq!(reorder.deadline(), Some(later + PATIENCE));
    }

    #[test]
    fn too_much_behind_a_gap_is_a_loss_at_once() {
        let now = Instant::now();
        let mut many = Reorder::default();
        for seq in 2..2 + HELD_ITEMS as u64 {
            many.push(seq, 1, seq, now).unwrap();
        }
        assert_eq!(many.push(1_000, 1, 1_000, now), Err(Gap { first: 1, last: 1 }));
        let mut large = Reorder::default();
        assert_eq!(large.push(3, HELD_BYTES + 1, 3, now), Err(Gap { first: 1, last: 2 }));
    }

    #[test]
    fn what_is_known_to_come_is_waited_for_and_no_longer_than_that() {
        let start = Instant::now();
        let mut reorder = Reorder::default();
        reorder.forgive(true, start);
        for seq in 2..2 + 2 * HELD_ITEMS as u64 {
            reorder.push(seq, HELD_BYTES / 64, seq, start).unwrap();
        }
        assert_eq!((reorder.deadline(), reorder.check(start + 10 * PATIENCE)), (None, Ok(())));
        let later = start + 20 * PATIENCE;
        reorder.forgive(false, later);
        assert_eq!(reorder.deadline(), Some(later + PATIENCE), "counted from now");
        assert!(reorder.push(1_000, 1, 1_000, later).is_err());
        reorder.forgive(true, later);
        assert!(reorder.push(1_001, FORGIVEN_BYTES, 1_001, later).is_err());
    }

    #[test]
    fn an_item_in_order_may_have_any_size_and_zero_is_no_number() {
        let now = Instant::now();
        let mut reorder = Reorder::default();
        reorder.push(1, 100 * HELD_BYTES, 1, now).unwrap();
        reorder.push(0, 1, 0, now).unwrap();
        reorder.push(u64::MAX, 1, 2, now).unwrap();
        assert_eq!(reorder.pop(now), Some(1));
        assert_eq!(reorder.pop(now), None);
    }
}
