//! Names that are bound to a key, in SQLite.

use exedra_proto::ids::ExecutorId;
use sqlx::{Row as _, SqliteConnection};

use super::rows::{failure, from_time};
use crate::store::{NewRegistration, StoreError};

/// Binds the name to the key of the first who has one; refuses whoever has another or none.
pub async fn bind(tx: &mut SqliteConnection, new: &NewRegistration) -> Result<(), StoreError> {
    let registration = &new.registration;
    let key = registration.proven_key();
    if let Some(key) = &key {
        sqlx::query("INSERT INTO bound_keys (executor_id, key, bound_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING")
            .bind(registration.executor.as_str())
            .bind(key)
            .bind(from_time(registration.created_at))
            .execute(&mut *tx)
            .await
            .map_err(failure)?;
    }
    let row = sqlx::query("SELECT key FROM bound_keys WHERE executor_id = ?")
        .bind(registration.executor.as_str())
        .fetch_optional(&mut *tx)
        .await
        .map_err(failure)?;
    let bound: Option<String> = row.map(|row| row.try_get("key").map_err(failure)).transpose()?;
    if bound.is_some() && bound != key { Err(StoreError::OtherKey) } else { Ok(()) }
}

/// Lets any key have the name; whether one had it.
pub async fn forget(tx: &mut SqliteConnection, id: &ExecutorId) -> Result<bool, StoreError> {
    let done = sqlx::query("DELETE FROM bound_keys WHERE executor_id = ?").bind(id.as_str()).execute(tx).await;
    Ok(done.map_err(failure)?.rows_affected() > 0)
}
