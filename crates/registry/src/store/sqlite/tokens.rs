//! Tokens in SQLite: the statements, each on the connection that it is given.

use exedra_proto::ids::TokenId;
use sqlx::sqlite::SqlitePool;
use sqlx::{Row as _, SqliteConnection};

use super::rows::{self, failure, from_time};
use crate::store::{End, Ended, StoreError, TokenRecord};
use crate::token::TokenHash;

/// Adds a token.
pub async fn insert(tx: &mut SqliteConnection, token: &TokenRecord, hash: &TokenHash) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO tokens (id, hash, name, role, executors, labels, client_labels, rights, created_at, expires_at, revoked_at, \
         last_used, uses_left, joined_with, issuer, subject, rule) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(token.id.as_str())
    .bind(hash.as_bytes())
    .bind(&token.name)
    .bind(token.role.as_str())
    .bind(token.executors.as_str())
    .bind(rows::labels_text(&token.labels)?)
    .bind(rows::labels_text(&token.client_labels)?)
    .bind(token.rights.to_string())
    .bind(from_time(token.created_at))
    .bind(token.expires_at.map(from_time))
    .bind(token.revoked_at.map(from_time))
    .bind(token.last_used.map(from_time))
    .bind(token.uses_left)
    .bind(token.joined_with.as_ref().map(TokenId::as_str))
    .bind(token.workload.as_ref().map(|workload| &workload.issuer))
    .bind(token.workload.as_ref().map(|workload| &workload.subject))
    .bind(token.workload.as_ref().map(|workload| &workload.rule))
    .execute(tx)
    .await
    .map_err(failure)?;
    Ok(())
}

/// The token of that hash.
pub async fn by_hash(
    readers: &SqlitePool,
    hash: &TokenHash,
    now: u64,
) -> Result<Option<(TokenRecord, TokenHash)>, StoreError> {
    let row = sqlx::query(
        "SELECT *, hash = ?1 AS is_current FROM tokens WHERE hash = ?1 OR (old_hash = ?1 AND old_until > ?2) LIMIT 1",
    )
    .bind(hash.as_bytes())
    .bind(from_time(now))
    .fetch_optional(readers)
    .await
    .map_err(failure)?;
    row.map(|row| {
        let is_current: bool = row.try_get("is_current").map_err(failure)?;
        let column = if is_current { "hash" } else { "old_hash" };
        Ok((rows::token(&row)?, rows::token_hash(&row, column)?))
    })
    .transpose()
}

/// All tokens, oldest first.
pub async fn all(readers: &SqlitePool) -> Result<Vec<TokenRecord>, StoreError> {
    let rows = sqlx::query("SELECT * FROM tokens ORDER BY created_at, rowid").fetch_all(readers).await;
    rows.map_err(failure)?.iter().map(rows::token).collect()
}

/// Gives a good token another secret.
pub async fn rotate(
    tx: &mut SqliteConnection,
    id: &TokenId,
    hash: &TokenHash,
    old_until: u64,
    now: u64,
) -> Result<Option<TokenRecord>, StoreError> {
    let row = sqlx::query(
        "UPDATE tokens SET old_hash = CASE WHEN ?3 > ?4 THEN hash END, old_until = ?3, hash = ?2 WHERE id = ?1 AND issuer IS NULL AND revoked_at IS NULL AND coalesce(expires_at > ?4, 1) RETURNING *",
    )
    .bind(id.as_str())
    .bind(hash.as_bytes())
    .bind(from_time(old_until))
    .bind(from_time(now))
    .fetch_optional(tx)
    .await
    .map_err(failure)?;
    row.as_ref().map(rows::token).transpose()
}

/// Notes when tokens were last shown.
pub async fn mark_used(tx: &mut SqliteConnection, used: &[(TokenId, u64)]) -> Result<(), StoreError> {
    for (token, at) in used {
        sqlx::query("UPDATE tokens SET last_used = max(coalesce(last_used, 0), ?) WHERE id = ?")
            .bind(from_time(*at))
            .bind(token.as_str())
            .execute(&mut *tx)
            .await
            .map_err(failure)?;
    }
    Ok(())
}

/// Revokes a token.
pub async fn revoke(tx: &mut SqliteConnection, id: &TokenId, now: u64) -> Result<Option<TokenRecord>, StoreError> {
    let row = sqlx::query("UPDATE tokens SET revoked_at = coalesce(revoked_at, ?) WHERE id = ? RETURNING *")
        .bind(from_time(now))
        .bind(id.as_str())
        .fetch_optional(tx)
        .await
        .map_err(failure)?;
    row.as_ref().map(rows::token).transpose()
}

/// The tokens that ended at `since` or later.
pub async fn ended(readers: &SqlitePool, since: u64, now: u64) -> Result<Vec<Ended>, StoreError> {
    let rows = sqlx::query(
        "SELECT id, revoked_at, expires_at, old_until FROM tokens WHERE revoked_at >= ?1 \
         OR (revoked_at IS NULL AND (expires_at BETWEEN ?1 AND ?2 OR old_until BETWEEN ?1 AND ?2)) ORDER BY rowid",
    )
    .bind(from_time(since))
    .bind(from_time(now))
    .fetch_all(readers)
    .await
    .map_err(failure)?;
    let mut ended = Vec::new();
    for row in &rows {
        let token = rows::token_id(row)?;
        let time = |column| rows::optional_time(row, column);
        if time("revoked_at")?.is_some() {
            ended.push(Ended { token, how: End::Revoked });
            continue;
        }
        let is_over = |at: &u64| (since..=now).contains(at);
        let expired = time("expires_at")?.filter(is_over).map(|_| End::Expired);
        let renewed = time("old_until")?.filter(is_over).map(End::Renewed);
        ended.extend(expired.into_iter().chain(renewed).map(|how| Ended { token: token.clone(), how }));
    }
    Ok(ended)
}
