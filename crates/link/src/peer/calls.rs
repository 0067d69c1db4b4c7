//! The calls in flight: ids out, answers in, as a pure table.
//!
//! Ids are 1, 2, 3, … per connection. An answer goes to whoever waits for its id, once; an id that nobody waits for is no
//! error, since a call may have been forgotten. After the end nothing can be opened.

use std::collections::HashMap;

use exedra_proto::envelope::RequestId;

use crate::error::Disconnect;

/// Who waits for which answer.
#[derive(Debug)]
pub(super) struct Calls<W> {
    last: i64,
    waiting: HashMap<i64, W>,
    ended: Option<Disconnect>,
}

impl<W> Default for Calls<W> {
    fn default() -> Self {
        Self { last: 0, waiting: HashMap::new(), ended: None }
    }
}

impl<W> Calls<W> {
    /// A new call; gives its id, or the reason why there can be none any more.
    pub(super) fn open(&mut self, waiter: W) -> Result<i64, Disconnect> {
        if let Some(reason) = &self.ended {
            return Err(reason.clone());
        }
        self.last += 1;
        self.waiting.insert(self.last, waiter);
        Ok(self.last)
    }

    /// An answer arrived; gives who waits for it.
    pub(super) fn answer(&mut self, id: &RequestId) -> Option<W> {
        match id {
            RequestId::Integer(id) => self.waiting.remove(id),
            RequestId::Text(_) => None,
        }
    }

    /// Nobody waits for that answer any more.
    pub(super) fn forget(&mut self, id: i64) {
        self.waiting.remove(&id);
    }

    /// The connection ended; gives all who still wait.
    pub(super) fn end(&mut self, reason: Disconnect) -> Vec<W> {
        self.ended.get_or_insert(reason);
        self.waiting.drain().map(|(_, waiter)| waiter).collect()
    }

    /// Why it ended.
    pub(super) fn ended(&self) -> Option<Disconnect> {
        self.ended.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_find_their_calls_in_any_order_and_once() {
        let mut calls = Calls::default();
        assert_eq!([calls.open('a'), calls.open('b'), calls.open('c')], [Ok(1), Ok(2), Ok(3)]);
        assert_eq!(calls.answer(&RequestId::Integer(3)), Some('c'));
        assert_eq!(calls.answer(&RequestId::Integer(1)), Some('a'));
        assert_eq!(calls.answer(&RequestId::Integer(1)), None);
        assert_eq!(calls.answer(&RequestId::Text("2".into())), None);
        assert_eq!(calls.answer(&RequestId::Integer(-1)), None);
        calls.forget(2);
        assert_eq!(calls.answer(&RequestId::Integer(2)), None);
    }

    #[test]
    fn the_end_frees_all_and_refuses_the_next() {
        let mut calls = Calls::default();
        calls.open('a').unwrap();
        calls.open('b').unwrap();
        let mut freed = calls.end(Disconnect::Silent);
        freed.sort_unstable();
        assert_eq!(freed, ['a', 'b']);
        assert!(calls.end(Disconnect::Lost).is_empty());
        assert_eq!(calls.open('c'), Err(Disconnect::Silent), "the first reason stays");
    }
}
