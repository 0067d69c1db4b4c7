//! Joining: an executor trades a join token for a credential of its own, which it made itself and of which only the hash
//! comes here.
//!
//! The join token's record and the executor's wish flow in, a token's record flows out, on the disk with the use that it cost.
//! The same hash asked for again is the same trade, so that an answer which was lost on its way costs nothing. A name is
//! given once: whoever has a join token cannot take over an executor that is there.

use exedra_proto::ids::{ExecutorId, TokenId};
use exedra_proto::registry::{JoinReply, JoinRequest};
use exedra_proto::secret::Secret;
use serde_json::json;
use tokio::time::Instant;

use super::events::EventKind;
use super::register::patiently;
use super::tokens::check_name;
use super::{Refusal, Service};
use crate::auth::{Denied, note_executor};
use crate::store::{StoreError, TokenRecord, Trade, Traded};
use crate::token::{self, Pattern, Role, TokenHash};

/// The holder of a join token, which may have ended.
#[derive(Debug)]
pub struct Joiner(TokenRecord);

impl Service {
    /// Who shows this join token. Waits for a store that cannot answer.
    pub async fn joiner(&self, bearer: Option<&Secret>) -> Result<Joiner, Refusal> {
        let deadline = Instant::now() + self.write_patience;
        Ok(Joiner(patiently(deadline, Denied::is_passing, || self.auth.joiner(bearer)).await?))
    }

    /// Trades the join token.
    pub async fn join(&self, joiner: &Joiner, request: JoinRequest) -> Result<JoinReply, Refusal> {
        let Joiner(join) = joiner;
        let executor = ExecutorId::parse(&request.executor_id).map_err(Denied::from)?;
        note_executor(&executor);
        if !join.executors.covers(&executor) {
            return Err(Denied::Pattern(join.executors.clone()).into());
        }
        let hash = hash(&request.credential_sha256)?;
        let now = self.clock.now();
        let credential = TokenRecord {
            name: request.name.unwrap_or_else(|| format!("joined with {}", join.id)),
            // An id has no `*`, so it is a pattern for itself alone.
            executors: Pattern::parse(executor.as_str()).map_err(|error| Refusal::Invalid(error.to_string()))?,
            labels: join.labels.clone(),
            joined_with: Some(TokenId::new(join.id.as_str())),
            ..TokenRecord::new(new_id()?, Role::Executor, now)
        };
        check_name(&credential.name)?;
        let trade = Trade { join: join.id.clone(), credential, hash, now };
        let deadline = Instant::now() + self.write_patience;
        let traded = patiently(deadline, StoreError::is_retryable, || self.store.trade(&trade)).await;
        let token = match traded? {
            Traded::Made(token) => {
                self.auth.note_used(&join.id);
                let detail = json!({"token_id": token.id.as_str(), "joined_with": join.id.as_str()});
                self.record(EventKind::ExecutorJoined, Some(&executor), detail).await;
                token
            }
            Traded::Known(token) => token,
            Traded::Ended => return Err(Refusal::EndedToken),
            Traded::JoinRevoked => return Err(Denied::Revoked.into()),
            Traded::JoinExpired => return Err(Denied::Expired.into()),
            Traded::JoinUsedUp => return Err(Denied::UsedUp.into()),
            Traded::NameTaken => return Err(Refusal::NameTaken),
            Traded::HashTaken => {
                return Err(Refusal::Invalid("another token has that hash; make another credential".to_owned()));
            }
        };
        let (token_id, expires_at) = (token.id.as_str().to_owned(), token.expires_at);
        Ok(JoinReply { executor_id: executor.as_str().to_owned(), token_id, expires_at })
    }
}

fn new_id() -> Result<TokenId, Refusal> {
    token::new_id().map_err(|error| {
        tracing::error!(%error, "no credential can be given out");
        Refusal::Unavailable
    })
}

/// The hash that these 64 hex digits are.
fn hash(hex: &str) -> Result<TokenHash, Refusal> {
    let is_hex = hex.len() == 64 && hex.bytes().all(|digit| digit.is_ascii_hexdigit());
    let byte = |at: usize| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok();
    let bytes: Option<Vec<u8>> = is_hex.then(|| (0..64).step_by(2).map(byte).collect()).flatten();
    bytes.and_then(|bytes| TokenHash::from_bytes(&bytes)).ok_or_else(|| {
        Refusal::Invalid("the member credential_sha256 of the body is no SHA-256, which has 64 hex digits".to_owned())
    })
}
