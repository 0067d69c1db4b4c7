//! The access log in SQLite. Triggers of the schema refuse to change it or to take away from it.

use exedra_proto::ids::{ExecutorId, TokenId};
use sqlx::SqliteConnection;
use sqlx::sqlite::SqlitePool;

use super::rows::{self, failure, from_time};
use crate::store::{Access, StoreError};

/// Appends lines; their ids are set here.
pub async fn append(tx: &mut SqliteConnection, lines: &[Access]) -> Result<(), StoreError> {
    for line in lines {
        sqlx::query(
            "INSERT INTO access_log (at, request_id, address, token_id, role, action, executor_id, outcome, count) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(from_time(line.at))
        .bind(&line.request_id)
        .bind(line.address.as_deref())
        .bind(line.token.as_ref().map(TokenId::as_str))
        .bind(line.role.map(|role| role.as_str()))
        .bind(&line.action)
        .bind(line.executor.as_ref().map(ExecutorId::as_str))
        .bind(&line.outcome)
        .bind(from_time(line.count))
        .execute(&mut *tx)
        .await
        .map_err(failure)?;
    }
    Ok(())
}

/// Lines with ids above `id`.
pub async fn after(readers: &SqlitePool, id: u64, limit: u32) -> Result<Vec<Access>, StoreError> {
    let rows = sqlx::query("SELECT * FROM access_log WHERE id > ? ORDER BY id LIMIT ?")
        .bind(from_time(id))
        .bind(limit)
        .fetch_all(readers)
        .await;
    rows.map_err(failure)?.iter().map(rows::access).collect()
}
