//! Tokens made, listed and revoked, on a store that a server may be using at the same time.
//!
//! What a person asks for flows in, records flow out, and once the secret itself. What is revoked here is refused by the
//! server from its next request on, and what is open with it is cut within seconds.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use exedra_proto::ids::{ExecutorId, TokenId};
use exedra_proto::secret::Secret;
use serde_json::{Value, json};

use super::events::EventKind;
use super::journal::Journal;
use crate::clock::Clock;
use crate::datadir::DataDir;
use crate::error::RegistryError;
use crate::serverkey::{self, ServerKey};
use crate::store::{NewEvent, Pending, Store, TokenRecord, outwait};
use crate::token::{self, Labels, Pattern, Rights, Role, TokenHash};

/// Longest name of a token, in bytes.
const MAX_NAME: usize = 128;

/// How long a join token is good that was given no end.
const JOIN_LIFETIME: Duration = Duration::from_secs(60 * 60);

/// The tokens of a data directory.
#[derive(Clone)]
pub struct Tokens {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    database: PathBuf,
    patience: Duration,
    /// Where the server's events go; without one they go into the store.
    journal: Option<Arc<Journal>>,
}

/// What a token is to be.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// What its holder is.
    pub role: Role,
    /// Which executors it reaches.
    pub executors: Pattern,
    /// What an executor that registers with it gets, and what one must have to be reached with it.
    pub labels: Labels,
    /// Of a client: what executors are told of it; if not set, its labels.
    pub client_labels: Option<Labels>,
    /// What it allows on executors.
    pub rights: Rights,
    /// What it is for, for people; may be empty.
    pub name: String,
    /// How long it is good; if not set, a join token for an hour, and any other without end.
    pub lifetime: Option<Duration>,
    /// Of a join token: how often it can be traded; once, if not set.
    pub uses: Option<u32>,
}

impl NewToken {
    /// A token of this role for all executors, without name and end.
    pub fn of(role: Role) -> Self {
        let (executors, labels, rights) = (Pattern::any(), Labels::default(), Rights::ALL);
        Self { role, executors, labels, client_labels: None, rights, name: String::new(), lifetime: None, uses: None }
    }
}

/// What signs for the holder of a token.
#[derive(Debug)]
pub struct AwsPair {
    /// `AWS_ACCESS_KEY_ID`.
    pub access_key_id: String,
    /// `AWS_SECRET_ACCESS_KEY`.
    pub secret_access_key: Secret,
}

/// A token that was made.
#[derive(Debug)]
pub struct CreatedToken {
    /// The token itself, which is nowhere else.
    pub secret: Secret,
    /// What is kept of it.
    pub record: TokenRecord,
}

impl Tokens {
    /// The tokens in `store`, which keeps them in the file `database`.
    pub(crate) fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, database: PathBuf) -> Self {
        Self { store, clock, database, patience: Duration::ZERO, journal: None }
    }

    /// Waits for so long while somebody else writes to the database, where there is nobody who is kept waiting by it but
    /// the person at the terminal.
    #[must_use]
    pub(crate) fn patient(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Puts what happens into the journal of a server.
    #[must_use]
    pub(crate) fn told_to(self, journal: Arc<Journal>) -> Self {
        Self { journal: Some(journal), ..self }
    }

    /// Makes a token. It is on the disk when this returns.
    ///
    /// # Errors
    /// Its name is too long or has control characters, or it cannot be saved.
    pub async fn create(&self, new: NewToken) -> Result<CreatedToken, RegistryError> {
        check_name(&new.name)?;
        if !new.rights.is_all() && matches!(new.role, Role::Executor | Role::Join) {
            let text = "rights are for the tokens of clients; an executor's owner decides by a policy".to_owned();
            return Err(RegistryError::Config(text));
        }
        if new.client_labels.is_some() && !new.role.covers(Role::Client) {
            let text = "client labels are for the tokens of clients; those of an executor are its labels".to_owned();
            return Err(RegistryError::Config(text));
        }
        let is_join = new.role == Role::Join;
        if new.uses.is_some_and(|uses| uses == 0 || !is_join) {
            let text = "uses are for join tokens, and at least 1".to_owned();
            return Err(RegistryError::Config(text));
        }
        let lifetime = new.lifetime.or(is_join.then_some(JOIN_LIFETIME));
        let secret = token::generate(new.role)?;
        let now = self.clock.now();
        let record = TokenRecord {
            name: new.name,
            executors: new.executors,
            client_labels: Labels::told(new.client_labels, new.role, &new.labels),
            labels: new.labels,
            rights: new.rights,
            expires_at: lifetime.map(|lifetime| now.saturating_add(lifetime.as_secs().max(1))),
            uses_left: is_join.then(|| new.uses.unwrap_or(1)),
            ..TokenRecord::new(token::new_id()?, new.role, now)
        };
        let hash = TokenHash::of(&secret);
        self.ask(|| self.store.add_token(&record, &hash)).await?;
        self.tell(EventKind::TokenCreated, &record).await;
        Ok(CreatedToken { secret, record })
    }

    /// All tokens, oldest first.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn list(&self) -> Result<Vec<TokenRecord>, RegistryError> {
        self.ask(|| self.store.tokens()).await
    }

    /// The token of that id.
    ///
    /// # Errors
    /// There is no such token, or the text is no id.
    pub async fn show(&self, id: &str) -> Result<TokenRecord, RegistryError> {
        let id = token_id(id)?;
        let found = self.list().await?.into_iter().find(|record| record.id == id);
        found.ok_or(RegistryError::UnknownToken { id })
    }

    /// The pair with which the holder of a token signs registrations of dialect E. It is made from the server's own key,
    /// and kept nowhere.
    ///
    /// # Errors
    /// There is no such token, or the server's key cannot be used.
    pub async fn aws(&self, id: &str) -> Result<AwsPair, RegistryError> {
        let id = token_id(id)?;
        let known = self.ask(|| self.store.token_of_id(&id)).await?;
        let access_key = serverkey::access_key(&id).filter(|_| known.is_some());
        let Some(access_key_id) = access_key else { return Err(RegistryError::UnknownToken { id }) };
        let dir = self.database.parent().unwrap_or(Path::new("."));
        let key = ServerKey::open(&DataDir::prepare(dir)?.server_key())?;
        Ok(AwsPair { access_key_id, secret_access_key: key.secret(&id) })
    }

    /// Lets any key have an executor's name that was bound to one; whether it was.
    ///
    /// # Errors
    /// There can be no such executor, or it cannot be saved.
    pub async fn forget_key(&self, executor: &str) -> Result<bool, RegistryError> {
        let executor = ExecutorId::parse(executor).map_err(|error| RegistryError::Config(error.to_string()))?;
        let was_bound = self.ask(|| self.store.forget_key(&executor)).await?;
        if was_bound {
            self.write_down(EventKind::ExecutorKeyForgotten, Some(executor), json!({})).await;
        }
        Ok(was_bound)
    }

    /// Makes a token worthless; once more changes nothing.
    ///
    /// # Errors
    /// There is no such token, or it cannot be saved. A text that is no id is not repeated: it may be the token itself.
    pub async fn revoke(&self, id: &str) -> Result<TokenRecord, RegistryError> {
        let id = token_id(id)?;
        let now = self.clock.now();
        let revoked = self.ask(|| self.store.revoke_token(&id, now)).await?;
        let revoked = revoked.ok_or(RegistryError::UnknownToken { id })?;
        self.tell(EventKind::TokenRevoked, &revoked).await;
        Ok(revoked)
    }

    /// Lets a workload in again that was revoked.
    ///
    /// # Errors
    /// There is no such token, it stands for no workload, or it cannot be saved.
    pub async fn readmit(&self, id: &str) -> Result<TokenRecord, RegistryError> {
        let id = token_id(id)?;
        if self.show(id.as_str()).await?.workload.is_none() {
            let text = "only the token of a workload can be made good again; make a new one".to_owned();
            return Err(RegistryError::Config(text));
        }
        let readmitted = self.ask(|| self.store.readmit_workload(&id)).await?;
        let readmitted = readmitted.ok_or(RegistryError::UnknownToken { id })?;
        self.tell(EventKind::TokenReadmitted, &readmitted).await;
        Ok(readmitted)
    }

    /// Gives a token another secret. The one until now is good for `grace` longer; then it ends, and what was opened until then, with
    /// whichever of the two, is cut and its tickets are refused: whoever has the new one comes back.
    ///
    /// # Errors
    /// There is no such token, it ended, or it cannot be saved.
    pub async fn rotate(&self, id: &str, grace: Duration) -> Result<CreatedToken, RegistryError> {
        let id = token_id(id)?;
        let before = self.show(id.as_str()).await?;
        if before.workload.is_some() {
            let text = "the token of a workload has no secret of this server's; its issuer renews it".to_owned();
            return Err(RegistryError::Config(text));
        }
        let secret = token::generate(before.role)?;
        let now = self.clock.now();
        let until = now.saturating_add(grace.as_secs());
        let hash = TokenHash::of(&secret);
        match self.ask(|| self.store.rotate_token(&id, &hash, until, now)).await? {
            Some(record) => {
                self.tell(EventKind::TokenRotated, &record).await;
                Ok(CreatedToken { secret, record })
            }
            None => Err(RegistryError::EndedToken { id }),
        }
    }

    /// Ends the use of the database; not for those of a running [`crate::Registry`], which ends it itself.
    pub async fn close(self) {
        self.store.close().await;
    }

    /// Writes down what became of a token. A journal that cannot be written fails nothing.
    async fn tell(&self, kind: EventKind, token: &TokenRecord) {
        let detail = json!({"token_id": token.id.as_str(), "role": token.role, "executors": token.executors});
        self.write_down(kind, None, detail).await;
    }

    async fn write_down(&self, kind: EventKind, executor: Option<ExecutorId>, detail: Value) {
        let event = NewEvent { at: self.clock.now(), kind: kind.as_str().to_owned(), executor, detail };
        if let Some(journal) = &self.journal {
            journal.put(event).await;
        } else if let Err(error) = self.ask(|| self.store.append_events(std::slice::from_ref(&event))).await {
            tracing::warn!(kind = kind.as_str(), %error, "an event is not in the journal");
        }
    }

    /// Asks the store, again while it is busy and there is patience left.
    async fn ask<'a, T>(&self, mut ask: impl FnMut() -> Pending<'a, T>) -> Result<T, RegistryError> {
        let answer = match self.patience {
            Duration::ZERO => ask().await,
            patience => outwait(patience, || {}, ask).await,
        };
        answer.map_err(|error| RegistryError::store(&self.database, error))
    }
}

/// Refuses a name that is too long or would move a terminal's cursor.
pub(super) fn check_name(name: &str) -> Result<(), RegistryError> {
    if name.len() <= MAX_NAME && !name.chars().any(char::is_control) {
        return Ok(());
    }
    Err(RegistryError::Config(format!("a token's name has at most {MAX_NAME} bytes and no control characters")))
}

/// An id as it should be. The text is not repeated: it may be the token itself.
fn token_id(text: &str) -> Result<TokenId, RegistryError> {
    let digits = text.strip_prefix("tok-").unwrap_or_default();
    if digits.len() != 16 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let text = "that is no token's id, as `exedra token list` shows them: `tok-` and 16 hex digits".to_owned();
        return Err(RegistryError::Config(text));
    }
    Ok(TokenId::new(text))
}
