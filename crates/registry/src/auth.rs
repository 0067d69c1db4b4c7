//! Who is asking, and whether they may.
//!
//! A bearer token, a role and an executor's id flow in, a [`Permit`] flows out, which is the proof that the service asks
//! for; or the first reason against it. It must not know HTTP, nor what is done with a permit.

mod noted;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use exedra_proto::ids::{ExecutorId, InvalidExecutorId, TokenId};
use exedra_proto::secret::Secret;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::rates::{Rates, Wait};
use crate::store::{End, ExecutorRecord, Store, StoreError, TokenRecord};
use crate::token::{self, Labels, Pattern, Rights, Role, TokenHash};
use crate::uses::Uses;
use crate::workload::{self, Asker, Fault, Workloads};

use noted::{address, note_token, was_charged};
pub use noted::{has_noted_token, note_executor, noting};

/// Time between two looks at the token of an executor that waits for its turn.
const LOOK: Duration = Duration::from_secs(1);

/// Checks tokens.
#[derive(Clone)]
pub struct Auth {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    /// When tokens were last shown.
    uses: Arc<Mutex<Uses>>,
    /// Whom other issuers vouch for.
    workloads: Option<Arc<Workloads>>,
    rates: Arc<Rates>,
    /// How long an executor waits whose token asks too often.
    patience: Duration,
}

/// The holder of this token may do this, with this executor.
#[derive(Debug)]
pub struct Permit {
    /// The token.
    pub token: TokenId,
    /// What it is for, for people.
    pub name: String,
    /// The executor.
    pub executor: ExecutorId,
    /// The token's executors.
    pub pattern: Pattern,
    /// The token's labels.
    pub labels: Labels,
    /// What an executor is told of the client.
    pub client_labels: Labels,
    /// The token's rights.
    pub rights: Rights,
    /// When the token ends, and with it what it allows.
    pub expires_at: Option<u64>,
    /// Until when the store is waited for, if what is permitted waits for it.
    pub patience: Option<Instant>,
    hash: TokenHash,
    /// When the token was last found to be good. Tickets are issued as of then, so that a cut that comes in between hits
    /// them, too.
    checked_at: AtomicU64,
}

/// Who shows a token, whatever for.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The token.
    pub token: TokenId,
    /// Its role.
    pub role: Role,
    /// Its executors.
    pub pattern: Pattern,
    /// Its labels.
    pub labels: Labels,
    /// Its rights.
    pub rights: Rights,
    hash: TokenHash,
}

/// Why not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// There is no token.
    #[error("a bearer token is required")]
    Missing,
    /// No such token was ever made here.
    #[error("the token is not known here")]
    Unknown,
    /// It was revoked.
    #[error("the token was revoked")]
    Revoked,
    /// It is past its time.
    #[error("the token has expired")]
    Expired,
    /// It is a join token, and was traded as often as it may be.
    #[error("the join token was used up")]
    UsedUp,
    /// It is good, and for something else.
    #[error("the token's role is {held}; this needs {needed}")]
    Role {
        /// What it is for.
        held: Role,
        /// What was asked for.
        needed: Role,
    },
    /// It is good, and for other executors.
    #[error("the token is for executors `{0}`, and not for this one")]
    Pattern(Pattern),
    /// It is good, and for executors with other labels.
    #[error("the token is for executors with other labels than this one has")]
    Labels,
    /// It is an executor's, and another executor's business.
    #[error("an executor's token sees the executors that registered with it, and no other")]
    OtherToken,
    /// It is an administrator's of a part, and this concerns the whole server.
    #[error("this is for an administrator of all executors, with no label and all rights")]
    Partial,
    /// It allows less than all, and the executor could not hold its bearer to that.
    #[error(
        "the token's rights are {0} alone, and this executor cannot be told so: a stock one, an older version, or one that \
         has not connected anew since the server knows of rights"
    )]
    NotEnforceable(Rights),
    /// Another issuer's, and not to be taken.
    #[error(transparent)]
    Workload(#[from] Fault),
    /// It is good, and asks too often.
    #[error("the token asks more often than it may")]
    TooOften(Wait),
    /// There can be no such executor.
    #[error(transparent)]
    ExecutorId(#[from] InvalidExecutorId),
    /// It could not be found out.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Denied {
    /// What it was about the token, in a word; none if it was something else.
    pub fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Missing => Some("missing"),
            Self::Unknown => Some("unknown"),
            Self::Revoked => Some("revoked"),
            Self::Expired => Some("expired"),
            Self::UsedUp => Some("used_up"),
            Self::Role { .. } => Some("role"),
            Self::Pattern(_) => Some("pattern"),
            Self::OtherToken => Some("other"),
            Self::Partial => Some("partial"),
            Self::Labels => Some("labels"),
            Self::NotEnforceable(_) => Some("rights"),
            Self::Workload(fault) => Some(fault.reason()),
            Self::TooOften(_) | Self::ExecutorId(_) | Self::Store(_) => None,
        }
    }

    /// Whether it passes by itself, and was not waited for.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_retryable())
    }
}

impl Permit {
    /// When the token was last found to be good.
    pub fn checked_at(&self) -> u64 {
        self.checked_at.load(Ordering::Relaxed)
    }

    /// The same, with so much patience.
    pub fn until(self, deadline: Instant) -> Self {
        Self { patience: Some(deadline), ..self }
    }

    /// Whether it reaches an executor that has these labels.
    ///
    /// # Errors
    /// It does not.
    pub fn reaches(&self, labels: &Labels) -> Result<(), Denied> {
        if labels.have(&self.labels) { Ok(()) } else { Err(Denied::Labels) }
    }

    /// Whether its bearer is held to its rights by an executor that is told who its clients are, or is not.
    ///
    /// # Errors
    /// It has fewer than all, and the executor is not told.
    pub fn is_held(&self, told: bool) -> Result<(), Denied> {
        if told || self.rights.is_all() { Ok(()) } else { Err(Denied::NotEnforceable(self.rights)) }
    }
}

impl Caller {
    /// Whether its role does for what needs `needed`.
    ///
    /// # Errors
    /// It does not.
    pub fn needs(&self, needed: Role) -> Result<(), Denied> {
        if self.role.covers(needed) { Ok(()) } else { Err(Denied::Role { held: self.role, needed }) }
    }

    /// Whether it may do what concerns the whole server.
    ///
    /// # Errors
    /// Why not.
    pub fn governs(&self) -> Result<(), Denied> {
        self.needs(Role::Admin)?;
        if self.pattern == Pattern::any() && self.labels.is_empty() && self.rights.is_all() {
            return Ok(());
        }
        Err(Denied::Partial)
    }

    /// Whether it may look at executors.
    ///
    /// # Errors
    /// It may look at none.
    pub fn sees_any(&self) -> Result<(), Denied> {
        match self.role {
            Role::Executor | Role::Client | Role::Admin => Ok(()),
            Role::Join => Err(Denied::Role { held: self.role, needed: Role::Client }),
        }
    }

    /// Whether it may look at this executor.
    pub fn sees(&self, executor: &ExecutorRecord) -> bool {
        let is_own = match self.role {
            Role::Join => false,
            Role::Executor => executor.token == self.token,
            Role::Client | Role::Admin => executor.trusted().have(&self.labels),
        };
        is_own && self.pattern.covers(&executor.current.executor)
    }
}

impl Auth {
    /// Checks against these tokens, by this clock.
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, rates: Arc<Rates>, patience: Duration) -> Self {
        Self { store, clock, uses: Arc::default(), workloads: None, rates, patience }
    }

    /// Also takes the tokens of other issuers, by these rules.
    pub fn take_workloads(&mut self, workloads: Arc<Workloads>) {
        self.workloads = Some(workloads);
    }

    /// Permits the bearer to do what `needed` may, with `executor`. Another issuer is waited for until `until`.
    ///
    /// # Errors
    /// The first reason against it: first the token, then its role, then the id, then the pattern.
    pub async fn permit(
        &self,
        bearer: Option<&Secret>,
        needed: Role,
        executor: &str,
        until: Option<Instant>,
    ) -> Result<Permit, Denied> {
        let (token, hash) = self.holder(bearer, until).await?;
        self.permit_token(token, hash, needed, executor).await
    }

    /// Permits the holder of the token of that id, who has shown to be that.
    ///
    /// # Errors
    /// As [`Auth::permit`].
    pub async fn permit_id(&self, token: &TokenId, needed: Role, executor: &str) -> Result<Permit, Denied> {
        let (_, hash) = self.store.token_of_id(token).await?.ok_or(Denied::Unknown)?;
        let token = self.token(&hash).await?;
        self.permit_token(token, hash, needed, executor).await
    }

    async fn permit_token(
        &self,
        token: TokenRecord,
        hash: TokenHash,
        needed: Role,
        executor: &str,
    ) -> Result<Permit, Denied> {
        if needed == Role::Executor && token.role.covers(needed) {
            self.charge_in_turn(&token, &hash).await?;
        } else {
            self.charge(&token.id)?;
        }
        if !token.role.covers(needed) {
            return Err(Denied::Role { held: token.role, needed });
        }
        let executor = ExecutorId::parse(executor)?;
        if !token.executors.covers(&executor) {
            return Err(Denied::Pattern(token.executors));
        }
        let TokenRecord { id, name, executors: pattern, labels, client_labels, rights, expires_at, .. } = token;
        let checked_at = AtomicU64::new(self.clock.now());
        let patience = None;
        Ok(Permit {
            token: id,
            name,
            executor,
            pattern,
            labels,
            client_labels,
            rights,
            expires_at,
            patience,
            hash,
            checked_at,
        })
    }

    /// When tokens were last used.
    pub fn uses(&self) -> MutexGuard<'_, Uses> {
        self.uses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who shows this token.
    ///
    /// # Errors
    /// It is not good.
    pub async fn identify(&self, bearer: Option<&Secret>) -> Result<Caller, Denied> {
        let (token, hash) = self.holder(bearer, None).await?;
        let TokenRecord { id, role, executors: pattern, labels, rights, .. } = token;
        self.charge(&id)?;
        Ok(Caller { token: id, role, pattern, labels, rights, hash })
    }

    /// Whether a caller's token is still good.
    ///
    /// # Errors
    /// It is not.
    pub async fn still(&self, caller: &Caller) -> Result<(), Denied> {
        self.token(&caller.hash).await.map(drop)
    }

    /// Looks again, after a wait in which the token may have ended.
    ///
    /// # Errors
    /// What speaks against the token now.
    pub async fn confirm(&self, permit: &Permit) -> Result<(), Denied> {
        let now = self.clock.now();
        self.token(&permit.hash).await?;
        // That of a workload may go on, when this proof of it does not.
        if permit.expires_at.is_some_and(|at| at <= now) {
            return Err(Denied::Expired);
        }
        permit.checked_at.store(now, Ordering::Relaxed);
        Ok(())
    }

    /// The good token that somebody shows, or that stands for whom another issuer's token names; with the hash by which it
    /// is found again.
    async fn holder(
        &self,
        bearer: Option<&Secret>,
        until: Option<Instant>,
    ) -> Result<(TokenRecord, TokenHash), Denied> {
        let bearer = bearer.ok_or(Denied::Missing)?;
        if token::is_well_formed(bearer.expose()) {
            let hash = TokenHash::of(bearer);
            return Ok((self.token(&hash).await?, hash));
        }
        match &self.workloads {
            Some(workloads) if workload::is_signed(bearer.expose()) => {
                let asker = Asker { address: address(), until };
                self.workload(workloads, bearer, &asker).await
            }
            _ => Err(Denied::Unknown),
        }
    }

    /// The token of a workload. Its record says what the rules allow the bearer now, and until when this proof is good.
    async fn workload(
        &self,
        workloads: &Workloads,
        bearer: &Secret,
        asker: &Asker,
    ) -> Result<(TokenRecord, TokenHash), Denied> {
        let identity = workloads.identify(bearer, asker).await?;
        let hash = identity.hash();
        let now = self.clock.now();
        let known = self.store.token(&hash, now).await?.map(|(known, _)| known);
        let known = match known {
            Some(known) if identity.is_kept_by(&known) => known,
            _ => {
                let id = token::new_id().map_err(|_| StoreError::Failed("there is no randomness".to_owned()))?;
                self.store.admit_workload(&identity.record(id, now), &hash).await?
            }
        };
        note_token(&known);
        self.living(&known)?;
        Ok((identity.narrow(known), hash))
    }

    /// The join token that is shown, also one that has ended: a trade that was made with it before stays made.
    ///
    /// # Errors
    /// There is no such token, or it is no join token.
    pub async fn joiner(&self, bearer: Option<&Secret>) -> Result<TokenRecord, Denied> {
        let bearer = bearer.ok_or(Denied::Missing)?;
        if !token::is_well_formed(bearer.expose()) {
            let (token, _) = self.holder(Some(bearer), None).await?;
            return Err(Denied::Role { held: token.role, needed: Role::Join });
        }
        let token = self.known(&TokenHash::of(bearer)).await?;
        if token.role != Role::Join {
            self.living(&token)?;
        }
        self.charge(&token.id)?;
        if token.role == Role::Join {
            return Ok(token);
        }
        Err(Denied::Role { held: token.role, needed: Role::Join })
    }

    /// Charges a token for a request, once.
    fn charge(&self, token: &TokenId) -> Result<(), Denied> {
        if was_charged() {
            return Ok(());
        }
        self.rates.token(token).map_err(Denied::TooOften)
    }

    /// The same, of an executor, which waits and is served in the end, unless its token ends meanwhile.
    async fn charge_in_turn(&self, token: &TokenRecord, hash: &TokenHash) -> Result<(), Denied> {
        if was_charged() {
            return Ok(());
        }
        let deadline = Instant::now() + self.patience;
        while let Err(wait) = self.rates.token(&token.id) {
            if Instant::now() >= deadline {
                return Ok(());
            }
            tokio::time::sleep_until(deadline.min(Instant::now() + wait.0.min(LOOK))).await;
            self.token(hash).await?;
            self.living(token)?;
        }
        Ok(())
    }

    /// The good token of that hash.
    async fn token(&self, hash: &TokenHash) -> Result<TokenRecord, Denied> {
        let token = self.known(hash).await?;
        self.living(&token)?;
        Ok(token)
    }

    /// The token of that hash, whatever its state.
    async fn known(&self, hash: &TokenHash) -> Result<TokenRecord, Denied> {
        let (token, kept) = self.store.token(hash, self.clock.now()).await?.ok_or(Denied::Unknown)?;
        if !kept.matches(hash) {
            return Err(Denied::Unknown);
        }
        note_token(&token);
        Ok(token)
    }

    /// Whether it is good now; then it was used.
    fn living(&self, token: &TokenRecord) -> Result<(), Denied> {
        if let Some(how) = token.ended(self.clock.now()) {
            return Err(if how == End::Revoked { Denied::Revoked } else { Denied::Expired });
        }
        self.note_used(&token.id);
        Ok(())
    }

    /// The token was used now.
    pub fn note_used(&self, token: &TokenId) {
        self.uses().note(token, self.clock.now());
    }
}
