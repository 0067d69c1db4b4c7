//! Executors in SQLite: the statements that read and change what is kept of them.

use exedra_proto::ids::ExecutorId;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqlitePool;

use super::rows::{self, failure, from_time};
use crate::store::{ExecutorChange, ExecutorRecord, StoreError};

/// An executor with its current registration and that one's token.
macro_rules! select {
    ($which:literal) => {
        concat!(
            "SELECT r.*, e.name, e.labels, e.metadata, e.last_seen, e.assigned_labels, e.draining_since, \
             t.labels AS granted_labels, b.key AS bound_key FROM executors e \
             JOIN registrations r ON r.executor_id = e.id AND r.epoch = e.epoch \
             JOIN tokens t ON t.id = r.token_id LEFT JOIN bound_keys b ON b.executor_id = e.id ",
            $which
        )
    };
}

/// The executor of that id.
pub async fn one(connection: &mut SqliteConnection, id: &ExecutorId) -> Result<Option<ExecutorRecord>, StoreError> {
    let row = sqlx::query(select!("WHERE e.id = ?")).bind(id.as_str()).fetch_optional(connection).await;
    row.map_err(failure)?.as_ref().map(rows::executor).transpose()
}

/// Executors with ids above `after`.
pub async fn after(
    readers: &SqlitePool,
    after: Option<&ExecutorId>,
    limit: u32,
) -> Result<Vec<ExecutorRecord>, StoreError> {
    let rows = sqlx::query(select!("WHERE e.id > ? ORDER BY e.id LIMIT ?"))
        .bind(after.map_or("", ExecutorId::as_str))
        .bind(limit)
        .fetch_all(readers)
        .await;
    rows.map_err(failure)?.iter().map(rows::executor).collect()
}

/// Changes what an administrator says of it.
pub async fn change(tx: &mut SqliteConnection, id: &ExecutorId, change: &ExecutorChange) -> Result<(), StoreError> {
    if let Some(labels) = &change.assigned {
        let query = sqlx::query("UPDATE executors SET assigned_labels = ? WHERE id = ?");
        query.bind(rows::labels_text(labels)?).bind(id.as_str()).execute(&mut *tx).await.map_err(failure)?;
    }
    if let Some(since) = change.draining_since {
        let query = sqlx::query("UPDATE executors SET draining_since = ? WHERE id = ?");
        query.bind(since.map(from_time)).bind(id.as_str()).execute(&mut *tx).await.map_err(failure)?;
    }
    Ok(())
}

/// Forgets it; its registrations go with it.
pub async fn forget(tx: &mut SqliteConnection, id: &ExecutorId) -> Result<bool, StoreError> {
    let done = sqlx::query("DELETE FROM executors WHERE id = ?").bind(id.as_str()).execute(tx).await;
    Ok(done.map_err(failure)?.rows_affected() > 0)
}
