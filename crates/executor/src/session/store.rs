//! The sessions of one executor, each with its processes: the table with a lock and a clock around it.
//!
//! In flow openings, resumptions and detachments from connections, out flow sessions, and news for those who wait for a
//! change. What a session's processes do is known to their own table only.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use exedra_host::Host;
use exedra_host::process::{self, Delivery, Limits};
use exedra_proto::ids::SessionId;
use exedra_proto::rights::Rights;
use tokio::sync::Notify;
use uuid::Uuid;

use super::holder::Holder;
use super::table::{ConnectionId, Refusal, Table};
use crate::audit::Audit;
use crate::config::ExecutorConfig;
use crate::refusals::Refusals;

/// A container of processes that outlives a connection.
#[derive(Debug)]
pub struct Session {
    /// Its name on the wire.
    pub id: SessionId,
    /// Its processes.
    pub processes: process::Table,
    /// What those may do who used it so far, all together: what is in it may come of any of that.
    rights: Mutex<Rights>,
}

impl Session {
    /// Whether a client that may do so much may have it.
    fn is_for(&self, rights: Rights) -> bool {
        rights.cover(*self.rights.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A client that may do so much uses it.
    fn used_with(&self, rights: Rights) {
        let mut all = self.rights.lock().unwrap_or_else(PoisonError::into_inner);
        *all = all.with(rights);
    }
}

/// The sessions of one executor.
#[derive(Debug)]
pub struct Sessions {
    table: Mutex<Table<Arc<Session>>>,
    /// The connections that hold sessions.
    holders: Mutex<HashMap<ConnectionId, Holder>>,
    takeover: Duration,
    host: Arc<Host>,
    limits: Limits,
    max: usize,
    audit: Option<Audit>,
    refusals: Arc<Refusals>,
    connections: AtomicU64,
    detached: Notify,
    reap: Notify,
}

impl Sessions {
    /// None yet.
    pub fn new(host: Arc<Host>, config: &ExecutorConfig) -> Self {
        Self {
            table: Mutex::new(Table::new(config.session_ttl, config.max_detached)),
            holders: Mutex::default(),
            takeover: config.takeover,
            host,
            limits: config.processes.clone(),
            max: config.max_sessions,
            audit: config.audit.clone(),
            refusals: Refusals::new(config.audit.clone()),
            connections: AtomicU64::new(0),
            detached: Notify::new(),
            reap: Notify::new(),
        }
    }

    /// The machine that sessions run processes on.
    pub fn host(&self) -> &Arc<Host> {
        &self.host
    }

    /// A number for a new connection.
    pub fn number_connection(&self) -> ConnectionId {
        ConnectionId(self.connections.fetch_add(1, Ordering::Relaxed))
    }

    /// Where everything is written down, if anywhere.
    pub fn audit(&self) -> Option<&Audit> {
        self.audit.as_ref()
    }

    /// Who is not let in, or gets no session.
    pub fn refusals(&self) -> &Arc<Refusals> {
        &self.refusals
    }

    /// A new session, attached to `holder`; its events count as delivered as `how` says.
    ///
    /// # Errors
    /// There are too many, or the executor is shutting down.
    pub fn create(&self, holder: &Holder, how: Delivery) -> Result<Arc<Session>, Refusal> {
        let id = SessionId::new(Uuid::new_v4().to_string());
        let mut processes = process::Table::new(Arc::clone(&self.host), self.limits.clone());
        if let Some(audit) = &self.audit {
            processes = processes.observed_by(audit.watch(id.clone()));
        }
        let session = Arc::new(Session { id: id.clone(), processes, rights: Mutex::new(holder.rights()) });
        session.processes.attach(how);
        let mut table = self.lock();
        if table.len() >= self.max {
            return Err(Refusal::Full(self.max));
        }
        if !table.create(id, Arc::clone(&session), holder.number()) {
            return Err(Refusal::Closed);
        }
        self.holders().insert(holder.number(), holder.clone());
        Ok(session)
    }

    /// The detached session of that id, attached to `holder`; its events count as delivered as `how` says.
    ///
    /// # Errors
    /// There is none, another connection holds it, or the client may do less than those who used it before.
    pub fn resume(&self, id: &SessionId, holder: &Holder, how: Delivery) -> Result<Arc<Session>, Refusal> {
        let mut table = self.lock();
        if table.get(id).is_some_and(|session| !session.is_for(holder.rights())) {
            return Err(Refusal::Rights);
        }
        let session = table.resume(id, holder.number(), Instant::now())?;
        session.used_with(holder.rights());
        // Under the lock, so that it cannot overtake the detachment before it.
        session.processes.attach(how);
        self.holders().insert(holder.number(), holder.clone());
        Ok(session)
    }

    /// Takes `session` from `connection`, if that holds it.
    pub fn detach(&self, session: &Session, connection: ConnectionId) {
        self.holders().remove(&connection);
        let mut table = self.lock();
        if table.detach(&session.id, connection, Instant::now()) {
            session.processes.detach();
            drop(table);
            tracing::info!(session = %session.id, "session detached");
            self.detached.notify_waiters();
            self.reap.notify_one();
        }
    }

    /// Whether `connection` holds `session`.
    pub fn holds(&self, session: &Session, connection: ConnectionId) -> bool {
        self.lock().holds(&session.id, connection)
    }

    /// The connection of that number, if it holds a session.
    pub fn holder(&self, connection: ConnectionId) -> Option<Holder> {
        self.holders().get(&connection).cloned()
    }

    /// How long a holder may stay silent, once it was asked for a sign of life.
    pub fn takeover(&self) -> Duration {
        self.takeover
    }

    /// Told when any session is detached.
    pub fn detachments(&self) -> &Notify {
        &self.detached
    }

    /// Told when there may be sessions to end: one was detached.
    pub fn reapings(&self) -> &Notify {
        &self.reap
    }

    /// Takes out the sessions whose time is over, and says when the next one's will be.
    pub fn expire(&self, now: Instant) -> (Vec<Arc<Session>>, Option<Instant>) {
        let mut table = self.lock();
        let expired = table.expire(now, |session| session.processes.has_live());
        (expired.into_iter().map(|(_, session)| session).collect(), table.next_expiry())
    }

    /// Takes out all sessions; none can be created any more.
    pub fn close(&self) -> Vec<Arc<Session>> {
        self.lock().close().into_iter().map(|(_, session)| session).collect()
    }

    /// How many sessions there are.
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    fn holders(&self) -> MutexGuard<'_, HashMap<ConnectionId, Holder>> {
        self.holders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Table<Arc<Session>>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
