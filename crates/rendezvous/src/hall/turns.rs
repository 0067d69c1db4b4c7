//! Whose turn it is to send to the executor: surplus round robin. Pure.
//!
//! In flow who there is, who has something, and what it cost; out flows the next. One may go on until it has used up
//! [`QUANTUM`] bytes; who used more than that in one message waits for as many rounds. So among those who always have
//! something nobody gets more than a quantum and a message ahead.

use std::collections::VecDeque;

use crate::limits::QUANTUM;
use crate::router::ConnectionId;

/// The round.
#[derive(Debug, Default)]
pub struct Turns {
    ring: VecDeque<(ConnectionId, i64)>,
}

impl Turns {
    /// One more takes part, at the end of the round.
    pub fn join(&mut self, client: ConnectionId) {
        self.ring.push_back((client, 0));
    }

    /// One takes part no more.
    pub fn leave(&mut self, client: ConnectionId) {
        self.ring.retain(|(id, _)| *id != client);
    }

    /// Whose turn it is among those who have something.
    pub fn next(&mut self, has: impl Fn(ConnectionId) -> bool) -> Option<ConnectionId> {
        let quantum = QUANTUM as i64;
        let (mut waiting, mut only) = (0, 0);
        for (at, (id, credit)) in self.ring.iter_mut().enumerate() {
            if has(*id) {
                (waiting, only) = (waiting + 1, at);
            } else {
                // Whoever has nothing saves nothing up, but what it owes stays owed.
                *credit = (*credit).min(0);
            }
        }
        match waiting {
            0 => None,
            1 => {
                self.ring.rotate_left(only);
                let (id, credit) = self.ring.front_mut()?;
                *credit = (*credit).max(1);
                Some(*id)
            }
            _ => loop {
                let (id, credit) = self.ring.front_mut()?;
                if has(*id) && *credit > 0 {
                    return Some(*id);
                }
                self.ring.rotate_left(1);
                let (id, credit) = self.ring.front_mut()?;
                if has(*id) {
                    *credit += quantum;
                }
            },
        }
    }

    /// The one whose turn it is used up `bytes`.
    pub fn charge(&mut self, client: ConnectionId, bytes: usize) {
        if let Some((_, credit)) = self.ring.iter_mut().find(|(id, _)| *id == client) {
            *credit -= i64::try_from(bytes).unwrap_or(i64::MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever the sizes, those who always have something get the same, but for a quantum and the largest messages.
        #[test]
        fn nobody_gets_far_ahead(sizes in proptest::collection::vec(1usize..300_000, 2..8), rounds in 50usize..400) {
            let ids: Vec<_> = (0..sizes.len() as u64).map(ConnectionId::test).collect();
            let mut turns = Turns::default();
            ids.iter().for_each(|id| turns.join(*id));
            let mut got = vec![0usize; ids.len()];
            for _ in 0..rounds {
                let next = turns.next(|_| true).unwrap();
                let at = ids.iter().position(|id| *id == next).unwrap();
                turns.charge(next, sizes[at]);
                got[at] += sizes[at];
            }
            let (least, most) = (got.iter().min().unwrap(), got.iter().max().unwrap());
            prop_assert!(most - least <= 2 * QUANTUM + 2 * sizes.iter().max().unwrap(), "{got:?}");
        }

        #[test]
        fn only_those_who_have_something_have_a_turn(steps in proptest::collection::vec((0u8..8, 1usize..200_000), 1..200)) {
            let mut turns = Turns::default();
            (0..3).map(ConnectionId::test).for_each(|id| turns.join(id));
            for (mask, bytes) in steps {
                let has = |id: ConnectionId| (0..3).any(|at| ConnectionId::test(at) == id && mask & (1 << at) != 0);
                match turns.next(has) {
                    Some(next) => {
                        prop_assert!(has(next));
                        turns.charge(next, bytes);
                    }
                    None => prop_assert_eq!(mask, 0),
                }
            }
        }
    }
}
