//! The table of sessions: who holds which, and which are to go.
//!
//! In flow creations, resumptions, detachments and the time; out flow sessions to hand to a connection or to end. It is
//! generic over what a session holds and knows neither processes nor connections beyond their numbers, and no clock.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use exedra_proto::ids::SessionId;

/// The number of one connection, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// Why a connection gets no session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is none of that id, or no longer.
    Unknown,
    /// This connection holds it.
    Attached(ConnectionId),
    /// Somebody used it who may do what this client may not.
    Rights,
    /// There are as many as may be.
    Full(usize),
    /// None can be made any more.
    Closed,
}

/// The sessions of one executor.
#[derive(Debug)]
pub struct Table<S> {
    sessions: HashMap<SessionId, Entry<S>>,
    ttl: Duration,
    max_detached: usize,
    open: bool,
}

#[derive(Debug)]
struct Entry<S> {
    session: S,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Attached(ConnectionId),
    Detached { since: Instant },
}

impl<S: Clone> Table<S> {
    /// An empty table whose detached sessions live for `ttl`, at most `max_detached` of them.
    pub fn new(ttl: Duration, max_detached: usize) -> Self {
        Self { sessions: HashMap::new(), ttl, max_detached, open: true }
    }

    /// Puts a new session in, held by `connection`; false if the table is closed.
    pub fn create(&mut self, id: SessionId, session: S, connection: ConnectionId) -> bool {
        if self.open {
            self.sessions.insert(id, Entry { session, state: State::Attached(connection) });
        }
        self.open
    }

    /// Hands a detached session to `connection`.
    ///
    /// # Errors
    /// It is not there, its time is over, or another connection holds it.
    pub fn resume(&mut self, id: &SessionId, connection: ConnectionId, now: Instant) -> Result<S, Refusal> {
        let ttl = self.ttl;
        let entry = self.sessions.get_mut(id).ok_or(Refusal::Unknown)?;
        match entry.state {
            State::Attached(holder) => Err(Refusal::Attached(holder)),
            State::Detached { since } if now.saturating_duration_since(since) >= ttl => Err(Refusal::Unknown),
            State::Detached { .. } => {
                entry.state = State::Attached(connection);
                Ok(entry.session.clone())
            }
        }
    }

    /// The session, whoever holds it.
    pub fn get(&self, id: &SessionId) -> Option<&S> {
        self.sessions.get(id).map(|entry| &entry.session)
    }

    /// Takes the session from `connection`; false if that does not hold it any more.
    pub fn detach(&mut self, id: &SessionId, connection: ConnectionId, now: Instant) -> bool {
        match self.sessions.get_mut(id) {
            Some(entry) if matches!(entry.state, State::Attached(holder) if holder == connection) => {
                entry.state = State::Detached { since: now };
                true
            }
            _ => false,
        }
    }

    /// Whether `connection` holds the session.
    pub fn holds(&self, id: &SessionId, connection: ConnectionId) -> bool {
        self.sessions.get(id).is_some_and(|e| matches!(e.state, State::Attached(holder) if holder == connection))
    }

    /// Takes out the detached sessions whose time is over, and those above the limit: the longest detached without a
    /// live process first, then the longest detached.
    pub fn expire(&mut self, now: Instant, is_live: impl Fn(&S) -> bool) -> Vec<(SessionId, S)> {
        let mut detached: Vec<(bool, Instant, SessionId)> = Vec::new();
        let mut gone = Vec::new();
        for (id, entry) in &self.sessions {
            if let State::Detached { since } = entry.state {
                if now.saturating_duration_since(since) >= self.ttl {
                    gone.push(id.clone());
                } else {
                    detached.push((is_live(&entry.session), since, id.clone()));
                }
            }
        }
        detached.sort();
        let surplus = detached.len().saturating_sub(self.max_detached);
        gone.extend(detached.into_iter().take(surplus).map(|(_, _, id)| id));
        gone.into_iter().filter_map(|id| self.sessions.remove(&id).map(|entry| (id, entry.session))).collect()
    }

    /// When [`Table::expire`] has something to do again.
    pub fn next_expiry(&self) -> Option<Instant> {
        let since = |entry: &Entry<S>| match entry.state {
            State::Detached { since } => Some(since),
            State::Attached(_) => None,
        };
        self.sessions.values().filter_map(since).min().map(|since| since + self.ttl)
    }

    /// Takes everything out and lets nothing in any more.
    pub fn close(&mut self) -> Vec<(SessionId, S)> {
        self.open = false;
        self.sessions.drain().map(|(id, entry)| (id, entry.session)).collect()
    }

    /// How many sessions there are.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(10);
    const A: ConnectionId = ConnectionId(1);
    const B: ConnectionId = ConnectionId(2);

    fn id(text: &str) -> SessionId {
        SessionId::new(text)
    }

    fn ids(gone: Vec<(SessionId, u32)>) -> Vec<String> {
        let mut ids: Vec<_> = gone.into_iter().map(|(id, _)| id.to_string()).collect();
        ids.sort();
        ids
    }

    #[test]
    fn a_session_changes_hands_only_when_detached() {
        let now = Instant::now();
        let mut table = Table::new(TTL, 9);
        assert!(table.create(id("s"), 7, A));
        assert_eq!(table.resume(&id("s"), B, now), Err(Refusal::Attached(A)));
        assert_eq!(table.resume(&id("t"), B, now), Err(Refusal::Unknown));
        assert!(!table.detach(&id("s"), B, now));
        assert!(table.detach(&id("s"), A, now));
        assert!(!table.detach(&id("s"), A, now));
        assert_eq!(table.resume(&id("s"), B, now), Ok(7));
        assert!(table.holds(&id("s"), B) && !table.holds(&id("s"), A));
    }

    #[test]
    fn a_late_detach_of_the_old_holder_takes_nothing_from_the_new() {
        let now = Instant::now();
        let mut table = Table::new(TTL, 9);
        table.create(id("s"), 7, A);
        table.detach(&id("s"), A, now);
        table.resume(&id("s"), B, now).unwrap();
        assert!(!table.detach(&id("s"), A, now));
        assert!(table.holds(&id("s"), B));
    }

    #[test]
    fn expiry_counts_from_the_last_detachment() {
        let start = Instant::now();
        let at = |s: u64| start + Duration::from_secs(s);
        let mut table = Table::new(TTL, 9);
        table.create(id("s"), 7, A);
        assert_eq!(table.next_expiry(), None);
        assert!(table.expire(at(1_000), |_| false).is_empty());
        table.detach(&id("s"), A, at(0));
        table.resume(&id("s"), B, at(9)).unwrap();
        table.detach(&id("s"), B, at(9));
        assert_eq!(table.next_expiry(), Some(at(19)));
        assert!(table.expire(at(18), |_| false).is_empty());
        assert_eq!(table.resume(&id("s"), B, at(19)), Err(Refusal::Unknown));
        assert_eq!(ids(table.expire(at(19), |_| true)), ["s"]);
        assert_eq!((table.len(), table.next_expiry()), (0, None));
    }

    #[test]
    fn above_the_limit_the_idle_go_first_and_the_oldest_of_them() {
        let start = Instant::now();
        let mut table = Table::new(TTL, 2);
        for (n, name) in ["live-1", "idle-2", "idle-3", "live-4"].into_iter().enumerate() {
            table.create(id(name), n as u32, A);
            table.detach(&id(name), A, start + Duration::from_millis(n as u64));
        }
        let live = |n: &u32| *n == 0 || *n == 3;
        assert_eq!(ids(table.expire(start, live)), ["idle-2", "idle-3"]);
        table.create(id("idle-5"), 5, A);
        table.detach(&id("idle-5"), A, start + Duration::from_millis(9));
        assert_eq!(ids(table.expire(start, |_| true)), ["live-1"]);
    }

    #[test]
    fn a_closed_table_takes_nothing_in() {
        let mut table = Table::new(TTL, 2);
        table.create(id("s"), 1, A);
        assert_eq!(ids(table.close()), ["s"]);
        assert!(!table.create(id("t"), 2, A));
        assert_eq!(table.len(), 0);
    }

    /// Random operations against a reference that is only a list.
    #[test]
    fn agrees_with_a_plain_list_on_random_sequences() {
        let mut seed = 1_u64;
        let mut below = move |n: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % n
        };
        let cases = std::env::var("EXEDRA_CASES").map_or(500, |n| n.parse::<u32>().unwrap());
        for _ in 0..cases {
            let mut now = Instant::now();
            let mut table = Table::new(TTL, usize::MAX);
            // Name, holder, detached since.
            let mut list: Vec<(u64, Option<u64>, Instant)> = Vec::new();
            for step in 0..40 {
                now += Duration::from_secs(below(4));
                let (name, connection) = (below(step + 1), below(3));
                let found = list.iter().position(|(n, ..)| *n == name);
                match below(4) {
                    0 if found.is_none() => {
                        table.create(id(&name.to_string()), name, ConnectionId(connection));
                        list.push((name, Some(connection), now));
                    }
                    1 => {
                        let result = table.resume(&id(&name.to_string()), ConnectionId(connection), now);
                        let expected = match found.map(|i| &mut list[i]) {
                            None => Err(Refusal::Unknown),
                            Some((_, Some(holder), _)) => Err(Refusal::Attached(ConnectionId(*holder))),
                            Some((_, None, since)) if now - *since >= TTL => Err(Refusal::Unknown),
                            Some(entry) => {
                                entry.1 = Some(connection);
                                Ok(name)
                            }
                        };
                        assert_eq!(result, expected);
                    }
                    2 => {
                        let holds = found.is_some_and(|i| list[i].1 == Some(connection));
                        assert_eq!(table.detach(&id(&name.to_string()), ConnectionId(connection), now), holds);
                        if let (true, Some(i)) = (holds, found) {
                            (list[i].1, list[i].2) = (None, now);
                        }
                    }
                    _ => {
                        let over = |e: &(u64, Option<u64>, Instant)| e.1.is_none() && now - e.2 >= TTL;
                        let mut expected: Vec<_> = list.iter().filter(|e| over(e)).map(|e| e.0).collect();
                        let mut gone: Vec<_> = table.expire(now, |_| false).into_iter().map(|(_, s)| s).collect();
                        expected.sort_unstable();
                        gone.sort_unstable();
                        assert_eq!(gone, expected);
                        list.retain(|e| !over(e));
                    }
                }
                assert_eq!(table.len(), list.len());
            }
        }
    }
}
