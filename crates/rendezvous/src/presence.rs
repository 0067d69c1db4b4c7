//! Reports to the registry, each once and in order.
//!
//! Reports are [put](Reports::put) into a queue while the router is locked, and [delivered](Reports::deliver) without any
//! lock by whoever comes first; so the registry may call back from within a report (a cut, say) and neither deadlocks nor
//! overtakes. It knows no connection.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use exedra_proto::ids::RegistrationId;
use exedra_proto::plane::Presence;

/// One call of [`Presence`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// [`Presence::online`], or [`Presence::online_told`].
    Online(RegistrationId, u64, bool),
    /// [`Presence::replaced`].
    Replaced(RegistrationId),
    /// [`Presence::held`].
    Held(RegistrationId),
    /// [`Presence::offline`].
    Offline(RegistrationId, u64),
}

/// The queue. It holds what arose while one report was under way, so at most four calls for each connection that is
/// open at the moment; nobody waits for it.
pub struct Reports {
    presence: Arc<dyn Presence>,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    calls: VecDeque<Call>,
    delivering: bool,
}

impl Reports {
    /// Reports to `presence`.
    pub fn new(presence: Arc<dyn Presence>) -> Self {
        Self { presence, queue: Mutex::default() }
    }

    /// Adds a call.
    pub fn put(&self, call: Call) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).calls.push_back(call);
    }

    /// Makes all calls, unless somebody is at it.
    pub fn deliver(&self) {
        let Some(turn) = Turn::take(self) else { return };
        while let Some(call) = turn.next() {
            match call {
                Call::Online(registration, epoch, false) => self.presence.online(&registration, epoch),
                Call::Online(registration, epoch, true) => self.presence.online_told(&registration, epoch),
                Call::Replaced(registration) => self.presence.replaced(&registration),
                Call::Held(registration) => self.presence.held(&registration),
                Call::Offline(registration, bytes) => self.presence.offline(&registration, bytes),
            }
        }
    }
}

/// The right to deliver; given back also when a call panics.
struct Turn<'a> {
    reports: &'a Reports,
    over: Cell<bool>,
}

impl<'a> Turn<'a> {
    fn take(reports: &'a Reports) -> Option<Self> {
        let mut queue = reports.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut queue.delivering, true) {
            return None;
        }
        Some(Self { reports, over: Cell::new(false) })
    }

    /// The next call; with the last one the right ends, under the same lock.
    fn next(&self) -> Option<Call> {
        let mut queue = self.reports.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let call = queue.calls.pop_front();
        queue.delivering = call.is_some();
        self.over.set(call.is_none());
        call
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if !self.over.get() {
            self.reports.queue.lock().unwrap_or_else(PoisonError::into_inner).delivering = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use super::*;

    /// Writes down what it is told, and makes more reports from within.
    #[derive(Default)]
    struct Talkative {
        told: Mutex<Vec<String>>,
        reports: OnceLock<Arc<Reports>>,
    }

    impl Presence for Talkative {
        fn online(&self, registration: &RegistrationId, epoch: u64) {
            let reports = self.reports.get().unwrap();
            reports.put(Call::Offline(RegistrationId::new("older"), 7));
            reports.deliver();
            self.told.lock().unwrap().push(format!("online {registration} {epoch}"));
        }

        fn held(&self, _registration: &RegistrationId) {
            panic!("a registry that fails");
        }

        fn offline(&self, registration: &RegistrationId, bytes: u64) {
            self.told.lock().unwrap().push(format!("offline {registration} {bytes}"));
        }
    }

    fn talkative() -> (Arc<Talkative>, Arc<Reports>) {
        let talkative = Arc::new(Talkative::default());
        let reports = Arc::new(Reports::new(talkative.clone()));
        assert!(talkative.reports.set(reports.clone()).is_ok());
        (talkative, reports)
    }

    #[test]
    fn a_report_from_within_a_report_follows_it() {
        let (talkative, reports) = talkative();
        reports.put(Call::Online(RegistrationId::new("newer"), 2, false));
        reports.deliver();
        assert_eq!(*talkative.told.lock().unwrap(), ["online newer 2", "offline older 7"]);
    }

    #[test]
    fn a_report_that_panics_stops_no_other() {
        let (talkative, reports) = talkative();
        reports.put(Call::Held(RegistrationId::new("r")));
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| reports.deliver()));
        assert!(result.is_err());
        reports.put(Call::Offline(RegistrationId::new("r"), 1));
        reports.deliver();
        assert_eq!(*talkative.told.lock().unwrap(), ["offline r 1"]);
    }

    #[test]
    fn reports_of_many_threads_all_arrive() {
        let (talkative, reports) = talkative();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let reports = &reports;
                scope.spawn(move || {
                    for i in 0..500 {
                        reports.put(Call::Offline(RegistrationId::new(format!("{thread}")), i));
                        reports.deliver();
                    }
                });
            }
        });
        let told = talkative.told.lock().unwrap();
        for thread in 0..4 {
            let own: Vec<_> = told.iter().filter(|call| call.starts_with(&format!("offline {thread} "))).collect();
            assert_eq!(
                own,
                (0..500).map(|i| format!("offline {thread} {i}")).collect::<Vec<_>>().iter().collect::<Vec<_>>()
            );
        }
    }
}
