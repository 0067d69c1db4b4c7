//! How a router comes to its end: at once for all, or, with a successor in place, as each executor can be spared.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use exedra_proto::close::CloseReason;
use exedra_proto::ids::RegistrationId;

use super::{Connection, ConnectionId, Effect, Router, State};

/// Who may come in, and who may stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doors {
    /// Everybody.
    Open,
    /// Nobody comes in; an executor stays for as long as it has clients.
    Retiring,
    /// Nobody comes in, and nobody stays.
    Draining,
}

impl Router {
    /// Nobody is let in any more, and all have to go within `window`, one registration after the other.
    pub fn drain(&mut self, window: Duration) -> Vec<Effect> {
        if std::mem::replace(&mut self.doors, Doors::Draining) == Doors::Draining {
            return Vec::new();
        }
        let staying = |connection: &&Connection| connection.state != State::Doomed;
        let registrations: BTreeSet<_> =
            self.connections.values().filter(staying).map(|connection| &connection.registration).collect();
        let turns = turns(registrations.into_iter(), window);
        let staying = self.connections.iter().filter(|(_, connection)| staying(connection));
        let after = |connection: &Connection| turns.get(&connection.registration).copied().unwrap_or_default();
        staying.map(|(id, connection)| going_away(*id, after(connection))).collect()
    }

    /// Somebody else lets people in from now on: executors without clients have to go within `window`, one after the
    /// other, and each of the rest with its last client, or when it is [wanted](Router::wanted) elsewhere.
    pub fn retire(&mut self, window: Duration) -> Vec<Effect> {
        if self.doors != Doors::Open {
            return Vec::new();
        }
        self.doors = Doors::Retiring;
        let idle = self.meetings.values().filter(|meeting| meeting.is_idle()).map(|meeting| meeting.executor());
        let idle: BTreeSet<_> = idle.collect();
        turns(idle.into_iter(), window).into_iter().map(|(connection, after)| going_away(connection, after)).collect()
    }

    /// The executor of this registration is wanted. Where people are let in elsewhere now it has to go, its clients with it.
    /// While this router lets people in itself, a client that has the executor to itself is challenged: the one that waits may
    /// be the same, come back another way.
    pub fn wanted(&mut self, registration: &RegistrationId) -> Vec<Effect> {
        let mut effects = Vec::new();
        match self.doors {
            Doors::Retiring => {
                self.dissolve(registration, CloseReason::GoingAway, CloseReason::GoingAway, &mut effects);
            }
            Doors::Open => {
                let holder = self.meetings.get(registration).and_then(|meeting| meeting.holder());
                effects.extend(holder.map(|connection| Effect::Challenge { connection }));
            }
            _ => {}
        }
        effects
    }

    /// The end of an executor's last client is the executor's, too, where nobody lets new ones in.
    pub(super) fn send_away_if_idle(&mut self, registration: &RegistrationId, effects: &mut Vec<Effect>) {
        let is_idle = self.meetings.get(registration).is_some_and(|meeting| meeting.is_idle());
        if self.doors == Doors::Retiring && is_idle {
            self.dissolve(registration, CloseReason::GoingAway, CloseReason::GoingAway, effects);
        }
    }
}

/// When each one's turn is, spread evenly over `window`.
fn turns<T: Ord>(those: impl ExactSizeIterator<Item = T>, window: Duration) -> BTreeMap<T, Duration> {
    let count = u32::try_from(those.len()).unwrap_or(u32::MAX).max(1);
    those.zip((0..count).map(|turn| window * turn / count)).collect()
}

fn going_away(connection: ConnectionId, after: Duration) -> Effect {
    Effect::Close { connection, reason: CloseReason::GoingAway, after }
}

#[cfg(test)]
mod tests {
    use exedra_proto::ids::TokenId;
    use exedra_proto::ticket::{Claims, Rejection, Role, Shape};

    use exedra_proto::introduction::Client;

    use super::super::{End, Fences};
    use super::*;

    fn claims(role: Role, registration: &str, shape: Shape) -> Claims {
        Claims {
            registration: RegistrationId::new(registration),
            role,
            shape,
            epoch: 1,
            token: TokenId::new("t"),
            issued_at: 0,
            expires_at: 100,
            ticket_id: String::new(),
            client: Client::default(),
        }
    }

    fn enter(router: &mut Router, role: Role, registration: &str, shape: Shape) -> ConnectionId {
        let id = router.admit(&claims(role, registration, shape), 0).unwrap();
        router.opened(id);
        id
    }

    fn closed(effects: &[Effect]) -> Vec<ConnectionId> {
        let closed = effects.iter().filter_map(|effect| match effect {
            Effect::Close { connection, reason: CloseReason::GoingAway, .. } => Some(*connection),
            _ => None,
        });
        closed.collect()
    }

    fn at(connection: ConnectionId, after: u64) -> Effect {
        going_away(connection, Duration::from_secs(after))
    }

    #[test]
    fn the_idle_go_one_after_the_other_and_those_in_use_stay() {
        let mut router = Router::new(100, Fences::default());
        let used = enter(&mut router, Role::Executor, "used", Shape::Pair);
        enter(&mut router, Role::Harness, "used", Shape::Pair);
        let idle = ["a", "b"].map(|name| enter(&mut router, Role::Executor, name, Shape::Streams));
        assert_eq!(router.retire(Duration::from_secs(10)), [at(idle[0], 0), at(idle[1], 5)]);
        assert_eq!(router.retire(Duration::from_secs(10)), []);
        let newcomer = claims(Role::Executor, "new", Shape::Pair);
        assert_eq!(router.admit(&newcomer, 0), Err(Rejection::Draining));
        assert_eq!(closed(&router.wanted(&RegistrationId::new("b"))), [idle[1]], "sooner, if it is wanted");
        let mut left = closed(&router.drain(Duration::ZERO));
        left.retain(|id| *id == used);
        assert_eq!(left, [used], "and all go with a drain");
    }

    #[test]
    fn an_executor_goes_with_the_last_of_its_clients() {
        for shape in [Shape::Pair, Shape::Streams] {
            let mut router = Router::new(100, Fences::default());
            let executor = enter(&mut router, Role::Executor, "r", shape);
            let first = enter(&mut router, Role::Harness, "r", shape);
            let second = (shape == Shape::Streams).then(|| enter(&mut router, Role::Harness, "r", shape));
            assert_eq!(router.retire(Duration::ZERO), []);
            if let Some(second) = second {
                assert_eq!(router.ended(second, End::Done), []);
            }
            let effects = router.ended(first, End::Done);
            let gone =
                effects.iter().any(|it| matches!(it, Effect::Close { connection, .. } if *connection == executor));
            assert!(gone, "{shape:?}: {effects:?}");
        }
    }

    #[test]
    fn who_is_on_the_way_in_counts_as_a_client_and_an_executor_on_the_way_in_as_idle() {
        let mut router = Router::new(100, Fences::default());
        let executor = enter(&mut router, Role::Executor, "r", Shape::Pair);
        let client = router.admit(&claims(Role::Harness, "r", Shape::Pair), 0).unwrap();
        let late = router.admit(&claims(Role::Executor, "late", Shape::Pair), 0).unwrap();
        assert_eq!(router.retire(Duration::ZERO), []);
        assert_eq!(closed(&router.opened(late)), [late]);
        assert_eq!(closed(&router.ended(client, End::Lost)), [executor], "it came to nothing");
    }

    #[test]
    fn an_executor_that_is_wanted_elsewhere_goes_with_its_clients_but_only_to_a_successor() {
        let mut router = Router::new(100, Fences::default());
        let executor = enter(&mut router, Role::Executor, "r", Shape::Streams);
        let client = enter(&mut router, Role::Harness, "r", Shape::Streams);
        assert_eq!(router.wanted(&RegistrationId::new("r")), []);
        router.retire(Duration::ZERO);
        assert_eq!(closed(&router.wanted(&RegistrationId::new("r"))), [executor, client]);
        assert_eq!(router.wanted(&RegistrationId::new("r")), []);
    }

    #[test]
    fn what_is_remembered_can_be_passed_on() {
        let mut router = Router::new(100, Fences::default());
        enter(&mut router, Role::Executor, "r", Shape::Pair);
        router.cut_token(&TokenId::new("cut"), CloseReason::Revoked, 0);
        router.cut_registration(&RegistrationId::new("s"), CloseReason::Revoked, 0);
        let text = serde_json::to_string(router.fences()).unwrap();
        let mut next = Router::new(100, serde_json::from_str(&text).unwrap());
        let lower = Claims { epoch: 0, ..claims(Role::Executor, "r", Shape::Pair) };
        let cut = Claims { token: TokenId::new("cut"), ..claims(Role::Executor, "x", Shape::Pair) };
        for refused in [lower, cut, claims(Role::Executor, "s", Shape::Pair)] {
            assert_eq!(next.admit(&refused, 0), Err(Rejection::Fenced), "{refused:?}");
        }
        next.admit(&claims(Role::Executor, "r", Shape::Pair), 0).unwrap();
    }
}
