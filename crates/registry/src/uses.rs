//! When tokens were last used, from the request until it is on the disk. Pure.
//!
//! In flow uses, out flow those that are to be written: of a token that is used all the time once in [`EVERY`], of one that was
//! not used in a while with the next look. So what the records say is at most that old, and no request causes a write. It
//! knows no store and no clock.

use std::collections::HashMap;

use exedra_proto::ids::TokenId;

/// Seconds between two writes for the same token.
const EVERY: u64 = 60;

/// See the module.
#[derive(Debug, Default)]
pub struct Uses {
    waiting: HashMap<TokenId, u64>,
    /// What was written in the last [`EVERY`] seconds: which use, and when.
    written: HashMap<TokenId, (u64, u64)>,
}

impl Uses {
    /// The token was used now.
    pub fn note(&mut self, token: &TokenId, now: u64) {
        self.waiting.insert(token.clone(), now);
    }

    /// When the token was last used, if that may be later than the records say.
    pub fn last(&self, token: &TokenId) -> Option<u64> {
        let written = self.written.get(token).map(|(used, _)| *used);
        self.waiting.get(token).copied().max(written)
    }

    /// What is to be written now: all, or what it is time for.
    pub fn take(&mut self, all: bool, now: u64) -> Vec<(TokenId, u64)> {
        self.written.retain(|_, (_, at)| now.saturating_sub(*at) < EVERY);
        let written = &self.written;
        let due: Vec<_> = self.waiting.extract_if(|token, _| all || !written.contains_key(token)).collect();
        self.written.extend(due.iter().map(|(token, used)| (token.clone(), (*used, now))));
        due
    }

    /// These could not be written.
    pub fn put_back(&mut self, used: Vec<(TokenId, u64)>) {
        for (token, at) in used {
            self.written.remove(&token);
            self.waiting.entry(token).or_insert(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_use_is_written_soon_and_of_one_after_the_other_few_are() {
        let (mut uses, busy, new) = (Uses::default(), TokenId::new("busy"), TokenId::new("new"));
        let mut writes = Vec::new();
        for now in 1_000..1_300 {
            uses.note(&busy, now);
            assert_eq!(uses.last(&busy), Some(now));
            let due = uses.take(false, now);
            assert_eq!(uses.last(&busy), Some(now), "also while it is being written");
            writes.extend(due);
        }
        let expected = [1_000, 1_060, 1_120, 1_180, 1_240].map(|at| (busy.clone(), at));
        assert_eq!(writes, expected);
        uses.note(&new, 1_300);
        assert_eq!(uses.take(false, 1_301).len(), 2, "the busy one is due, and the new one at once");
        uses.note(&new, 1_302);
        assert_eq!(uses.take(false, 1_302), []);
        assert_eq!(uses.take(true, 1_302), [(new.clone(), 1_302)]);
        uses.take(false, 2_000);
        assert_eq!((uses.last(&new), uses.written.len()), (None, 0), "the records say it");
    }

    #[test]
    fn what_could_not_be_written_waits_for_the_next_time() {
        let (mut uses, token) = (Uses::default(), TokenId::new("t"));
        uses.note(&token, 10);
        let due = uses.take(false, 11);
        uses.put_back(due.clone());
        assert_eq!(uses.take(false, 12), due);
        uses.put_back(due);
        uses.note(&token, 13);
        assert_eq!(uses.take(false, 13), [(token, 13)]);
    }
}
