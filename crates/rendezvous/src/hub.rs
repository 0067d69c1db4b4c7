//! The router's driver: it holds the router under one lock, and carries its effects out in their order.
//!
//! In come events of connections and orders of the registry, out go commands to the tasks of connections, through their
//! [`Mailbox`]es, and reports of presence. Each connection is a [`Link`] in the hands of one task; that of a client is
//! passed on to its executor's task. A link that is dropped, however, has ended: its [`Seat`] sees to it. Nothing here
//! waits or does I/O.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use exedra_proto::close::CloseReason;
use exedra_proto::ids::{RegistrationId, TokenId};
use exedra_proto::introduction::Introduction;
use exedra_proto::plane::{Connection, Origin, Presence};
use exedra_proto::ticket::{Claims, Rejection, Role, Shape};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::budget::Budget;
use crate::conduct::{Conduct, Standing};
use crate::limits::HALLS_QUEUE;
use crate::linger::Last;
use crate::mailbox::{self, Letter, Slot};
use crate::presence::{Call, Reports};
use crate::router::{ConnectionId, Effect, End, Fences, Report, Router};
use crate::socket::Socket;

/// What a connection's task is told.
pub type Command = mailbox::Command<Box<Link>>;
/// Where it is told.
pub type Mailbox = mailbox::Mailbox<Box<Link>>;

/// A connection that is open.
pub struct Link {
    /// Its place in the router.
    pub seat: Seat,
    /// Its websocket.
    pub socket: Socket,
    /// Its commands.
    pub mailbox: Mailbox,
}

/// A connection's place in the router, given up once.
pub struct Seat {
    hub: Arc<Hub>,
    /// Which connection.
    pub id: ConnectionId,
    /// Its registration, for the log.
    pub registration: RegistrationId,
    /// Its side.
    pub role: Role,
    /// The shape of its meeting.
    pub shape: Shape,
    /// Since when, for the log.
    pub since: Instant,
    /// Payload that passed in both directions, in bytes.
    pub bytes: Arc<AtomicU64>,
    /// Where it comes from, if the server says so; held to its end, so that it counts as long.
    pub origin: Option<Origin>,
    /// An executor that is told who its clients are.
    pub told: bool,
    /// A client, as such an executor is told of it.
    pub introduction: Option<Box<Introduction>>,
}

impl Seat {
    /// What all halls share.
    pub fn budget(&self) -> Arc<Budget> {
        Arc::clone(&self.hub.budget)
    }

    /// How a token stands at this executor.
    pub fn standing(&self, token: &TokenId) -> Standing {
        self.hub.lock().conduct.standing(&self.registration, token)
    }

    /// A client of this token kept the others of this executor waiting, and was waited for in vain: how it stands now.
    pub fn stalled(&self, token: &TokenId, waited: Duration) -> Standing {
        let mut state = self.hub.lock();
        state.stalls += 1;
        state.stalled += waited;
        state.conduct.stalled((&self.registration, token), waited, self.hub.patience, Instant::now().into_std())
    }

    /// Something was passed on for this executor; whether that was so last time, too, and not for another one.
    pub fn passes_on_alone(&self) -> bool {
        self.hub.last.was(self.id)
    }

    /// The connection is of no more use.
    pub fn ended(&self, end: End) {
        self.hub.ended(self.id, end);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.ended(End::Lost);
    }
}

/// What there is to count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Executors' connections.
    pub executors: usize,
    /// Clients' connections.
    pub clients: usize,
    /// Payload relayed both ways since the start.
    pub bytes: u64,
    /// Bytes that wait for executors with many clients, and for those.
    pub queued: usize,
    /// Streams open there.
    pub streams: usize,
    /// Clients that were closed since they kept others waiting.
    pub stalls: u64,
    /// How long those were waited for.
    pub stalled: Duration,
}

/// The driver.
pub struct Hub {
    state: Mutex<State>,
    reports: Reports,
    emptied: Notify,
    budget: Arc<Budget>,
    /// How long one who keeps others waiting is waited for.
    patience: Duration,
    last: Last,
}

struct State {
    router: Router,
    conduct: Conduct,
    stalls: u64,
    stalled: Duration,
    wires: HashMap<ConnectionId, Wire>,
    /// Payload of those that have ended.
    relayed: u64,
    /// The ids of signing keys that tickets named, each once.
    keys: HashSet<Arc<str>>,
    /// Those that were revoked: a ticket may have been found good the moment before.
    revoked_keys: HashSet<String>,
}

/// The way to a connection's task.
struct Wire {
    slot: Slot<Box<Link>>,
    bytes: Arc<AtomicU64>,
    claims: Held,
}

impl Wire {
    /// Payload that was relayed here. An executor's connection has that of its clients.
    fn relayed(&self) -> u64 {
        match self.claims.role {
            Role::Executor => self.bytes.load(Ordering::Relaxed),
            Role::Harness => 0,
        }
    }
}

/// What a connection's ticket says of it, for those who ask who is there.
struct Held {
    registration: RegistrationId,
    role: Role,
    token: TokenId,
    /// The key that signed the ticket; one text for all of its connections.
    key: Arc<str>,
    since: u64,
}

impl State {
    /// The id of a key, in the one place where it is kept.
    fn key(&mut self, key_id: &str) -> Arc<str> {
        if let Some(kept) = self.keys.get(key_id) {
            return Arc::clone(kept);
        }
        // Of keys that nobody names any more nothing is to be kept.
        self.keys.retain(|key| Arc::strong_count(key) > 1);
        let key: Arc<str> = Arc::from(key_id);
        self.keys.insert(Arc::clone(&key));
        key
    }
}

impl Hub {
    /// Nobody is there.
    pub fn new(max_connections: usize, fences: Fences, presence: Arc<dyn Presence>, patience: Duration) -> Self {
        let state = State {
            router: Router::new(max_connections, fences),
            conduct: Conduct::default(),
            stalls: 0,
            stalled: Duration::ZERO,
            wires: HashMap::new(),
            relayed: 0,
            keys: HashSet::new(),
            revoked_keys: HashSet::new(),
        };
        Self {
            state: Mutex::new(state),
            reports: Reports::new(presence),
            emptied: Notify::new(),
            budget: Arc::new(Budget::new(HALLS_QUEUE)),
            patience,
            last: Last::default(),
        }
    }

    /// Keeps a place for the bearer of a good ticket, which this key signed. `asks` if it wants to be told who its clients are:
    /// an executor will be.
    ///
    /// # Errors
    /// Why there is none.
    pub fn admit(
        self: &Arc<Self>,
        claims: &Claims,
        key_id: &str,
        asks: bool,
        now: u64,
    ) -> Result<(Seat, Mailbox), Rejection> {
        let mut state = self.lock();
        if state.revoked_keys.contains(key_id) {
            return Err(Rejection::InvalidSignature);
        }
        if claims.role == Role::Harness {
            let standing = state.conduct.standing(&claims.registration, &claims.token);
            if !standing.may_come(self.patience, Instant::now().into_std()) {
                return Err(Rejection::Stalled);
            }
        }
        let key = state.key(key_id);
        let id = state.router.admit(claims, now)?;
        let told = asks && claims.role == Role::Executor;
        if told {
            state.router.will_be_told(id);
        }
        let introduction = (claims.role == Role::Harness)
            .then(|| Box::new(Introduction { token: claims.token.clone(), client: claims.client.clone() }));
        let (slot, mailbox) = mailbox::mailbox();
        let bytes = Arc::<AtomicU64>::default();
        let claims_held = Held {
            registration: claims.registration.clone(),
            role: claims.role,
            token: claims.token.clone(),
            key,
            since: now,
        };
        state.wires.insert(id, Wire { slot, bytes: Arc::clone(&bytes), claims: claims_held });
        let (registration, role, shape) = (claims.registration.clone(), claims.role, claims.shape);
        let (hub, since, origin) = (Arc::clone(self), Instant::now(), None);
        Ok((Seat { hub, id, registration, role, shape, since, bytes, origin, told, introduction }, mailbox))
    }

    /// The connection is open. A client that meets its executor is passed on to it; otherwise the link comes back, to be
    /// served or to be told the order in its mailbox.
    pub fn opened(&self, link: Box<Link>) -> Option<Box<Link>> {
        let id = link.seat.id;
        let mut link = Some(link);
        self.act(|state| {
            let effects = state.router.opened(id);
            if let Some(Effect::Join { executor, .. }) = effects.first()
                && let Some(wire) = state.wires.get(executor)
                && let Some(client) = link.take()
            {
                // What goes through the two ends of a pair is the same.
                let counter = (client.seat.shape == Shape::Pair).then(|| Arc::clone(&wire.bytes));
                if let Err(Letter::Join(client)) = wire.slot.put(Letter::Join(client)) {
                    link = Some(client);
                } else if let (Some(counter), Some(wire)) = (counter, state.wires.get_mut(&id)) {
                    wire.bytes = counter;
                }
            }
            effects
        });
        link
    }

    fn ended(&self, id: ConnectionId, end: End) {
        self.act(|state| state.router.ended(id, end));
        // The wire may be the last hold of a letter with a link, whose drop comes back here: not under the lock.
        let mut state = self.lock();
        let wire = state.wires.remove(&id);
        state.relayed += wire.as_ref().map_or(0, Wire::relayed);
        drop(state);
        drop(wire);
        if self.connections() == 0 {
            self.emptied.notify_waiters();
        }
    }

    /// Lets nobody in any more, and sends all away within `window`.
    pub fn drain(&self, window: Duration) {
        self.act(|state| state.router.drain(window));
    }

    /// Lets nobody in any more, and lets go of each executor when it can be spared, the idle ones within `window`.
    pub fn retire(&self, window: Duration) {
        self.act(|state| state.router.retire(window));
    }

    /// The executor of this registration is wanted; see [`Cutoff`](exedra_proto::plane::Cutoff).
    pub fn wanted(&self, registration: &RegistrationId) {
        self.act(|state| state.router.wanted(registration));
    }

    /// What is remembered against tickets.
    pub fn fences(&self) -> Fences {
        self.lock().router.fences().clone()
    }

    /// Returns when there is no connection, at once if there is none now.
    pub async fn emptied(&self) {
        loop {
            let mut emptied = std::pin::pin!(self.emptied.notified());
            // Before the look, so that no end between the two is missed.
            emptied.as_mut().enable();
            if self.connections() == 0 {
                return;
            }
            emptied.await;
        }
    }

    /// The registration has to go; see [`Cutoff`](exedra_proto::plane::Cutoff).
    pub fn cut_registration(&self, registration: &RegistrationId, reason: CloseReason, now: u64) {
        self.act(|state| state.router.cut_registration(registration, reason, now));
    }

    /// The token has to go; see [`Cutoff`](exedra_proto::plane::Cutoff).
    pub fn cut_token(&self, token: &TokenId, reason: CloseReason, now: u64) {
        self.act(|state| state.router.cut_token(token, reason, now));
    }

    /// The token's time is over; see [`Cutoff`](exedra_proto::plane::Cutoff).
    pub fn cut_expired(&self, token: &TokenId, reason: CloseReason) {
        self.act(|state| state.router.cut_expired(token, reason));
    }

    /// The token has another secret; see [`Cutoff`](exedra_proto::plane::Cutoff).
    pub fn cut_renewed(&self, token: &TokenId, until: u64, reason: CloseReason, now: u64) {
        self.act(|state| state.router.cut_renewed(token, until, reason, now));
    }

    /// The token's clients are no longer let in there; see [`Cutoff`](exedra_proto::plane::Cutoff).
    pub fn bar(&self, registration: &RegistrationId, token: &TokenId, reason: CloseReason, now: u64) {
        self.act(|state| state.router.bar(registration, token, reason, now));
    }

    /// The signing key has to go; see [`Cutoff`](exedra_proto::plane::Cutoff).
    pub fn cut_key(&self, key_id: &str, reason: CloseReason) {
        self.act(|state| {
            state.revoked_keys.insert(key_id.to_owned());
            let of_key = state.wires.iter().filter(|(_, wire)| &*wire.claims.key == key_id).map(|(id, _)| *id);
            let of_key = of_key.collect();
            state.router.cut_connections(&of_key, reason)
        });
    }

    /// Who is connected.
    pub fn present(&self) -> Vec<Connection> {
        let state = self.lock();
        let present = state.wires.values().map(|Wire { bytes, claims, .. }| Connection {
            registration: claims.registration.clone(),
            role: claims.role,
            token: claims.token.clone(),
            since: claims.since,
            bytes: bytes.load(Ordering::Relaxed),
        });
        present.collect()
    }

    /// What there is to count.
    pub fn figures(&self) -> Figures {
        let (queued, streams) = self.budget.sums();
        let state = self.lock();
        let (stalls, stalled) = (state.stalls, state.stalled);
        let mut figures = Figures { bytes: state.relayed, queued, streams, stalls, stalled, ..Figures::default() };
        for wire in state.wires.values() {
            figures.bytes += wire.relayed();
            match wire.claims.role {
                Role::Executor => figures.executors += 1,
                Role::Harness => figures.clients += 1,
            }
        }
        figures
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.lock().router.connections()
    }

    fn act(&self, event: impl FnOnce(&mut State) -> Vec<Effect>) {
        let mut state = self.lock();
        let effects = event(&mut state);
        for effect in effects {
            self.carry_out(&state, effect);
        }
        drop(state);
        self.reports.deliver();
    }

    fn carry_out(&self, state: &State, effect: Effect) {
        let call = match effect {
            // The one who opened hands the link over: it has it.
            Effect::Join { .. } => return,
            Effect::Close { connection, reason, after } => {
                if let Some(wire) = state.wires.get(&connection) {
                    // A task that is gone needs no order, and the mailbox has room for all the orders there can be.
                    wire.slot.put(Letter::Close(reason, Instant::now() + after)).ok();
                }
                return;
            }
            Effect::Challenge { connection } => {
                if let Some(wire) = state.wires.get(&connection) {
                    wire.slot.challenge();
                }
                return;
            }
            Effect::Report(Report::Online { registration, epoch, told }) => Call::Online(registration, epoch, told),
            Effect::Report(Report::Replaced { registration }) => Call::Replaced(registration),
            Effect::Report(Report::Held { registration }) => Call::Held(registration),
            Effect::Report(Report::Offline { registration, executor }) => {
                let bytes = state.wires.get(&executor).map_or(0, |wire| wire.bytes.load(Ordering::Relaxed));
                Call::Offline(registration, bytes)
            }
        };
        self.reports.put(call);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
