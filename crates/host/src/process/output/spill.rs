//! What of a log goes to disk, and when: undelivered output of a time when nobody is attached, beyond what stays in memory.
//!
//! In flow pieces as they come and word of what was written, out flow pieces to write and pieces to read back. The oldest
//! undelivered output stays in memory, where whoever comes back finds it first; the rest goes to disk in the order in which
//! it came. If the disk takes nothing more the command waits, as it would without one. Touches no disk itself.

use std::collections::VecDeque;

use bytes::Bytes;

use super::super::spool::Place;
use super::{Body, Chunk, Log};

/// Undelivered output that stays in memory, in bytes as JSON (1 MiB raw).
pub const MEMORY_JSON: usize = 1_420_000;
/// What waits to be written, in bytes as JSON; from then on the pipes are not read.
const TAIL_JSON: usize = 1_420_000;
/// From how much on it is worth a write, in bytes as JSON.
const BATCH_JSON: usize = 256 * 1024;
/// Read back at a time, in bytes.
const RECALL: usize = 256 * 1024;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Spill {
    /// Pieces that are to be written, oldest first.
    tail: VecDeque<u64>,
    /// What they take as JSON.
    waiting: usize,
    /// The last write failed.
    disk_full: bool,
}

impl Spill {
    /// Nothing is to be written any more.
    pub(super) fn clear(&mut self) {
        self.tail.clear();
        self.waiting = 0;
    }

    fn push(&mut self, seq: u64, json: usize) {
        self.tail.push_back(seq);
        self.waiting += json;
    }
}

impl Chunk {
    /// Whether it is undelivered, in memory and on its way to nobody.
    fn rests(&self) -> bool {
        !self.delivered && !self.in_flight && !self.bytes.is_on_disk()
    }
}

impl Log {
    /// The same, with a disk behind it.
    #[must_use]
    pub fn spilling(mut self) -> Self {
        self.spill = Some(Box::default());
        self
    }

    /// Undelivered output in memory, in bytes as JSON.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Whether there is as much in memory as may be while nobody is attached.
    pub(super) fn memory_is_full(&self) -> bool {
        let Some(spill) = &self.spill else { return false };
        self.held >= MEMORY_JSON + if spill.disk_full { 0 } else { TAIL_JSON }
    }

    /// A piece has come in.
    pub(super) fn note_for_disk(&mut self, seq: u64, json: usize) {
        if let Some(spill) = self.spill.as_mut().filter(|_| self.attached.is_none() && self.held > MEMORY_JSON) {
            spill.push(seq, json);
        }
    }

    /// Nobody is attached any more: what rests in memory beyond what may stay there is to be written.
    pub(super) fn plan_for_disk(&mut self) {
        let Some(spill) = &mut self.spill else { return };
        spill.clear();
        let mut stays = 0;
        for (seq, chunk) in self.chunks.iter().filter(|(_, chunk)| chunk.rests()) {
            stays += chunk.json_len();
            if stays > MEMORY_JSON {
                spill.push(*seq, chunk.json_len());
            }
        }
    }

    /// Takes out pieces that are to be written now, if it is worth it.
    pub fn take_for_disk(&mut self) -> Vec<(u64, Bytes)> {
        let Some(spill) = self.spill.as_mut().filter(|spill| spill.waiting >= BATCH_JSON) else { return Vec::new() };
        spill.waiting = 0;
        let seqs = std::mem::take(&mut spill.tail);
        let piece = |seq: u64| match self.chunks.get(&seq).filter(|chunk| chunk.rests()).map(|chunk| &chunk.bytes) {
            Some(Body::Memory(bytes)) => Some((seq, bytes.clone())),
            _ => None,
        };
        seqs.into_iter().filter_map(piece).collect()
    }

    /// These were written.
    pub fn spilled(&mut self, places: impl IntoIterator<Item = (u64, Place)>) {
        for (seq, place) in places {
            // Meanwhile it may have been delivered, or be on its way.
            if let Some(chunk) = self.chunks.get_mut(&seq).filter(|chunk| chunk.rests()) {
                chunk.bytes = Body::Disk(place);
                self.held -= chunk.json_len();
            }
        }
        if let Some(spill) = &mut self.spill {
            spill.disk_full = false;
        }
    }

    /// They could not be written.
    pub fn not_spilled(&mut self) {
        if self.attached.is_none() {
            self.plan_for_disk();
        }
        if let Some(spill) = &mut self.spill {
            spill.disk_full = true;
        }
    }

    /// Pieces that have to be read back before anything more can be handed out.
    pub fn to_recall(&self) -> Vec<(u64, Place)> {
        let mut places = Vec::new();
        let mut total = 0;
        if !self.has_pending() {
            return places;
        }
        for (seq, chunk) in self.chunks.range(self.cursor..) {
            let Body::Disk(place) = &chunk.bytes else { break };
            if total > 0 && total + place.len() > RECALL {
                break;
            }
            total += place.len();
            places.push((*seq, place.clone()));
        }
        places
    }

    /// A piece was read back; none if the disk has lost it, which is counted as dropped.
    pub fn recalled(&mut self, seq: u64, bytes: Option<Bytes>) {
        let Some(chunk) = self.chunks.get_mut(&seq).filter(|chunk| chunk.bytes.is_on_disk()) else { return };
        let (json, memory, len) = (chunk.json_len(), chunk.memory(), chunk.bytes.len());
        let lost = bytes.is_none();
        chunk.bytes = Body::Memory(bytes.unwrap_or_default());
        if !chunk.delivered {
            self.held += chunk.json_len();
            self.backlog = self.backlog + chunk.json_len() - json;
        }
        if lost {
            self.dropped += len as u64;
            if chunk.in_flight {
                self.in_flight = self.in_flight + chunk.memory() - memory;
            } else if chunk.delivered {
                self.retained -= len;
            }
        }
    }

    /// Whether the next event to hand out is on disk.
    pub(super) fn waits_for_disk(&self, seq: u64) -> bool {
        self.chunks.get(&seq).is_some_and(|chunk| chunk.bytes.is_on_disk())
    }
}
