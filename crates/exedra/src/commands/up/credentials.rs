//! The tokens of `up`: the executor's lives as long as the process, the client's may be kept for the next time.
//!
//! In flow the registry's tokens and a data directory, out flow secrets and the path of a file that holds the client's,
//! for its owner alone.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use exedra_proto::ids::TokenId;
use exedra_proto::secret::Secret;
use exedra_registry::store::TokenRecord;
use exedra_registry::token::Role;
use exedra_registry::{NewToken, RegistryError, Tokens};

use crate::exit::Failure;
use crate::settings;

/// What the tokens are for, as `token list` shows it.
const NAME: &str = "exedra up";
/// Where kept tokens are, in the data directory.
const DIR: &str = "up";

/// The tokens, and which of them go when the process does.
pub struct Credentials {
    /// The executor's.
    pub executor: Secret,
    /// A client's.
    pub client: Secret,
    client_id: TokenId,
    passing: Vec<TokenId>,
}

impl Credentials {
    /// Makes both. What a former run could not take back is taken back first: nobody has it, unless it was kept.
    pub async fn make(tokens: &Tokens, data_dir: &Path) -> Result<Self, Failure> {
        for record in tokens.list().await?.iter().filter(|record| is_ours(record)) {
            if record.role != Role::Client || !file_of(&data_dir.join(DIR), &record.id).exists() {
                tokens.revoke(record.id.as_str()).await?;
            }
        }
        let executor = create(tokens, Role::Executor).await?;
        let client = create(tokens, Role::Client).await?;
        let (executor_id, client_id) = (executor.record.id, client.record.id);
        let passing = vec![executor_id, client_id.clone()];
        Ok(Self { executor: executor.secret, client: client.secret, client_id, passing })
    }

    /// Keeps the client's token in a file, so that what was pasted once works the next time, too. A token that was kept
    /// before and is still good is used instead.
    pub async fn keep(&mut self, tokens: &Tokens, data_dir: &Path) -> Result<PathBuf, Failure> {
        let dir = data_dir.join(DIR);
        let told = || format!("cannot keep a token in {}", dir.display());
        match DirBuilder::new().mode(0o700).create(&dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error).with_context(told)?,
            _ => {}
        }
        let live = tokens.list().await?;
        for entry in fs::read_dir(&dir).with_context(told)? {
            let path = entry.with_context(told)?.path();
            let id = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            let known = live.iter().any(|record| record.id.as_str() == id && is_ours(record));
            match settings::token_file(&path) {
                Ok(secret) if known => {
                    self.client = secret;
                    tokens.revoke(self.client_id.as_str()).await?;
                    return Ok(path);
                }
                _ => fs::remove_file(&path).with_context(told)?,
            }
        }
        let path = file_of(&dir, &self.client_id);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).with_context(told)?;
        writeln!(file, "{}", self.client.expose()).with_context(told)?;
        self.passing.retain(|id| *id != self.client_id);
        Ok(path)
    }

    /// Takes back what is not kept.
    pub async fn revoke(&self, tokens: &Tokens) {
        for id in &self.passing {
            if let Err(error) = tokens.revoke(id.as_str()).await {
                tracing::warn!(%error, %id, "a token could not be revoked");
            }
        }
    }
}

async fn create(tokens: &Tokens, role: Role) -> Result<exedra_registry::CreatedToken, RegistryError> {
    tokens.create(NewToken { name: NAME.to_owned(), ..NewToken::of(role) }).await
}

fn file_of(dir: &Path, id: &TokenId) -> PathBuf {
    dir.join(format!("{id}.token"))
}

fn is_ours(record: &TokenRecord) -> bool {
    record.name == NAME && record.revoked_at.is_none()
}
