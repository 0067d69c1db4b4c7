//! The access log: who asked for what, and what came of it.
//!
//! Lines flow in while requests are answered, and reach the store a moment later, many at a time, so that no request
//! waits for the log. Requests without a token of this server are counted, not listed: strangers cannot fill the disk.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Refusal, Service};
use crate::auth::Caller;
use crate::store::Access;

/// Lines that wait to be written. More are dropped and counted; a second's worth of requests is far below.
const WAITING_MAX: usize = 16_384;
/// Lines that are given up in one go, so that no other write waits for long.
const AT_ONCE: u32 = 10_000;
/// Lines on a page.
const PAGE: u32 = 1_000;

/// Lines on their way.
#[derive(Default)]
pub struct AccessLog {
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    lines: Vec<Access>,
    dropped: u64,
    strangers: u64,
}

impl AccessLog {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Service {
    /// A request was answered.
    pub fn note_access(&self, line: Access) {
        let mut waiting = self.access.waiting();
        if line.token.is_none() {
            waiting.strangers += u64::from(line.outcome == "401");
        } else if waiting.lines.len() < WAITING_MAX {
            waiting.lines.push(Access { at: self.clock.now(), count: 1, ..line });
        } else {
            waiting.dropped += 1;
        }
    }

    /// Writes what waits; also how many strangers came, if that is wanted.
    pub async fn save_access(&self, with_strangers: bool) {
        let now = self.clock.now();
        let sum = |action: &str, outcome: &str, count| Access {
            at: now,
            action: action.to_owned(),
            outcome: outcome.to_owned(),
            count,
            ..Access::default()
        };
        let (mut lines, dropped, strangers) = {
            let mut waiting = self.access.waiting();
            let strangers = if with_strangers { std::mem::take(&mut waiting.strangers) } else { 0 };
            (std::mem::take(&mut waiting.lines), std::mem::take(&mut waiting.dropped), strangers)
        };
        let own = lines.len();
        lines.extend((dropped > 0).then(|| sum("lines that found no room", "lost", dropped)));
        lines.extend((strangers > 0).then(|| sum("requests without a token of this server", "401", strangers)));
        if let Err(error) = self.store.append_access(&lines).await {
            tracing::warn!(%error, lines = lines.len(), "the access log could not be written; it is tried again");
            lines.truncate(own);
            let mut waiting = self.access.waiting();
            lines.append(&mut waiting.lines);
            let room = lines.len().min(WAITING_MAX);
            waiting.dropped += dropped + (lines.len() - room) as u64;
            waiting.strangers += strangers;
            lines.truncate(room);
            waiting.lines = lines;
        }
    }

    /// Gives up lines that are older than they have to be.
    pub async fn shorten_access(&self, keep: Duration) {
        let now = self.clock.now();
        let before = now.saturating_sub(keep.as_secs());
        loop {
            match self.store.shorten_access(before, AT_ONCE, now).await {
                Ok(0) => return,
                Ok(lines) => tracing::info!(lines, "lines of the access log were old enough to go"),
                Err(error) => {
                    tracing::warn!(%error, "the access log could not be shortened; it is tried again");
                    return;
                }
            }
        }
    }

    /// A page of the access log, for one who governs the server.
    pub async fn access_after(&self, caller: &Caller, id: u64) -> Result<Vec<Access>, Refusal> {
        caller.governs()?;
        self.save_access(false).await;
        Ok(self.store.access_after(id, PAGE).await?)
    }
}
