//! The router: who may come in, who meets whom, who has to go. A pure state machine.
//!
//! In come events (a ticket at the door, a connection opened or ended, a cut, a drain) with the time as a parameter, out
//! come [`Effect`]s in the order in which they have to be carried out. It knows no socket, no clock and no task; what a
//! shape of meeting is ([`pair`], [`streams`]) stands in a file of its own.

mod departure;
mod fence;
mod meeting;
mod pair;
mod streams;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use exedra_proto::close::CloseReason;
use exedra_proto::ids::{RegistrationId, TokenId};
use exedra_proto::ticket::{Claims, Rejection, Role, Shape};

use departure::Doors;
pub use fence::Fences;
use meeting::Meeting;

/// One websocket, from the moment its ticket was found good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(u64);

impl ConnectionId {
    /// Its number, which no other has.
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The connection with this number.
    #[cfg(test)]
    pub const fn test(number: u64) -> Self {
        Self(number)
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}", self.0)
    }
}

/// Something to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Messages pass between these two from now on.
    Join {
        /// The one that serves.
        executor: ConnectionId,
        /// The one that is served.
        client: ConnectionId,
    },
    /// This connection has to go.
    Close {
        /// Which.
        connection: ConnectionId,
        /// What it is told. In good order ([`CloseReason::is_good_order`]) it first gets all that came for it.
        reason: CloseReason,
        /// When, counted from now.
        after: Duration,
    },
    /// This connection has to give a sign of life soon.
    Challenge {
        /// Which.
        connection: ConnectionId,
    },
    /// The registry has to know.
    Report(Report),
}

/// A change of an executor's presence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// Connected and free.
    Online {
        /// Of which registration.
        registration: RegistrationId,
        /// Its fencing number.
        epoch: u64,
        /// It is told who its clients are.
        told: bool,
    },
    /// Its connection took the place of one that had not ended.
    Replaced {
        /// Of which registration.
        registration: RegistrationId,
    },
    /// A client joined.
    Held {
        /// Of which registration.
        registration: RegistrationId,
    },
    /// No longer there for anybody.
    Offline {
        /// Of which registration.
        registration: RegistrationId,
        /// The connection that it was.
        executor: ConnectionId,
    },
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With a close frame from the peer, in good order.
    Done,
    /// With a close frame from the peer that says that something is wrong, or that it ends.
    Left(CloseReason),
    /// Without one.
    Lost,
    /// The peer was silent for too long.
    Silent,
    /// The peer broke the rules; it is told this reason.
    Broke(CloseReason),
    /// It was told to go.
    Ordered(CloseReason),
}

impl End {
    /// What the client of an executor that ended like this is told.
    fn for_client(self) -> CloseReason {
        match self {
            Self::Done => CloseReason::PeerDone,
            Self::Lost | Self::Silent => CloseReason::PeerLost,
            Self::Left(CloseReason::GoingAway) => CloseReason::PeerLeaving,
            Self::Left(reason) | Self::Broke(reason) | Self::Ordered(reason) => reason,
        }
    }

    /// What the executor of a client that ended like this is told: whatever the client did, the executor is in good order
    /// and its next client may be waiting.
    fn for_executor(self) -> CloseReason {
        match self {
            Self::Done | Self::Left(_) => CloseReason::PeerDone,
            Self::Ordered(CloseReason::GoingAway) => CloseReason::GoingAway,
            Self::Lost | Self::Silent | Self::Broke(_) | Self::Ordered(_) => CloseReason::PeerLost,
        }
    }
}

#[derive(Debug)]
struct Connection {
    registration: RegistrationId,
    role: Role,
    shape: Shape,
    token: TokenId,
    epoch: u64,
    /// When its ticket was issued, seconds since 1970.
    issued_at: u64,
    /// An executor that asked to be told who its clients are.
    told: bool,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Its ticket is good; the upgrade is under way.
    Admitted,
    Open,
    /// It was told to go when it has got what came for it.
    Leaving,
    /// It was told to go at once.
    Doomed,
}

/// The state of all registrations and connections.
#[derive(Debug)]
pub struct Router {
    connections: BTreeMap<ConnectionId, Connection>,
    meetings: BTreeMap<RegistrationId, Meeting>,
    fences: Fences,
    max_connections: usize,
    next_id: u64,
    doors: Doors,
}

impl Router {
    /// Nobody is there; `fences` is what is known against tickets from before.
    pub fn new(max_connections: usize, fences: Fences) -> Self {
        Self {
            connections: BTreeMap::new(),
            meetings: BTreeMap::new(),
            fences,
            max_connections,
            next_id: 0,
            doors: Doors::Open,
        }
    }

    /// Lets the bearer of a good ticket in, or says why not. A client's place is kept until [`Router::ended`].
    ///
    /// # Errors
    /// Draining, full or fenced; for a client also that the executor is away or held, or that this one may do less than all
    /// and the executor is not told.
    pub fn admit(&mut self, claims: &Claims, now: u64) -> Result<ConnectionId, Rejection> {
        if self.doors != Doors::Open {
            return Err(Rejection::Draining);
        }
        self.fences.pass(&claims.registration, (&claims.token, claims.issued_at), claims.epoch, now)?;
        let id = ConnectionId(self.next_id);
        let full = self.connections.len() >= self.max_connections;
        match claims.role {
            Role::Executor if full => return Err(Rejection::Overloaded),
            Role::Executor => {}
            Role::Harness => {
                let meeting = self.meetings.get_mut(&claims.registration).ok_or(Rejection::ExecutorAway)?;
                meeting.check(claims.shape, claims.epoch, &claims.token)?;
                let told = self.connections.get(&meeting.executor()).is_some_and(|executor| executor.told);
                if !told && !claims.client.rights.is_all() {
                    return Err(Rejection::NotTold);
                }
                if full {
                    return Err(Rejection::Overloaded);
                }
                meeting.reserve(id, &claims.token);
            }
        }
        self.next_id += 1;
        let connection = Connection {
            registration: claims.registration.clone(),
            role: claims.role,
            shape: claims.shape,
            token: claims.token.clone(),
            epoch: claims.epoch,
            issued_at: claims.issued_at,
            told: false,
            state: State::Admitted,
        };
        self.connections.insert(id, connection);
        Ok(id)
    }

    /// This executor, which has just been let in, asked to be told who its clients are, and will be.
    pub fn will_be_told(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.told = connection.role == Role::Executor;
        }
    }

    /// The upgrade is done.
    pub fn opened(&mut self, id: ConnectionId) -> Vec<Effect> {
        let Some(connection) = self.connections.get_mut(&id) else { return Vec::new() };
        if connection.state != State::Admitted {
            return Vec::new();
        }
        connection.state = State::Open;
        match connection.role {
            Role::Executor => self.executor_opened(id),
            Role::Harness => self.client_opened(id),
        }
    }

    fn executor_opened(&mut self, id: ConnectionId) -> Vec<Effect> {
        let mut effects = Vec::new();
        let Some(connection) = self.connections.get(&id) else { return effects };
        let Connection { epoch, shape, told, .. } = *connection;
        let registration = connection.registration.clone();
        if self.fences.is_below(&registration, epoch) {
            self.close(id, CloseReason::Replaced, &mut effects);
            return effects;
        }
        if self.meetings.contains_key(&registration) {
            effects.push(Effect::Report(Report::Replaced { registration: registration.clone() }));
        }
        self.dissolve(&registration, CloseReason::Replaced, CloseReason::Replaced, &mut effects);
        self.meetings.insert(registration.clone(), Meeting::new(shape, id, epoch));
        effects.push(Effect::Report(Report::Online { registration: registration.clone(), epoch, told }));
        self.send_away_if_idle(&registration, &mut effects);
        effects
    }

    fn client_opened(&mut self, id: ConnectionId) -> Vec<Effect> {
        let Some(connection) = self.connections.get(&id) else { return Vec::new() };
        let registration = connection.registration.clone();
        let Some(meeting) = self.meetings.get_mut(&registration) else { return Vec::new() };
        let Some(executor) = meeting.join(id) else { return Vec::new() };
        let mut effects = vec![Effect::Join { executor, client: id }];
        if meeting.is_exclusive() {
            effects.push(Effect::Report(Report::Held { registration }));
        } else if let Some(yielding) = meeting.yielding() {
            self.release_and_close(yielding, CloseReason::GaveWay, &mut effects);
        }
        effects
    }

    /// The connection is of no more use, or its upgrade failed. Nothing happens when it is said twice.
    pub fn ended(&mut self, id: ConnectionId, end: End) -> Vec<Effect> {
        let mut effects = Vec::new();
        let Some(connection) = self.connections.remove(&id) else { return effects };
        let registration = connection.registration;
        let Some(meeting) = self.meetings.get_mut(&registration) else { return effects };
        if meeting.ends_with(id) {
            self.dissolve(&registration, end.for_executor(), end.for_client(), &mut effects);
        } else {
            meeting.release(id);
            self.send_away_if_idle(&registration, &mut effects);
        }
        effects
    }

    /// The registration has to go, and its tickets are refused from now on.
    pub fn cut_registration(&mut self, registration: &RegistrationId, reason: CloseReason, now: u64) -> Vec<Effect> {
        self.fences.shut_registration(registration, now);
        let mut effects = Vec::new();
        self.dissolve(registration, reason, reason, &mut effects);
        self.close_all(|connection| connection.registration == *registration, reason, &mut effects);
        effects
    }

    /// All that came in by this token has to go, and its tickets that were issued up to now are refused.
    pub fn cut_token(&mut self, token: &TokenId, reason: CloseReason, now: u64) -> Vec<Effect> {
        self.fences.shut_token(token, now);
        self.cut_expired(token, reason)
    }

    /// All that came in by this token has to go; its tickets have ended by themselves.
    pub fn cut_expired(&mut self, token: &TokenId, reason: CloseReason) -> Vec<Effect> {
        self.cut_all(|connection| connection.token == *token, reason)
    }

    /// All that came in by this token's tickets that were issued up to `until` has to go, and those tickets are refused.
    pub fn cut_renewed(&mut self, token: &TokenId, until: u64, reason: CloseReason, now: u64) -> Vec<Effect> {
        self.fences.renew_token(token, until, now);
        self.cut_all(|connection| connection.token == *token && connection.issued_at <= until, reason)
    }

    /// Clients of this token have to leave the executor of this registration, and their tickets that were issued up to now are
    /// refused.
    pub fn bar(
        &mut self,
        registration: &RegistrationId,
        token: &TokenId,
        reason: CloseReason,
        now: u64,
    ) -> Vec<Effect> {
        self.fences.bar(registration, token, now);
        let is_barred = |connection: &Connection| {
            connection.role == Role::Harness
                && connection.token == *token
                && connection.registration == *registration
                && connection.issued_at <= now
        };
        self.cut_all(is_barred, reason)
    }

    fn cut_all(&mut self, is_one: impl Fn(&Connection) -> bool, reason: CloseReason) -> Vec<Effect> {
        let gone = self.connections.iter().filter(|(_, connection)| is_one(connection)).map(|(id, _)| *id).collect();
        self.cut_connections(&gone, reason)
    }

    /// These connections have to go.
    pub fn cut_connections(&mut self, gone: &BTreeSet<ConnectionId>, reason: CloseReason) -> Vec<Effect> {
        let mut effects = Vec::new();
        let mut cut = Vec::new();
        for (registration, meeting) in &self.meetings {
            let ends_it = |id: &ConnectionId| gone.contains(id) && meeting.ends_with(*id);
            if gone.contains(&meeting.executor()) {
                cut.push((registration.clone(), reason));
            } else if meeting.clients().iter().any(ends_it) {
                cut.push((registration.clone(), CloseReason::PeerLost));
            }
        }
        for (registration, executor_reason) in cut {
            self.dissolve(&registration, executor_reason, reason, &mut effects);
        }
        for id in gone {
            self.release_and_close(*id, reason, &mut effects);
        }
        effects
    }

    /// What is remembered against tickets.
    pub fn fences(&self) -> &Fences {
        &self.fences
    }

    /// How many connections there are, those under way and those on their way out included.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Ends the meeting at `registration`, if there is one: both sides have to go.
    fn dissolve(
        &mut self,
        registration: &RegistrationId,
        executor_reason: CloseReason,
        client_reason: CloseReason,
        effects: &mut Vec<Effect>,
    ) {
        let Some(meeting) = self.meetings.remove(registration) else { return };
        let executor = meeting.executor();
        self.close(executor, executor_reason, effects);
        for client in meeting.clients() {
            self.close(client, client_reason, effects);
        }
        effects.push(Effect::Report(Report::Offline { registration: registration.clone(), executor }));
    }

    /// Closes all of a kind, and frees the places that they were kept.
    fn close_all(&mut self, is_one: impl Fn(&Connection) -> bool, reason: CloseReason, effects: &mut Vec<Effect>) {
        let ids: Vec<_> =
            self.connections.iter().filter(|(_, connection)| is_one(connection)).map(|(id, _)| *id).collect();
        for id in ids {
            self.release_and_close(id, reason, effects);
        }
    }

    fn release_and_close(&mut self, id: ConnectionId, reason: CloseReason, effects: &mut Vec<Effect>) {
        if let Some(meeting) = self.connections.get(&id).and_then(|one| self.meetings.get_mut(&one.registration)) {
            meeting.release(id);
        }
        self.close(id, reason, effects);
    }

    /// Tells a connection to go, unless it was told as much.
    fn close(&mut self, id: ConnectionId, reason: CloseReason, effects: &mut Vec<Effect>) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let state = if reason.is_good_order() { State::Leaving } else { State::Doomed };
        if connection.state == State::Doomed || connection.state == state {
            return;
        }
        connection.state = state;
        effects.push(Effect::Close { connection: id, reason, after: Duration::ZERO });
    }
}

#[cfg(test)]
mod tests;
