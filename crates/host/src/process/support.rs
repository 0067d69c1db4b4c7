//! What of sandboxes and limits works on this machine, found by trying.
//!
//! In flows a host, out flows a [`Support`]. Whatever is tried is gone afterwards.

use super::cgroup::{Bounds, Unavailable};
use super::confine;
use super::host::Host;
use crate::sandbox::{self, Support};

/// Limits that nothing here meets: bytes, and processes.
const MUCH: u64 = 1 << 30;
const MANY: u64 = 1 << 20;

impl Host {
    /// Tries every part.
    pub async fn support(&self) -> Support {
        let (view, alone) = sandbox::trials();
        let namespaces = confine::probe(self, view, true).await;
        let filter = confine::probe(self, alone, false).await;
        let limit = |bounds| self.site().make(bounds).map(drop).map_err(|Unavailable(why)| why);
        let memory = limit(Bounds { memory: Some(MUCH), ..Bounds::default() });
        let processes = limit(Bounds { processes: Some(MANY), ..Bounds::default() });
        Support::new(namespaces, sandbox::landlock(), filter, memory, processes)
    }
}
