//! The records: tokens, executors and their registrations, behind one trait of few methods.
//!
//! Plain values flow in and out; what a method has answered with success has reached the disk, except where it says
//! otherwise. Nothing outside this module sees SQL, and nothing in it knows roles, tickets or HTTP. Any implementation
//! has to pass the suite in `conformance`.

#[cfg(test)]
mod conformance;
mod ended;
mod event;
#[cfg(test)]
pub(crate) mod memory;
mod sqlite;
mod writes;

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use exedra_proto::ids::{ExecutorId, RegistrationId, TokenId};
use exedra_proto::noise::PublicKey;
use exedra_proto::registry::Transport;
use serde::Serialize;
use serde_json::Value;

use crate::token::{Labels, Pattern, Rights, Role, TokenHash};

pub use ended::{End, Ended};
pub use event::{EVENTS_KEPT, Event, NewEvent};
pub use sqlite::{Check, SqliteStore, WAIT, outwait};

/// Registrations kept of one executor, the current one included; the oldest give way. An instance whose registration is
/// forgotten counts as a new one when it registers again.
pub const REGISTRATIONS_KEPT: u64 = 8;

/// What a store was asked to do, as far as its time is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Only to look.
    Read,
    /// To keep something; it is on the disk then.
    Write,
}

/// Who is told of each operation how long it took, the wait for its turn included; also of those that failed. Must not block.
#[derive(Clone)]
pub struct Watch(pub Arc<dyn Fn(Operation, Duration) + Send + Sync>);

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

/// A store's answer on its way.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// A token, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TokenRecord {
    /// Its id.
    pub id: TokenId,
    /// What it is for, for people; may be empty.
    pub name: String,
    /// What its holder is.
    pub role: Role,
    /// Which executors it reaches.
    pub executors: Pattern,
    /// What an executor that registers with it gets, and what one must have to be reached with it.
    pub labels: Labels,
    /// Who a client is that shows it: what executors are told, and their policies ask for.
    pub client_labels: Labels,
    /// What it allows on executors.
    pub rights: Rights,
    /// Seconds since 1970.
    pub created_at: u64,
    /// From that second on it is no longer good.
    pub expires_at: Option<u64>,
    /// From that second on it is no longer good.
    pub revoked_at: Option<u64>,
    /// When it was last shown, as far as that was saved.
    pub last_used: Option<u64>,
    /// Of a join token: how often it can still be traded.
    pub uses_left: Option<u32>,
    /// The join token that it was traded for.
    pub joined_with: Option<TokenId>,
    /// Whose it is, if it stands for a workload that shows tokens of another issuer.
    pub workload: Option<Workload>,
}

/// Somebody whom another issuer vouches for, as one rule of ours lets them in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Workload {
    /// The issuer.
    pub issuer: String,
    /// Who it is to that issuer.
    pub subject: String,
    /// The name of the rule.
    pub rule: String,
}

impl TokenRecord {
    /// A token of this role for all executors, without name, labels and end.
    pub fn new(id: TokenId, role: Role, created_at: u64) -> Self {
        Self {
            id,
            name: String::new(),
            role,
            executors: Pattern::any(),
            labels: Labels::default(),
            client_labels: Labels::default(),
            rights: Rights::ALL,
            created_at,
            expires_at: None,
            revoked_at: None,
            last_used: None,
            uses_left: None,
            joined_with: None,
            workload: None,
        }
    }
}

/// One registration of one instance of an executor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// Its id.
    pub id: RegistrationId,
    /// Whose it is.
    pub executor: ExecutorId,
    /// Its fencing number: 1 for the first of an executor, one more for each further one.
    pub epoch: u64,
    /// The instance that registered.
    pub idempotency_id: String,
    /// Seconds since 1970.
    pub created_at: u64,
    /// How the instance is reached.
    pub transport: Transport,
    /// The instance's key, if it has one.
    pub public_key: Option<PublicKey>,
}

/// An executor that registered at least once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecutorRecord {
    /// Its newest registration.
    pub current: Registration,
    /// For people.
    pub name: Option<String>,
    /// As the newest registration said.
    pub labels: BTreeMap<String, String>,
    /// As the newest registration said.
    pub metadata: Value,
    /// The token by which that registration came.
    pub token: TokenId,
    /// The labels of that token.
    pub granted: Labels,
    /// Labels that an administrator gave.
    pub assigned: Labels,
    /// Since when no new client is let in, if so, seconds since 1970.
    pub draining_since: Option<u64>,
    /// When it was last connected, as far as that was saved, seconds since 1970.
    pub last_seen: Option<u64>,
    /// The fingerprint of the key to which the name is bound.
    pub bound_key: Option<String>,
}

impl Registration {
    /// The fingerprint of the key that an instance has to have, since no client can talk to it otherwise: any other it may
    /// have read somewhere.
    pub fn proven_key(&self) -> Option<String> {
        self.public_key.as_ref().filter(|_| self.transport == Transport::Noise).map(PublicKey::fingerprint)
    }
}

impl ExecutorRecord {
    /// The labels that decide who may: what an administrator says counts over what the token says.
    pub fn trusted(&self) -> Labels {
        self.granted.overlaid(&self.assigned)
    }
}

/// A line of the access log: who asked for what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Access {
    /// Its place, higher than that of any line before; 0 before it is written.
    pub id: u64,
    /// When, seconds since 1970.
    pub at: u64,
    /// The request's id.
    pub request_id: String,
    /// Where it came from.
    pub address: Option<String>,
    /// The token that was shown, if it is one of ours.
    pub token: Option<TokenId>,
    /// That token's role.
    pub role: Option<Role>,
    /// Method and path, with the names of its parts in place of what stood there.
    pub action: String,
    /// The executor that it is about.
    pub executor: Option<ExecutorId>,
    /// The status of the answer.
    pub outcome: String,
    /// How many requests this line stands for: more than one only for those without a token of ours.
    pub count: u64,
}

impl Access {
    /// What the log says of `lines` that were given up.
    pub fn shortened(lines: u64, now: u64) -> Self {
        let action = "lines that were older than they are kept".to_owned();
        Self { at: now, action, outcome: "given up".to_owned(), count: lines, ..Self::default() }
    }

    /// What the log says of `tokens` of workloads that were forgotten.
    pub fn forgotten(tokens: u64, now: u64) -> Self {
        let action = "tokens of workloads that ended longer ago than lines are kept".to_owned();
        Self { at: now, action, outcome: "forgotten".to_owned(), count: tokens, ..Self::default() }
    }
}

/// What an administrator changes of an executor; what is not set stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecutorChange {
    /// The labels that decide who may.
    pub assigned: Option<Labels>,
    /// Since when no new client is let in; `Some(None)`: they are again.
    pub draining_since: Option<Option<u64>>,
}

/// What [`Store::register`] is given.
#[derive(Clone, Debug)]
pub struct NewRegistration {
    /// Id, executor, instance and time; the epoch is for the store to set.
    pub registration: Registration,
    /// For people.
    pub name: Option<String>,
    /// Of the executor.
    pub labels: BTreeMap<String, String>,
    /// Of the executor.
    pub metadata: Value,
    /// The token by which it came.
    pub token: TokenId,
    /// Make a new registration even if this instance has one that a newer instance superseded.
    pub take_over: bool,
    /// The name is for the first [`Registration::proven_key`] that was seen with this set, and for no other.
    pub bind_key: bool,
}

/// What [`Store::trade`] is given.
#[derive(Clone, Debug)]
pub struct Trade {
    /// The join token.
    pub join: TokenId,
    /// What its bearer is to get: a token for one executor, by its id.
    pub credential: TokenRecord,
    /// That token's hash.
    pub hash: TokenHash,
    /// The time.
    pub now: u64,
}

/// What became of a [`Trade`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Traded {
    /// The credential is kept from now on, and the join token has a use less.
    Made(TokenRecord),
    /// It was kept before; nothing changed.
    Known(TokenRecord),
    /// It was kept before, and has ended.
    Ended,
    /// The join token was revoked.
    JoinRevoked,
    /// The join token's time is over.
    JoinExpired,
    /// The join token has no use left.
    JoinUsedUp,
    /// An executor of that id is registered, or another good token is for that id alone.
    NameTaken,
    /// Another token has that hash.
    HashTaken,
}

/// Keeps the records.
pub trait Store: Send + Sync + 'static {
    /// Adds a token.
    fn add_token<'a>(&'a self, token: &'a TokenRecord, hash: &'a TokenHash) -> Pending<'a, ()>;

    /// The token of that hash, whatever its state, with the hash that is kept: the one of its secret, or of the one
    /// before if that is still good at `now`.
    fn token<'a>(&'a self, hash: &'a TokenHash, now: u64) -> Pending<'a, Option<(TokenRecord, TokenHash)>>;

    /// Lets a workload in again, or for the first time: the token of that hash gets what `token` says that it is and
    /// may, and the later of both ends; it keeps its id, when it was made, and whether it was revoked. Where there is none,
    /// it is `token`.
    fn admit_workload<'a>(&'a self, token: &'a TokenRecord, hash: &'a TokenHash) -> Pending<'a, TokenRecord>;

    /// Makes the revoked token of a workload good again, as far as its time is not over: its record, or none if there is
    /// no such token, or it is no workload's.
    fn readmit_workload<'a>(&'a self, id: &'a TokenId) -> Pending<'a, Option<TokenRecord>>;

    /// Executors that came with the token of a workload which ended before `before`, neither of the two seen since, and which no
    /// administrator gave labels or drains; at most `most`.
    fn lapsed_executors(&self, before: u64, most: u32) -> Pending<'_, Vec<ExecutorId>>;

    /// Forgets tokens of workloads that ended before `before`, were not shown since, are not revoked, and with which no registration
    /// came that is kept: how many, at most `most`. The access log says so, in a line of the time `now`.
    fn forget_workloads(&self, before: u64, most: u32, now: u64) -> Pending<'_, u64>;

    /// Gives a token another secret; the one until now stays good until `old_until`, and has ended then. Its record, or none if there is no
    /// such token, it ended, or it is a workload's.
    fn rotate_token<'a>(
        &'a self,
        id: &'a TokenId,
        hash: &'a TokenHash,
        old_until: u64,
        now: u64,
    ) -> Pending<'a, Option<TokenRecord>>;

    /// Trades a use of a join token for another token, all of it or nothing. The same hash for the same executor is the same
    /// trade, whatever became of the join token since.
    fn trade<'a>(&'a self, trade: &'a Trade) -> Pending<'a, Traded>;

    /// Notes when tokens were last shown; an earlier time than the one noted changes nothing.
    fn mark_used<'a>(&'a self, used: &'a [(TokenId, u64)]) -> Pending<'a, ()>;

    /// The token of that id, whatever its state, with the hash that is kept.
    fn token_of_id<'a>(&'a self, id: &'a TokenId) -> Pending<'a, Option<(TokenRecord, TokenHash)>>;

    /// All tokens, oldest first.
    fn tokens(&self) -> Pending<'_, Vec<TokenRecord>>;

    /// Revokes a token, unless it was revoked before; its record, or none if there is no such token.
    fn revoke_token<'a>(&'a self, id: &'a TokenId, now: u64) -> Pending<'a, Option<TokenRecord>>;

    /// The tokens that were revoked at `since` or later, whose time ended at `since` or later and is over `now`, or of which a secret
    /// ended in that time since they got another. One that was revoked has ended in no other way.
    fn ended_tokens(&self, since: u64, now: u64) -> Pending<'_, Vec<Ended>>;

    /// Registers an instance of an executor: the registration that the instance has by this token, or the new one, which from now
    /// on is the executor's current one. An instance whose registration was superseded keeps it, unless it takes over.
    fn register<'a>(&'a self, new: &'a NewRegistration) -> Pending<'a, Registration>;

    /// Any key may have the executor's name again; whether it was bound to one.
    fn forget_key<'a>(&'a self, id: &'a ExecutorId) -> Pending<'a, bool>;

    /// The executor of that id.
    fn executor<'a>(&'a self, id: &'a ExecutorId) -> Pending<'a, Option<ExecutorRecord>>;

    /// Executors with ids above `after`, in their order; at most `limit`.
    fn executors<'a>(&'a self, after: Option<&'a ExecutorId>, limit: u32) -> Pending<'a, Vec<ExecutorRecord>>;

    /// Changes what an administrator says of an executor: its record then, or none if there is no such executor.
    fn change_executor<'a>(
        &'a self,
        id: &'a ExecutorId,
        change: &'a ExecutorChange,
    ) -> Pending<'a, Option<ExecutorRecord>>;

    /// Forgets an executor and its registrations; whether there was one.
    fn forget_executor<'a>(&'a self, id: &'a ExecutorId) -> Pending<'a, bool>;

    /// Appends to the access log. Nothing changes it, and [`Store::shorten_access`] alone takes away from it.
    fn append_access<'a>(&'a self, lines: &'a [Access]) -> Pending<'a, ()>;

    /// Gives up those of the oldest `most` lines of the access log that are from before `before`: how many. The log says
    /// so itself, in a line of the time `now`.
    fn shorten_access(&self, before: u64, most: u32, now: u64) -> Pending<'_, u64>;

    /// Lines of the access log with ids above `id`, oldest first; at most `limit`.
    fn access_after(&self, id: u64, limit: u32) -> Pending<'_, Vec<Access>>;

    /// The ids of executors, in their order; at most `limit`.
    fn executor_ids(&self, limit: u32) -> Pending<'_, Vec<ExecutorId>>;

    /// The registration of that id, if it is kept.
    fn registration<'a>(&'a self, id: &'a RegistrationId) -> Pending<'a, Option<Registration>>;

    /// All registrations that are kept, by executor and epoch.
    fn registrations(&self) -> Pending<'_, Vec<Registration>>;

    /// Notes when executors were last connected; an earlier time than the one noted changes nothing, unknown executors
    /// are left out.
    fn mark_seen<'a>(&'a self, seen: &'a [(ExecutorId, u64)]) -> Pending<'a, ()>;

    /// Appends to the journal, all of them or none: the last one's id. Each has a higher one than any before.
    fn append_events<'a>(&'a self, events: &'a [NewEvent]) -> Pending<'a, u64>;

    /// The events of the journal with ids above `id`, oldest first; at most `limit`. The last [`EVENTS_KEPT`] are there.
    fn events_after(&self, id: u64, limit: u32) -> Pending<'_, Vec<Event>>;

    /// The highest id that an event may have had, whether or not it is kept; 0 before the first.
    fn last_event(&self) -> Pending<'_, u64>;

    /// Whether it answers.
    fn check(&self) -> Pending<'_, ()>;

    /// Whether it can be written: takes new room on the disk, and writes something that changes nothing.
    fn try_write(&self) -> Pending<'_, ()>;

    /// Why it cannot be written: what a write failed with, other than busy, since [`Store::try_write`] last went well.
    fn failing(&self) -> Option<StoreError>;

    /// Ends all use of it; what comes later fails with [`StoreError::Closed`].
    fn close(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// Why a store did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// No space is left.
    #[error("no space is left on the disk")]
    Full,
    /// It cannot be written.
    #[error("the database is read-only")]
    ReadOnly,
    /// What is in it makes no sense.
    #[error("the database is damaged: {0}")]
    Corrupt(String),
    /// A newer version of the program wrote it.
    #[error("the database has schema {found}, and this version knows those up to {known}")]
    Newer {
        /// Its schema.
        found: u32,
        /// The newest that this version knows.
        known: u32,
    },
    /// It is somebody else's.
    #[error("this is a database of another program")]
    Foreign,
    /// Somebody else is writing, and did not finish in time.
    #[error("the database is busy")]
    Busy,
    /// The same, and it was waited for.
    #[error("the database was busy for {secs} s: another process writes to it, or its disk does not keep up")]
    BusyFor {
        /// How long, in seconds.
        secs: u64,
    },
    /// The name is bound to another key than the one that came, or came without.
    #[error("the executor's name is bound to another key")]
    OtherKey,
    /// It was closed.
    #[error("the database is closed")]
    Closed,
    /// Something else; the text says what.
    #[error("the database failed: {0}")]
    Failed(String),
}

impl StoreError {
    /// Whether the same call may succeed later without anybody changing the program or the records.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Full | Self::ReadOnly | Self::Busy | Self::BusyFor { .. } | Self::Failed(_) => true,
            Self::Corrupt(_) | Self::Newer { .. } | Self::Foreign | Self::OtherKey | Self::Closed => false,
        }
    }

    /// What a person can do, if anything.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Full => Some("free some space; nothing that was answered with success is lost"),
            Self::ReadOnly => Some("mount the file system for writing, or use another --data-dir"),
            Self::Corrupt(_) => Some("put a backup of the data directory in its place, or start with a new one"),
            Self::Newer { .. } => Some("use the version of the program that wrote it, or a newer one"),
            Self::Foreign => Some("use another --data-dir"),
            Self::Busy | Self::BusyFor { .. } => {
                Some("is another process working on the same data directory? Try again")
            }
            Self::OtherKey => Some("`exedra forget-key ID` lets another key have the name"),
            Self::Closed | Self::Failed(_) => None,
        }
    }
}
