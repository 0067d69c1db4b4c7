//! What the registry does: lets executors register, brings clients to them, keeps tokens.
//!
//! Permits and plain requests flow in, replies or a [`Refusal`] flow out; records go to the store, grants come from
//! presence, signatures from the keys. It must not know HTTP (no status, no header) and no SQL.

pub mod access;
mod connect;
mod contention;
mod direct;
mod ended;
pub mod events;
pub mod fleet;
mod join;
pub mod journal;
mod keys;
mod listeners;
mod near;
mod noise;
mod ready;
mod refusal;
mod register;
pub mod tokens;

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use exedra_proto::ids::TokenId;
use exedra_proto::introduction::Client;
use exedra_proto::secret::Secret;
use exedra_proto::ticket::{Claims, Role as TicketRole, Shape};
use uuid::Uuid;

use crate::auth::{Auth, Permit};
use crate::clock::Clock;
use crate::config::PublicUrl;
use crate::keys::SigningKeys;
use crate::presence::{Slot, Tracker};
use crate::rates::Rates;
use crate::store::{Store, TokenRecord};
use crate::token::Role;
use crate::workload::Workloads;

use access::AccessLog;
use contention::Contention;
pub use direct::Direct;
use ended::Ended;
use journal::Journal;
use listeners::Listeners;
use tokens::Tokens;

pub use crate::auth::{Denied, has_noted_token, noting};
pub use listeners::Listener;
pub use refusal::Refusal;

/// The registry's calls.
pub struct Service {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) presence: Arc<Tracker>,
    pub(crate) keys: Arc<SigningKeys>,
    ended: Ended,
    contention: Contention,
    /// The same, of names that are bound to other keys.
    key_refusals: Contention,
    direct: Direct,
    bind_keys: bool,
    access: AccessLog,
    pub(crate) journal: Arc<Journal>,
    pub(crate) listeners: Listeners,
    pub(crate) tokens: Tokens,
    pub(crate) rates: Arc<Rates>,
    auth: Auth,
    clock: Arc<dyn Clock>,
    write_patience: Duration,
    started_at: u64,
    public_url: RwLock<Option<PublicUrl>>,
}

/// How those who ask are treated.
pub struct Terms {
    /// How long a registration waits for a store that is busy or full.
    pub write_patience: Duration,
    /// A name is for the first key that registered it.
    pub bind_keys: bool,
    /// How often may be asked.
    pub rates: Arc<Rates>,
    /// How long a registration waits whose token asks too often.
    pub rate_patience: Duration,
}

/// A signed URL, and when it ends.
struct Ticket {
    url: Secret,
    expires_at: u64,
}

impl Service {
    /// The calls over these parts.
    pub fn new(
        store: Arc<dyn Store>,
        presence: Arc<Tracker>,
        keys: Arc<SigningKeys>,
        clock: Arc<dyn Clock>,
        direct: Direct,
        terms: Terms,
    ) -> Self {
        let Terms { write_patience, bind_keys, rates, rate_patience } = terms;
        let auth = Auth::new(Arc::clone(&store), Arc::clone(&clock), Arc::clone(&rates), rate_patience);
        let started_at = clock.now();
        let journal = Arc::new(Journal::new(Arc::clone(&store)));
        let tokens = Tokens::new(Arc::clone(&store), Arc::clone(&clock), PathBuf::from("the database"));
        let tokens = tokens.told_to(Arc::clone(&journal));
        Self {
            access: AccessLog::default(),
            journal,
            listeners: Listeners::default(),
            tokens,
            store,
            presence,
            keys,
            ended: Ended::default(),
            contention: Contention::default(),
            key_refusals: Contention::default(),
            direct,
            bind_keys,
            rates,
            auth,
            clock,
            write_patience,
            started_at,
            public_url: RwLock::new(None),
        }
    }

    /// Also takes the tokens of other issuers, by these rules.
    #[must_use]
    pub fn with_workloads(mut self, workloads: Option<Arc<Workloads>>) -> Self {
        if let Some(workloads) = workloads {
            self.auth.take_workloads(workloads);
        }
        self
    }

    /// From now on tickets name this URL; before, none are given out.
    pub fn set_public_url(&self, url: PublicUrl) {
        *self.public_url.write().unwrap_or_else(PoisonError::into_inner) = Some(url);
    }

    /// The URL that tickets name, once it is set.
    pub fn public_url(&self) -> Option<PublicUrl> {
        self.public_url.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Permits the bearer to be a client of `executor`.
    pub async fn permit_client(&self, bearer: Option<&Secret>, executor: &str) -> Result<Permit, Refusal> {
        Ok(self.auth.permit(bearer, Role::Client, executor, None).await?)
    }

    /// Saves when tokens were last used: of all, or of those for which it is time.
    pub async fn save_used(&self, all: bool) {
        let used = self.auth.uses().take(all, self.clock.now());
        if used.is_empty() {
            return;
        }
        if let Err(error) = self.store.mark_used(&used).await {
            tracing::warn!(%error, "when tokens were last used could not be saved; it is tried again");
            self.auth.uses().put_back(used);
        }
    }

    /// The record of a token, with a use that is not saved yet.
    pub fn as_used(&self, token: TokenRecord) -> TokenRecord {
        let last_used = token.last_used.max(self.auth.uses().last(&token.id));
        TokenRecord { last_used, ..token }
    }

    /// A ticket of `life` seconds, or as long as its token is good.
    fn ticket(&self, slot: &Slot, role: TicketRole, permit: &Permit, life: u64) -> Result<Ticket, Refusal> {
        let now = permit.checked_at();
        let expires_at = permit.expires_at.map_or(now + life, |end| end.min(now + life));
        let claims = Claims {
            registration: slot.registration.clone(),
            role,
            shape: if slot.transport.is_exclusive() { Shape::Pair } else { Shape::Streams },
            epoch: slot.epoch,
            token: TokenId::new(permit.token.as_str()),
            issued_at: now,
            expires_at,
            ticket_id: Uuid::new_v4().simple().to_string(),
            client: match role {
                TicketRole::Harness => Client {
                    name: permit.name.clone(),
                    labels: permit.client_labels.words().collect(),
                    rights: permit.rights,
                },
                TicketRole::Executor => Client::default(),
            },
        };
        let base = self.public_url().as_ref().map(PublicUrl::ws_base).ok_or_else(|| {
            tracing::error!("no public URL is set; no ticket can be given out");
            Refusal::Unavailable
        })?;
        let url = self.keys.sign(&base, &claims).map_err(|error| {
            tracing::error!(%error, "no ticket can be given out");
            Refusal::Unavailable
        })?;
        Ok(Ticket { url, expires_at })
    }
}

#[cfg(test)]
mod tests;
