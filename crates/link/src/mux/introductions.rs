//! Who opens which stream next, as the server said.
//!
//! In flow introductions and the first frames of streams, out flows who is who. There is room for so many; beyond it the
//! oldest goes. It comes right before the first frame, so that one which waits is of a client that has not begun yet, and
//! no number of those keeps another from beginning.

use std::collections::{BTreeMap, HashMap};

use exedra_proto::frame::StreamId;
use exedra_proto::introduction::Introduction;

/// See the module.
#[derive(Debug)]
pub(super) struct Introductions {
    room: usize,
    next: u64,
    waiting: HashMap<StreamId, (u64, Introduction)>,
    by_age: BTreeMap<u64, StreamId>,
}

impl Introductions {
    /// None yet, with room for so many.
    pub(super) fn new(room: usize) -> Self {
        Self { room, next: 0, waiting: HashMap::new(), by_age: BTreeMap::new() }
    }

    /// The next to open `id` is this one, whoever it was before.
    pub(super) fn put(&mut self, id: StreamId, introduction: Introduction) {
        self.take(&id);
        if self.waiting.len() >= self.room
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.waiting.remove(&oldest);
        }
        self.next += 1;
        self.by_age.insert(self.next, id.clone());
        self.waiting.insert(id, (self.next, introduction));
    }

    /// Who opens `id`; it is told once.
    pub(super) fn take(&mut self, id: &StreamId) -> Option<Introduction> {
        let (number, introduction) = self.waiting.remove(id)?;
        self.by_age.remove(&number);
        Some(introduction)
    }

    /// How many wait.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        debug_assert_eq!(self.waiting.len(), self.by_age.len());
        self.waiting.len()
    }
}
