//! The access log in SQLite. Triggers of the schema refuse to change it or to take away from it; the one who keeps it
//! lifts the second of them within a transaction that gives up the oldest lines, so that for others it is always there.

use exedra_proto::ids::{ExecutorId, TokenId};
use sqlx::sqlite::SqlitePool;
use sqlx::{AssertSqlSafe, SqliteConnection};

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

/// Refuses to take away from the log.
const GUARD: &str = "access_log_is_not_shortened";

/// Whether any of the oldest `most` lines is from before `before`.
pub async fn is_older(readers: &SqlitePool, before: u64, most: u32) -> Result<bool, StoreError> {
    let found = sqlx::query("SELECT 1 FROM (SELECT at FROM access_log ORDER BY id LIMIT ?) WHERE at < ? LIMIT 1")
        .bind(most)
        .bind(from_time(before))
        .fetch_optional(readers)
        .await;
    Ok(found.map_err(failure)?.is_some())
}

/// Gives up those of the oldest `most` lines that are from before `before`: how many.
pub async fn shorten(tx: &mut SqliteConnection, before: u64, most: u32) -> Result<u64, StoreError> {
    let guard: String = sqlx::query_scalar("SELECT sql FROM sqlite_schema WHERE type = 'trigger' AND name = ?")
        .bind(GUARD)
        .fetch_one(&mut *tx)
        .await
        .map_err(failure)?;
    sqlx::raw_sql(AssertSqlSafe(format!("DROP TRIGGER {GUARD}"))).execute(&mut *tx).await.map_err(failure)?;
    let gone = sqlx::query(
        "DELETE FROM access_log WHERE at < ? AND id <= \
         (SELECT max(id) FROM (SELECT id FROM access_log ORDER BY id LIMIT ?))",
    )
    .bind(from_time(before))
    .bind(most)
    .execute(&mut *tx)
    .await
    .map_err(failure)?;
    sqlx::raw_sql(AssertSqlSafe(guard)).execute(&mut *tx).await.map_err(failure)?;
    Ok(gone.rows_affected())
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
