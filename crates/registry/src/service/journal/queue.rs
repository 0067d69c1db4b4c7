//! The queue of events that wait to be written: what is in it, what goes next, what did not fit.
//!
//! Events and outcomes flow in, batches and places flow out. Pure: no clock, no store.

use std::collections::VecDeque;

use serde_json::json;

use crate::service::events::EventKind;
use crate::store::NewEvent;

/// Events that wait, of 2.5 KiB at most. Nobody waits for room: the newest is left out, and one more behind them says how many were.
pub const WAITING: usize = 1_024;
/// Events that are written together: some 10 ms of work, for which other writes wait.
pub const TOGETHER: usize = 64;

/// What waits.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: VecDeque<Waiting>,
    /// How many were written ever.
    written: u64,
    is_failing: bool,
}

#[derive(Debug)]
enum Waiting {
    Event(NewEvent),
    /// Here some were left out, the first of them then.
    Missing {
        count: u64,
        at: u64,
    },
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is written when so many are.
    At(u64),
    /// It did not fit.
    LeftOut {
        /// The first in a row.
        is_first: bool,
    },
}

impl Queue {
    /// Takes an event, if there is room.
    pub fn put(&mut self, event: NewEvent) -> Put {
        if self.waiting.len() < WAITING {
            self.waiting.push_back(Waiting::Event(event));
            return Put::At(self.written + self.waiting.len() as u64);
        }
        if let Some(Waiting::Missing { count, .. }) = self.waiting.back_mut() {
            *count += 1;
            return Put::LeftOut { is_first: false };
        }
        self.waiting.push_back(Waiting::Missing { count: 1, at: event.at });
        Put::LeftOut { is_first: true }
    }

    /// What is to be written next; the same again until it was.
    pub fn batch(&self) -> Vec<NewEvent> {
        self.waiting.iter().take(TOGETHER).map(Waiting::event).collect()
    }

    /// So many of the oldest were written: how many that makes ever, and whether it failed before.
    pub fn written(&mut self, events: usize) -> (u64, bool) {
        let gone = self.waiting.drain(..events.min(self.waiting.len())).count();
        self.written += gone as u64;
        (self.written, std::mem::take(&mut self.is_failing))
    }

    /// They could not be written; whether that is new.
    pub fn failed(&mut self) -> bool {
        !std::mem::replace(&mut self.is_failing, true)
    }

    /// The one at `place` took too long, if it is not written: then those behind it will, too.
    pub fn waited_in_vain(&mut self, place: u64) {
        self.is_failing |= place > self.written;
    }

    /// Whether none was written since that was last tried.
    pub fn is_failing(&self) -> bool {
        self.is_failing
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }
}

impl Waiting {
    fn event(&self) -> NewEvent {
        match self {
            Self::Event(event) => event.clone(),
            Self::Missing { count, at } => NewEvent {
                at: *at,
                kind: EventKind::EventsMissing.as_str().to_owned(),
                executor: None,
                detail: json!({"count": count}),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(number: u64) -> NewEvent {
        NewEvent { at: number, kind: "some_thing".to_owned(), executor: None, detail: json!({"number": number}) }
    }

    /// Everything that waits, written.
    fn drained(queue: &mut Queue) -> Vec<NewEvent> {
        let mut all = Vec::new();
        while queue.len() > 0 {
            let batch = queue.batch();
            assert!(batch.len() <= TOGETHER);
            queue.written(batch.len());
            all.extend(batch);
        }
        all
    }

    #[test]
    fn events_go_in_the_order_in_which_they_came_and_each_knows_when_it_is_written() {
        let mut queue = Queue::default();
        assert_eq!((queue.put(event(1)), queue.put(event(2))), (Put::At(1), Put::At(2)));
        assert_eq!(queue.batch(), [event(1), event(2)]);
        assert_eq!(queue.put(event(3)), Put::At(3));
        assert_eq!(queue.written(2), (2, false));
        assert_eq!(queue.batch(), [event(3)]);
        assert_eq!(queue.batch(), [event(3)], "until it is written");
        assert_eq!(queue.written(1), (3, false));
        assert_eq!(queue.put(event(4)), Put::At(4));
    }

    #[test]
    fn what_does_not_fit_is_counted_in_its_place() {
        let mut queue = Queue::default();
        let room = WAITING as u64;
        for number in 0..room {
            assert_eq!(queue.put(event(number)), Put::At(number + 1));
        }
        assert_eq!(queue.put(event(room)), Put::LeftOut { is_first: true });
        for number in 1..100_000 {
            assert_eq!(queue.put(event(room + number)), Put::LeftOut { is_first: false });
        }
        assert_eq!(queue.len(), WAITING + 1, "no memory without end");
        queue.written(1);
        assert_eq!(queue.put(event(7)), Put::LeftOut { is_first: false }, "the place of the one that says so is none");
        queue.written(1);
        assert_eq!(queue.put(event(8)), Put::At(room + 2));
        assert_eq!(queue.put(event(9)), Put::LeftOut { is_first: true }, "in another place");
        let all = drained(&mut queue);
        let missing = |count: u64, at| NewEvent {
            at,
            kind: "events_missing".to_owned(),
            executor: None,
            detail: json!({"count": count}),
        };
        let mut expected: Vec<_> = (2..room).map(event).collect();
        expected.extend([missing(100_001, room), event(8), missing(1, 9)]);
        assert_eq!(all, expected);
        assert_eq!(queue.put(event(0)), Put::At(room + 4), "those that say so were written, too");
    }

    #[test]
    fn it_fails_from_the_first_failure_or_the_first_that_takes_too_long_until_one_is_written() {
        let mut queue = Queue::default();
        queue.put(event(1));
        assert!(!queue.is_failing());
        assert!(queue.failed() && !queue.failed(), "told once");
        assert!(queue.is_failing());
        assert_eq!(queue.written(1), (1, true));
        assert!(!queue.is_failing());
        queue.waited_in_vain(1);
        assert!(!queue.is_failing(), "it was written just in time");
        queue.put(event(2));
        queue.waited_in_vain(2);
        assert!(queue.is_failing());
    }
}
