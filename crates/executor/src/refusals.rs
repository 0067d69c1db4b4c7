//! Who is not let in: a line in the log and in the audit for the first of a kind, and one for all that follow it within
//! [`WINDOW`], so that nobody fills the disk by knocking.
//!
//! In flow addresses and reasons, out flow lines. The count is pure; around it are a lock, and a task that tells of the
//! repeated ones when their time is over. It decides about nobody.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::audit::{Audit, Record};
use crate::peer::Peer;

/// Refusals of one kind within this time make one line, beside that of the first.
const WINDOW: Duration = Duration::from_secs(10);
/// Kinds that are told apart within a window. Above it they are counted together.
const KINDS: usize = 64;

/// Why somebody was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Why {
    /// As many are connected as may be.
    NoRoom,
    /// The TLS handshake failed.
    NoTls,
    /// There was no TLS handshake in time.
    NoTlsInTime,
    /// What was to be shown was not: in the words of the answer.
    Denied(&'static str),
    /// An HTTP request that is no handshake of a websocket, by its status.
    Http(u16),
    /// No HTTP, or not in time.
    NoHttp,
    /// `initialize` was refused, with this code.
    NoSession(i64),
    /// Any of these, from more addresses than are told apart.
    Many,
}

/// From where: an address without its port, or the name of a kind of peer; none where they are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Door {
    Ip(IpAddr),
    Named(&'static str),
    Many,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Refusals {
    tally: Mutex<Tally>,
    counted: Notify,
    audit: Option<Audit>,
}

/// The pure count.
#[derive(Debug, Default)]
struct Tally {
    kinds: BTreeMap<(Door, Why), Kind>,
}

#[derive(Debug)]
struct Kind {
    over: Instant,
    again: u64,
}

impl Refusals {
    /// None yet.
    pub(crate) fn new(audit: Option<Audit>) -> Arc<Self> {
        Arc::new(Self { tally: Mutex::default(), counted: Notify::new(), audit })
    }

    /// `peer` was not let in: into the log and the audit, unless it only counts.
    pub(crate) fn tell(&self, peer: Peer, why: Why) {
        if self.is_first(peer, why) {
            write(self.audit.as_ref(), Door::of(peer), why, 1);
        }
    }

    /// Counts a refusal; whether it is the first of its kind for a while, to be told of at once.
    pub(crate) fn is_first(&self, peer: Peer, why: Why) -> bool {
        let first = self.tally().count((Door::of(peer), why), Instant::now());
        self.counted.notify_one();
        first
    }

    /// Tells of the repeated ones when their time is over, for ever.
    pub(crate) async fn run(&self) {
        loop {
            let next = self.tally().next();
            match next {
                None => self.counted.notified().await,
                Some(over) => tokio::time::sleep_until(over.into()).await,
            }
            self.flush(Some(Instant::now()));
        }
    }

    /// Tells of all repeated ones whose time is over by `now`, or of all that there are.
    pub(crate) fn flush(&self, now: Option<Instant>) {
        let over = self.tally().over(now);
        for ((door, why), again) in over {
            write(self.audit.as_ref(), door, why, again);
        }
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tally {
    fn count(&mut self, kind: (Door, Why), now: Instant) -> bool {
        let full = self.kinds.len() >= KINDS;
        let kind = if full && !self.kinds.contains_key(&kind) { (Door::Many, Why::Many) } else { kind };
        match self.kinds.get_mut(&kind) {
            Some(known) => {
                known.again += 1;
                false
            }
            None => {
                let again = u64::from(full);
                self.kinds.insert(kind, Kind { over: now + WINDOW, again });
                !full
            }
        }
    }

    fn next(&self) -> Option<Instant> {
        self.kinds.values().map(|kind| kind.over).min()
    }

    fn over(&mut self, now: Option<Instant>) -> Vec<((Door, Why), u64)> {
        let mut over = Vec::new();
        self.kinds.retain(|kind, known| {
            let stays = now.is_some_and(|now| known.over > now);
            if !stays && known.again > 0 {
                over.push((*kind, known.again));
            }
            stays
        });
        over
    }
}

fn write(audit: Option<&Audit>, door: Door, why: Why, times: u64) {
    tracing::warn!(peer = %door, times, "not let in: {why}");
    if let Some(audit) = audit {
        audit.tell(Record::NotLetIn { peer: door.to_string(), why: why.to_string(), times });
    }
}

impl Door {
    fn of(peer: Peer) -> Self {
        match peer {
            Peer::Tcp(address) => Self::Ip(address.ip()),
            Peer::Unix => Self::Named("unix socket"),
            Peer::Stdio => Self::Named("stdio"),
            Peer::Rendezvous | Peer::Stream(_) => Self::Named("rendezvous"),
        }
    }
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Named(name) => f.write_str(name),
            Self::Many => f.write_str("many"),
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRoom => f.write_str("as many are connected as may be"),
            Self::NoTls => f.write_str("the TLS handshake failed"),
            Self::NoTlsInTime => f.write_str("no TLS handshake in time"),
            Self::Denied(words) => f.write_str(words),
            Self::Http(status) => write!(f, "HTTP, answered {status}"),
            Self::NoHttp => f.write_str("no HTTP, or not in time"),
            Self::NoSession(code) => write!(f, "initialize was refused ({code})"),
            Self::Many => f.write_str("more addresses and reasons than are told apart"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(n: u8) -> (Door, Why) {
        (Door::Ip(IpAddr::from([10, 0, 0, n])), Why::NoTls)
    }

    #[test]
    fn the_first_is_told_at_once_and_the_others_together() {
        let (now, mut tally) = (Instant::now(), Tally::default());
        assert!(tally.count(kind(1), now) && tally.count(kind(2), now));
        assert_eq!(tally.next(), Some(now + WINDOW));
        for _ in 0..1000 {
            assert!(!tally.count(kind(1), now + WINDOW / 2));
        }
        assert_eq!(tally.over(Some(now + WINDOW / 2)), []);
        assert_eq!(tally.over(Some(now + WINDOW)), [(kind(1), 1000)]);
        assert_eq!(tally.next(), None);
        assert!(tally.count(kind(1), now + WINDOW), "it is the first of a new window");
    }

    #[test]
    fn from_too_many_addresses_they_are_counted_together() {
        let (now, mut tally) = (Instant::now(), Tally::default());
        let told = (0..200).filter(|n| tally.count(kind(*n), now)).count();
        assert_eq!((told, tally.kinds.len()), (KINDS, KINDS + 1));
        assert!(!tally.count(kind(0), now), "who is known is counted by name");
        let mut over = tally.over(None);
        over.sort_unstable();
        assert_eq!(over, [(kind(0), 1), ((Door::Many, Why::Many), 200 - KINDS as u64)]);
    }
}
