//! What the journal of events has: things that happened, with rising ids.
//!
//! Plain values; what kinds there are, and what belongs to them, is not known here.

use exedra_proto::ids::ExecutorId;
use serde::Serialize;
use serde_json::Value;

/// Events kept in the journal; the oldest give way.
pub const EVENTS_KEPT: u64 = 10_000;

/// Something that happened, to be written down.
#[derive(Clone, Debug, PartialEq)]
pub struct NewEvent {
    /// When, seconds since 1970.
    pub at: u64,
    /// What, in one stable word.
    pub kind: String,
    /// Of which executor, if it is of one.
    pub executor: Option<ExecutorId>,
    /// More of it; the members belong to the kind.
    pub detail: Value,
}

/// Something that happened, as the journal has it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Event {
    /// Its place: higher than that of any event before, never used again.
    pub id: u64,
    /// When, seconds since 1970.
    pub at: u64,
    /// What, in one stable word.
    pub kind: String,
    /// Of which executor, if it is of one.
    pub executor: Option<ExecutorId>,
    /// More of it; the members belong to the kind.
    pub detail: Value,
}
