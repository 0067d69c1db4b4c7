//! The tokens that stand for workloads, in SQLite.

use exedra_proto::ids::{ExecutorId, TokenId};
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{AssertSqlSafe, Row as _, SqliteConnection};

use super::rows::{self, failure, from_time};
use super::tokens;
use crate::store::{StoreError, TokenRecord, Workload};
use crate::token::TokenHash;

/// Lets a workload in, again or for the first time.
pub async fn admit(
    tx: &mut SqliteConnection,
    token: &TokenRecord,
    hash: &TokenHash,
) -> Result<TokenRecord, StoreError> {
    let known = sqlx::query(
        "UPDATE tokens SET name = ?2, role = ?3, executors = ?4, labels = ?5, rights = ?6, \
         expires_at = max(coalesce(expires_at, 0), ?7), client_labels = ?8 WHERE hash = ?1 AND issuer IS NOT NULL RETURNING *",
    )
    .bind(hash.as_bytes())
    .bind(&token.name)
    .bind(token.role.as_str())
    .bind(token.executors.as_str())
    .bind(rows::labels_text(&token.labels)?)
    .bind(token.rights.to_string())
    .bind(token.expires_at.map(from_time).unwrap_or_default())
    .bind(rows::labels_text(&token.client_labels)?)
    .fetch_optional(&mut *tx)
    .await
    .map_err(failure)?;
    if let Some(known) = known {
        return rows::token(&known);
    }
    tokens::insert(tx, token, hash).await?;
    Ok(token.clone())
}

/// Makes a revoked one good again.
pub async fn readmit(tx: &mut SqliteConnection, id: &TokenId) -> Result<Option<TokenRecord>, StoreError> {
    let row = sqlx::query("UPDATE tokens SET revoked_at = NULL WHERE id = ? AND issuer IS NOT NULL RETURNING *")
        .bind(id.as_str())
        .fetch_optional(tx)
        .await
        .map_err(failure)?;
    row.as_ref().map(rows::token).transpose()
}

/// What tells a token of a workload that lapsed before `?1`.
const LAPSED: &str =
    "t.issuer IS NOT NULL AND t.revoked_at IS NULL AND t.expires_at < ?1 AND coalesce(t.last_used, 0) < ?1";

/// Executors whose workload lapsed, and which nobody cares for.
pub async fn lapsed_executors(readers: &SqlitePool, before: u64, most: u32) -> Result<Vec<ExecutorId>, StoreError> {
    let sql = format!(
        "SELECT e.id AS executor_id FROM executors e JOIN registrations r ON r.executor_id = e.id AND r.epoch = e.epoch \
         JOIN tokens t ON t.id = r.token_id WHERE {LAPSED} AND coalesce(e.last_seen, 0) < ?1 AND r.created_at < ?1 \
         AND e.assigned_labels = '{{}}' AND e.draining_since IS NULL ORDER BY e.id LIMIT ?2"
    );
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(from_time(before)).bind(most).fetch_all(readers).await;
    rows.map_err(failure)?.iter().map(rows::executor_id).collect()
}

/// Tokens that can be forgotten.
pub async fn lapsed(readers: &SqlitePool, before: u64, most: u32) -> Result<Vec<TokenId>, StoreError> {
    let sql = format!(
        "SELECT t.id FROM tokens t WHERE {LAPSED} AND t.id NOT IN (SELECT token_id FROM registrations) \
         ORDER BY t.rowid LIMIT ?2"
    );
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(from_time(before)).bind(most).fetch_all(readers).await;
    rows.map_err(failure)?.iter().map(rows::token_id).collect()
}

/// Forgets these, as far as nothing has changed: how many.
pub async fn forget(tx: &mut SqliteConnection, tokens: &[TokenId], before: u64) -> Result<u64, StoreError> {
    let sql = format!(
        "DELETE FROM tokens AS t WHERE {LAPSED} AND t.id = ?2 \
         AND NOT EXISTS (SELECT 1 FROM registrations r WHERE r.token_id = t.id)"
    );
    let mut gone = 0;
    for token in tokens {
        let done = sqlx::query(AssertSqlSafe(sql.clone())).bind(from_time(before)).bind(token.as_str());
        gone += done.execute(&mut *tx).await.map_err(failure)?.rows_affected();
    }
    Ok(gone)
}

/// Whose a token is.
pub fn workload(row: &SqliteRow) -> Result<Option<Workload>, StoreError> {
    let text = |column| row.try_get::<Option<String>, _>(column).map_err(failure);
    let (issuer, subject, rule) = (text("issuer")?, text("subject")?, text("rule")?);
    Ok(issuer.map(|issuer| Workload { issuer, subject: subject.unwrap_or_default(), rule: rule.unwrap_or_default() }))
}
