//! What one rendezvous leaves to the next that takes its place, so that nothing that it refused is let in there.

use serde::{Deserialize, Serialize};

use crate::gate::ClaimedTickets;
use crate::router::Fences;

/// Plain data, to be passed on: the tickets that were used, and what was cut. It holds no secret: an id of a ticket is
/// worth nothing without its signature.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Legacy {
    pub(crate) tickets: ClaimedTickets,
    pub(crate) fences: Fences,
}
