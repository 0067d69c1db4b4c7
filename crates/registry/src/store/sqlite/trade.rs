//! Join tokens that are traded, in SQLite: looked at and changed in the one transaction that is given.

use exedra_proto::ids::TokenId;
use sqlx::{Row as _, SqliteConnection};

use super::rows::{self, failure, from_time};
use super::tokens;
use crate::store::{StoreError, TokenRecord, Trade, Traded};

/// Trades, if all speaks for it; else nothing is changed.
pub async fn trade(tx: &mut SqliteConnection, trade: &Trade) -> Result<Traded, StoreError> {
    if let Some(known) = known(tx, trade).await? {
        return Ok(known);
    }
    let row = sqlx::query("SELECT * FROM tokens WHERE id = ?").bind(trade.join.as_str()).fetch_optional(&mut *tx).await;
    // A token is never deleted.
    let Some(row) = row.map_err(failure)? else { return Ok(Traded::JoinRevoked) };
    let join = rows::token(&row)?;
    if join.revoked_at.is_some() {
        return Ok(Traded::JoinRevoked);
    }
    if join.expires_at.is_some_and(|at| at <= trade.now) {
        return Ok(Traded::JoinExpired);
    }
    if join.uses_left.unwrap_or(0) == 0 {
        return Ok(Traded::JoinUsedUp);
    }
    if is_name_taken(tx, trade).await? {
        return Ok(Traded::NameTaken);
    }
    use_up(tx, &trade.join).await?;
    tokens::insert(tx, &trade.credential, &trade.hash).await?;
    Ok(Traded::Made(trade.credential.clone()))
}

/// What a token that has that hash already makes of the trade.
async fn known(tx: &mut SqliteConnection, trade: &Trade) -> Result<Option<Traded>, StoreError> {
    let row = sqlx::query("SELECT *, hash = ?1 AS is_current FROM tokens WHERE hash = ?1 OR old_hash = ?1 LIMIT 1")
        .bind(trade.hash.as_bytes())
        .fetch_optional(tx)
        .await
        .map_err(failure)?;
    let Some(row) = row else { return Ok(None) };
    let is_current: bool = row.try_get("is_current").map_err(failure)?;
    let token = rows::token(&row)?;
    let is_same = is_current && token.joined_with.is_some() && token.executors == trade.credential.executors;
    Ok(Some(match (is_same, is_good(&token, trade.now)) {
        (true, true) => Traded::Known(token),
        (true, false) => Traded::Ended,
        (false, _) => Traded::HashTaken,
    }))
}

fn is_good(token: &TokenRecord, now: u64) -> bool {
    token.revoked_at.is_none() && token.expires_at.is_none_or(|at| at > now)
}

/// Whether an executor of that id is registered, or a good token is for that id alone.
async fn is_name_taken(tx: &mut SqliteConnection, trade: &Trade) -> Result<bool, StoreError> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM executors WHERE id = ?1) OR EXISTS (SELECT 1 FROM tokens WHERE role = 'executor' \
         AND executors = ?1 AND revoked_at IS NULL AND coalesce(expires_at > ?2, 1))",
    )
    .bind(trade.credential.executors.as_str())
    .bind(from_time(trade.now))
    .fetch_one(tx)
    .await
    .map_err(failure)
}

async fn use_up(tx: &mut SqliteConnection, join: &TokenId) -> Result<(), StoreError> {
    let query = sqlx::query("UPDATE tokens SET uses_left = uses_left - 1 WHERE id = ?").bind(join.as_str());
    query.execute(tx).await.map(drop).map_err(failure)
}
