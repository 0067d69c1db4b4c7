//! The tokens that stand for workloads, in SQLite.

use exedra_proto::ids::TokenId;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

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
    let labels = serde_json::to_string(&token.labels).map_err(|error| StoreError::Failed(error.to_string()))?;
    let known = sqlx::query(
        "UPDATE tokens SET name = ?2, role = ?3, executors = ?4, labels = ?5, rights = ?6, \
         expires_at = max(coalesce(expires_at, 0), ?7) WHERE hash = ?1 AND issuer IS NOT NULL RETURNING *",
    )
    .bind(hash.as_bytes())
    .bind(&token.name)
    .bind(token.role.as_str())
    .bind(token.executors.as_str())
    .bind(labels)
    .bind(token.rights.to_string())
    .bind(token.expires_at.map(from_time).unwrap_or_default())
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

/// Whose a token is.
pub fn workload(row: &SqliteRow) -> Result<Option<Workload>, StoreError> {
    let text = |column| row.try_get::<Option<String>, _>(column).map_err(failure);
    let (issuer, subject, rule) = (text("issuer")?, text("subject")?, text("rule")?);
    Ok(issuer.map(|issuer| Workload { issuer, subject: subject.unwrap_or_default(), rule: rule.unwrap_or_default() }))
}
