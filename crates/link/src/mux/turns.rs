//! Whose turn it is to send: deficit round robin, so that streams share a socket by bytes, whatever the size of their
//! messages.
//!
//! In flow streams that have something to send and the size of their next frame, out flows the stream whose frame is
//! next. What is in the frame is not known here.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use super::Key;

/// What a stream may send in one turn, in bytes; a larger message saves up for it.
pub(super) const QUANTUM: usize = 64 * 1024;

/// The streams that want to send, in order.
#[derive(Debug, Default)]
pub(super) struct Turns {
    line: VecDeque<Key>,
    credit: HashMap<Key, usize>,
}

impl Turns {
    /// Puts a stream at the end of the line, unless it waits already.
    pub(super) fn add(&mut self, key: Key) {
        if let Entry::Vacant(credit) = self.credit.entry(key) {
            credit.insert(0);
            self.line.push_back(key);
        }
    }

    /// A stream that has nothing more to send gives up what it has saved.
    pub(super) fn remove(&mut self, key: Key) {
        if self.credit.remove(&key).is_some() {
            self.line.retain(|waiting| *waiting != key);
        }
    }

    /// The stream whose frame, of `cost` bytes, is next; it is charged.
    pub(super) fn next(&mut self, cost: impl Fn(Key) -> usize) -> Option<Key> {
        // A single large message must not go round in a circle for its credit.
        let rounds = self.line.iter().map(|key| self.lacks(*key, cost(*key)).div_ceil(QUANTUM)).min()?;
        let gain = rounds.saturating_sub(1) * QUANTUM;
        for credit in self.credit.values_mut().filter(|_| gain > 0) {
            *credit += gain;
        }
        loop {
            let key = *self.line.front()?;
            let cost = cost(key);
            let credit = self.credit.entry(key).or_default();
            if let Some(left) = credit.checked_sub(cost) {
                *credit = left;
                return Some(key);
            }
            *credit += QUANTUM;
            self.line.rotate_left(1);
        }
    }

    fn lacks(&self, key: Key, cost: usize) -> usize {
        cost.saturating_sub(self.credit.get(&key).copied().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who sends in `count` turns, when each has frames of a size of its own without end.
    fn bytes(sizes: &[usize], count: usize) -> Vec<usize> {
        let mut turns = Turns::default();
        let size = |key: Key| sizes[key.0 as usize];
        (0..sizes.len()).for_each(|key| turns.add(Key(key as u64)));
        let mut sent = vec![0; sizes.len()];
        for _ in 0..count {
            let key = turns.next(size).unwrap();
            sent[key.0 as usize] += size(key);
        }
        sent
    }

    #[test]
    fn streams_share_by_bytes() {
        let sent = bytes(&[100, 60_000, 1_000_000, 7_000], 100_000);
        let (least, most) = (sent.iter().min().unwrap(), sent.iter().max().unwrap());
        assert!(most - least <= 1_100_000, "{sent:?}");
    }

    #[test]
    fn a_single_large_message_goes_at_once_and_costs_others_their_share_only() {
        let mut turns = Turns::default();
        assert_eq!(turns.next(|_| 1), None);
        turns.add(Key(1));
        assert_eq!(turns.next(|_| 64 << 20), Some(Key(1)));
        turns.add(Key(1));
        turns.add(Key(2));
        turns.remove(Key(1));
        assert_eq!(turns.next(|_| 100), Some(Key(2)));
        turns.remove(Key(2));
        turns.remove(Key(2));
        assert_eq!(turns.next(|_| 100), None);
    }
}
