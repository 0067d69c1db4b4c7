//! The journal of events in SQLite: appended with rising ids, read from an id on, the oldest given up.

use serde_json::Value;
use sqlx::Row as _;
use sqlx::sqlite::SqlitePool;
use sqlx::{Sqlite, SqliteConnection, SqliteExecutor, Transaction};

use super::rows::{self, failure, from_time, to_time};
use crate::store::{EVENTS_KEPT, Event, NewEvent, StoreError};

/// Appends, and gives up what passes the number kept: the last one's id.
pub async fn append(tx: &mut Transaction<'static, Sqlite>, events: &[NewEvent]) -> Result<u64, StoreError> {
    for event in events {
        sqlx::query("INSERT INTO events (at, kind, executor_id, detail) VALUES (?, ?, ?, ?)")
            .bind(from_time(event.at))
            .bind(&event.kind)
            .bind(event.executor.as_ref().map(|executor| executor.as_str()))
            .bind(event.detail.to_string())
            .execute(&mut **tx)
            .await
            .map_err(failure)?;
    }
    let last = last(&mut **tx).await?;
    let oldest: Option<i64> =
        sqlx::query_scalar("SELECT min(id) FROM events").fetch_one(&mut **tx).await.map_err(failure)?;
    // Ids may have leapt, so they do not say how many there are; but there are no more than they say.
    if last.saturating_sub(EVENTS_KEPT) >= to_time(oldest.unwrap_or(i64::MAX))? {
        sqlx::query("DELETE FROM events WHERE id <= (SELECT id FROM events ORDER BY id DESC LIMIT 1 OFFSET ?)")
            .bind(from_time(EVENTS_KEPT))
            .execute(&mut **tx)
            .await
            .map_err(failure)?;
    }
    Ok(last)
}

/// The highest id that one may have had.
pub async fn last(from: impl SqliteExecutor<'_>) -> Result<u64, StoreError> {
    let last: Option<i64> = sqlx::query_scalar("SELECT seq FROM sqlite_sequence WHERE name = 'events'")
        .fetch_optional(from)
        .await
        .map_err(failure)?;
    to_time(last.unwrap_or_default())
}

/// From now on no new id is below `first`.
pub async fn leap(tx: &mut SqliteConnection, first: u64) -> Result<(), StoreError> {
    for sql in [
        "INSERT INTO sqlite_sequence (name, seq) SELECT 'events', ?1 \
         WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'events')",
        "UPDATE sqlite_sequence SET seq = max(seq, ?1) WHERE name = 'events'",
    ] {
        sqlx::query(sql).bind(from_time(first.saturating_sub(1))).execute(&mut *tx).await.map_err(failure)?;
    }
    Ok(())
}

/// Those after `id`, oldest first.
pub async fn after(pool: &SqlitePool, id: u64, limit: u32) -> Result<Vec<Event>, StoreError> {
    let found = sqlx::query("SELECT * FROM events WHERE id > ? ORDER BY id LIMIT ?")
        .bind(from_time(id))
        .bind(limit)
        .fetch_all(pool)
        .await
        .map_err(failure)?;
    found.iter().map(event).collect()
}

fn event(row: &sqlx::sqlite::SqliteRow) -> Result<Event, StoreError> {
    let detail: &str = row.try_get("detail").map_err(failure)?;
    let detail: Value =
        serde_json::from_str(detail).map_err(|_| StoreError::Corrupt("an event's detail cannot be read".to_owned()))?;
    let executor: Option<&str> = row.try_get("executor_id").map_err(failure)?;
    Ok(Event {
        id: to_time(row.try_get("id").map_err(failure)?)?,
        at: to_time(row.try_get("at").map_err(failure)?)?,
        kind: row.try_get("kind").map_err(failure)?,
        executor: executor.map(|_| rows::executor_id(row)).transpose()?,
        detail,
    })
}
