//! Tokens made, listed and revoked, on a store that a server may be using at the same time.
//!
//! What a person asks for flows in, records flow out, and once the secret itself. What is revoked here is refused by the
//! server from its next request on, and what is open with it is cut within seconds.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use exedra_proto::ids::TokenId;
use exedra_proto::secret::Secret;

use crate::clock::Clock;
use crate::error::RegistryError;
use crate::store::{Store, StoreError, TokenRecord};
use crate::token::{self, Pattern, Role, TokenHash};

/// Longest name of a token, in bytes.
const MAX_NAME: usize = 128;

/// The tokens of a data directory.
#[derive(Clone)]
pub struct Tokens {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    database: PathBuf,
}

/// What a token is to be.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// What its holder is.
    pub role: Role,
    /// Which executors it reaches.
    pub executors: Pattern,
    /// What it is for, for people; may be empty.
    pub name: String,
    /// How long it is good; without end, if not set.
    pub lifetime: Option<Duration>,
}

impl NewToken {
    /// A token of this role for all executors, without name and end.
    pub fn of(role: Role) -> Self {
        Self { role, executors: Pattern::any(), name: String::new(), lifetime: None }
    }
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
        Self { store, clock, database }
    }

    /// Makes a token. It is on the disk when this returns.
    ///
    /// # Errors
    /// Its name is too long or has control characters, or it cannot be saved.
    pub async fn create(&self, new: NewToken) -> Result<CreatedToken, RegistryError> {
        if new.name.len() > MAX_NAME || new.name.chars().any(char::is_control) {
            let text = format!("a token's name has at most {MAX_NAME} bytes and no control characters");
            return Err(RegistryError::Config(text));
        }
        let secret = token::generate(new.role)?;
        let now = self.clock.now();
        let record = TokenRecord {
            id: token::new_id()?,
            name: new.name,
            role: new.role,
            executors: new.executors,
            created_at: now,
            expires_at: new.lifetime.map(|lifetime| now.saturating_add(lifetime.as_secs().max(1))),
            revoked_at: None,
        };
        let added = self.store.add_token(&record, &TokenHash::of(&secret)).await;
        added.map_err(|error| self.error(error))?;
        Ok(CreatedToken { secret, record })
    }

    /// All tokens, oldest first.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn list(&self) -> Result<Vec<TokenRecord>, RegistryError> {
        self.store.tokens().await.map_err(|error| self.error(error))
    }

    /// Makes a token worthless; once more changes nothing.
    ///
    /// # Errors
    /// There is no such token, or it cannot be saved. A text that is no id is not repeated: it may be the token itself.
    pub async fn revoke(&self, id: &str) -> Result<TokenRecord, RegistryError> {
        let digits = id.strip_prefix("tok-").unwrap_or_default();
        if digits.len() != 16 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let text = "that is no token's id, as `exedra token list` shows them: `tok-` and 16 hex digits".to_owned();
            return Err(RegistryError::Config(text));
        }
        let id = TokenId::new(id);
        let revoked = self.store.revoke_token(&id, self.clock.now()).await.map_err(|error| self.error(error))?;
        revoked.ok_or(RegistryError::UnknownToken { id })
    }

    /// Ends the use of the database; not for those of a running [`crate::Registry`], which ends it itself.
    pub async fn close(self) {
        self.store.close().await;
    }

    fn error(&self, error: StoreError) -> RegistryError {
        RegistryError::store(&self.database, error)
    }
}
