//! The journal of events in SQLite: appended with rising ids, read from an id on, the oldest given up.

use serde_json::Value;
use sqlx::Row as _;
use sqlx::sqlite::SqlitePool;
use sqlx::{Sqlite, Transaction};

use super::rows::{self, failure, from_time, to_time};
use crate::store::{EVENTS_KEPT, Event, NewEvent, StoreError};

/// Appends, and gives up what passes the number kept: the new one's id.
pub async fn append(tx: &mut Transaction<'static, Sqlite>, event: &NewEvent) -> Result<u64, StoreError> {
    let row = sqlx::query("INSERT INTO events (at, kind, executor_id, detail) VALUES (?, ?, ?, ?) RETURNING id")
        .bind(from_time(event.at))
        .bind(&event.kind)
        .bind(event.executor.as_ref().map(|executor| executor.as_str()))
        .bind(event.detail.to_string())
        .fetch_one(&mut **tx)
        .await
        .map_err(failure)?;
    let id = to_time(row.try_get("id").map_err(failure)?)?;
    sqlx::query("DELETE FROM events WHERE id <= ?")
        .bind(from_time(id.saturating_sub(EVENTS_KEPT)))
        .execute(&mut **tx)
        .await
        .map_err(failure)?;
    Ok(id)
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
