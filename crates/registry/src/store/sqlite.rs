//! The store on SQLite: one connection that writes, a few that read.
//!
//! Every write is a transaction begun with `BEGIN IMMEDIATE` and has reached the disk (WAL, `synchronous=FULL`) when its
//! future is done (registrations that come together share one); other processes may work on the same file at the same time. A connection on which a transaction went
//! wrong is thrown away, since SQLite ends some of them by itself, which the pool does not notice.

mod access;
mod events;
mod executors;
mod keys;
mod line;
mod rows;
mod schema;
mod tokens;
mod trade;
mod workloads;

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Instant;

use exedra_proto::ids::{ExecutorId, RegistrationId, TokenId};
use sqlx::sqlite::SqlitePool;
use sqlx::{Connection as _, Row as _, Sqlite, SqliteConnection, Transaction};

use super::writes::Writes;
use super::{
    Access, Ended, Event, ExecutorChange, ExecutorRecord, NewEvent, NewRegistration, Operation, Pending,
    REGISTRATIONS_KEPT, Registration, Store, StoreError, TokenRecord, Trade, Traded, Watch,
};
use crate::token::TokenHash;
use line::Line;
use rows::{failure, from_time, to_time};

pub use schema::{Check, WAIT, outwait};

/// The store on SQLite.
#[derive(Debug)]
pub struct SqliteStore {
    writer: SqlitePool,
    readers: SqlitePool,
    line: Line,
    watch: Option<Watch>,
    writes: Writes,
    /// Where the database is, and room is looked for.
    directory: PathBuf,
}

impl SqliteStore {
    /// Opens the database at `path`, makes it if it is missing, and brings its schema up to date. While others write to it,
    /// it waits, for up to [`WAIT`]. Only one may open at a time; that is the caller's care.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn open(path: &Path, check: Check) -> Result<Self, StoreError> {
        let mut is_told = false;
        let busy = || {
            if !std::mem::replace(&mut is_told, true) {
                tracing::warn!(most = ?WAIT, "the database is busy; the start waits for it");
            }
        };
        let (writer, readers) = schema::open(path, check, schema::Patience::default(), busy).await?;
        let directory = path.parent().map(Path::to_owned).unwrap_or_default();
        Ok(Self { writer, readers, line: Line::default(), watch: None, writes: Writes::default(), directory })
    }

    /// Copies the database at `path`, as it is at one moment, to the file `to`, which is empty. Others may be writing. Gives
    /// the copy's schema.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn copy(path: &Path, to: &Path) -> Result<u32, StoreError> {
        schema::copy(path, to).await
    }

    /// The schema of the database at `path`, which is ours and no newer than this version knows, and on which nobody
    /// works.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn schema(path: &Path, check: Check) -> Result<u32, StoreError> {
        schema::of_idle(path, check).await
    }

    /// Lets the ids of new events in the database at `path`, on which nobody works, begin at `first` or above.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn leap_events(path: &Path, first: u64) -> Result<(), StoreError> {
        schema::leap_events(path, first).await
    }

    /// The schema of the database at `path`, all of whose pages were looked at, and the newest that this version knows.
    /// Nothing is made or changed. `is_idle`: nobody works on it, and nobody was killed while working on it.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn examine(path: &Path, is_idle: bool) -> Result<(u32, u32), StoreError> {
        schema::examine(path, is_idle).await
    }

    /// The same; `watch` is told how long each operation took.
    #[must_use]
    pub fn watched(self, watch: Option<Watch>) -> Self {
        Self { watch, ..self }
    }

    fn read<'a, T: Send + 'a>(
        &'a self,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'a,
    ) -> Pending<'a, T> {
        self.timed(Operation::Read, work)
    }

    fn write<'a, T: Send + 'a>(
        &'a self,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'a,
    ) -> Pending<'a, T> {
        let work = self.timed(Operation::Write, work);
        Box::pin(async move {
            let outcome = work.await;
            self.writes.note(&outcome);
            outcome
        })
    }

    fn timed<'a, T: Send + 'a>(
        &'a self,
        operation: Operation,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'a,
    ) -> Pending<'a, T> {
        let Some(watch) = &self.watch else { return Box::pin(work) };
        Box::pin(async move {
            let began = Instant::now();
            let outcome = work.await;
            (watch.0)(operation, began.elapsed());
            outcome
        })
    }

    async fn begin(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(failure)
    }
}

impl Store for SqliteStore {
    fn add_token<'a>(&'a self, token: &'a TokenRecord, hash: &'a TokenHash) -> Pending<'a, ()> {
        self.write(async move {
            let mut tx = self.begin().await?;
            tokens::insert(&mut tx, token, hash).await?;
            tx.commit().await.map_err(failure)
        })
    }

    fn token<'a>(&'a self, hash: &'a TokenHash, now: u64) -> Pending<'a, Option<(TokenRecord, TokenHash)>> {
        self.read(tokens::by_hash(&self.readers, hash, now))
    }

    fn admit_workload<'a>(&'a self, token: &'a TokenRecord, hash: &'a TokenHash) -> Pending<'a, TokenRecord> {
        self.write(async move {
            let mut tx = self.begin().await?;
            let admitted = workloads::admit(&mut tx, token, hash).await?;
            tx.commit().await.map_err(failure)?;
            Ok(admitted)
        })
    }

    fn readmit_workload<'a>(&'a self, id: &'a TokenId) -> Pending<'a, Option<TokenRecord>> {
        self.write(async move {
            let mut tx = self.begin().await?;
            let readmitted = workloads::readmit(&mut tx, id).await?;
            tx.commit().await.map_err(failure)?;
            Ok(readmitted)
        })
    }

    fn lapsed_executors(&self, before: u64, most: u32) -> Pending<'_, Vec<ExecutorId>> {
        self.read(workloads::lapsed_executors(&self.readers, before, most))
    }

    fn forget_workloads(&self, before: u64, most: u32, now: u64) -> Pending<'_, u64> {
        self.write(async move {
            let lapsed = workloads::lapsed(&self.readers, before, most).await?;
            if lapsed.is_empty() {
                return Ok(0);
            }
            let mut tx = self.begin().await?;
            let gone = workloads::forget(&mut tx, &lapsed, before).await?;
            if gone == 0 {
                return Ok(0);
            }
            access::append(&mut tx, &[Access::forgotten(gone, now)]).await?;
            tx.commit().await.map_err(failure)?;
            Ok(gone)
        })
    }

    fn rotate_token<'a>(
        &'a self,
        id: &'a TokenId,
        hash: &'a TokenHash,
        old_until: u64,
        now: u64,
    ) -> Pending<'a, Option<TokenRecord>> {
        self.write(async move {
            let mut tx = self.begin().await?;
            let rotated = tokens::rotate(&mut tx, id, hash, old_until, now).await?;
            tx.commit().await.map_err(failure)?;
            Ok(rotated)
        })
    }

    fn trade<'a>(&'a self, trade: &'a Trade) -> Pending<'a, Traded> {
        self.write(async move {
            let mut tx = self.begin().await?;
            let traded = trade::trade(&mut tx, trade).await?;
            tx.commit().await.map_err(failure)?;
            Ok(traded)
        })
    }

    fn mark_used<'a>(&'a self, used: &'a [(TokenId, u64)]) -> Pending<'a, ()> {
        self.write(async move {
            if used.is_empty() {
                return Ok(());
            }
            let mut tx = self.begin().await?;
            tokens::mark_used(&mut tx, used).await?;
            tx.commit().await.map_err(failure)
        })
    }

    fn token_of_id<'a>(&'a self, id: &'a TokenId) -> Pending<'a, Option<(TokenRecord, TokenHash)>> {
        self.read(async move {
            let row = sqlx::query("SELECT * FROM tokens WHERE id = ?")
                .bind(id.as_str())
                .fetch_optional(&self.readers)
                .await
                .map_err(failure)?;
            row.map(|row| Ok((rows::token(&row)?, rows::token_hash(&row, "hash")?))).transpose()
        })
    }

    fn tokens(&self) -> Pending<'_, Vec<TokenRecord>> {
        self.read(tokens::all(&self.readers))
    }

    fn revoke_token<'a>(&'a self, id: &'a TokenId, now: u64) -> Pending<'a, Option<TokenRecord>> {
        self.write(async move {
            let mut tx = self.begin().await?;
            let revoked = tokens::revoke(&mut tx, id, now).await?;
            tx.commit().await.map_err(failure)?;
            Ok(revoked)
        })
    }

    fn ended_tokens(&self, since: u64, now: u64) -> Pending<'_, Vec<Ended>> {
        self.read(tokens::ended(&self.readers, since, now))
    }

    fn register<'a>(&'a self, new: &'a NewRegistration) -> Pending<'a, Registration> {
        self.write(self.register_in_line(new))
    }

    fn forget_key<'a>(&'a self, id: &'a ExecutorId) -> Pending<'a, bool> {
        self.write(async move {
            let mut tx = self.begin().await?;
            let was_bound = keys::forget(&mut tx, id).await?;
            tx.commit().await.map_err(failure)?;
            Ok(was_bound)
        })
    }

    fn executor<'a>(&'a self, id: &'a ExecutorId) -> Pending<'a, Option<ExecutorRecord>> {
        self.read(async move {
            let mut reader = self.readers.acquire().await.map_err(failure)?;
            executors::one(&mut reader, id).await
        })
    }

    fn executors<'a>(&'a self, after: Option<&'a ExecutorId>, limit: u32) -> Pending<'a, Vec<ExecutorRecord>> {
        self.read(executors::after(&self.readers, after, limit))
    }

    fn change_executor<'a>(
        &'a self,
        id: &'a ExecutorId,
        change: &'a ExecutorChange,
    ) -> Pending<'a, Option<ExecutorRecord>> {
        self.write(async move {
            let mut tx = self.begin().await?;
            executors::change(&mut tx, id, change).await?;
            let changed = executors::one(&mut tx, id).await?;
            tx.commit().await.map_err(failure)?;
            Ok(changed)
        })
    }

    fn forget_executor<'a>(&'a self, id: &'a ExecutorId) -> Pending<'a, bool> {
        self.write(async move {
            let mut tx = self.begin().await?;
            let forgotten = executors::forget(&mut tx, id).await?;
            tx.commit().await.map_err(failure)?;
            Ok(forgotten)
        })
    }

    fn append_access<'a>(&'a self, lines: &'a [Access]) -> Pending<'a, ()> {
        self.write(async move {
            if lines.is_empty() {
                return Ok(());
            }
            let mut tx = self.begin().await?;
            access::append(&mut tx, lines).await?;
            tx.commit().await.map_err(failure)
        })
    }

    fn shorten_access(&self, before: u64, most: u32, now: u64) -> Pending<'_, u64> {
        self.write(async move {
            if !access::is_older(&self.readers, before, most).await? {
                return Ok(0);
            }
            let mut tx = self.begin().await?;
            let gone = access::shorten(&mut tx, before, most).await?;
            access::append(&mut tx, &[Access::shortened(gone, now)]).await?;
            tx.commit().await.map_err(failure)?;
            Ok(gone)
        })
    }

    fn access_after(&self, id: u64, limit: u32) -> Pending<'_, Vec<Access>> {
        self.read(access::after(&self.readers, id, limit))
    }

    fn executor_ids(&self, limit: u32) -> Pending<'_, Vec<ExecutorId>> {
        self.read(async move {
            let rows = sqlx::query("SELECT id AS executor_id FROM executors ORDER BY id LIMIT ?")
                .bind(limit)
                .fetch_all(&self.readers)
                .await
                .map_err(failure)?;
            rows.iter().map(rows::executor_id).collect()
        })
    }

    fn registration<'a>(&'a self, id: &'a RegistrationId) -> Pending<'a, Option<Registration>> {
        self.read(async move {
            let row = sqlx::query("SELECT * FROM registrations WHERE id = ?")
                .bind(id.as_str())
                .fetch_optional(&self.readers)
                .await
                .map_err(failure)?;
            row.as_ref().map(rows::registration).transpose()
        })
    }

    fn registrations(&self) -> Pending<'_, Vec<Registration>> {
        self.read(async move {
            let rows = sqlx::query("SELECT * FROM registrations ORDER BY executor_id, epoch")
                .fetch_all(&self.readers)
                .await
                .map_err(failure)?;
            rows.iter().map(rows::registration).collect()
        })
    }

    fn mark_seen<'a>(&'a self, seen: &'a [(ExecutorId, u64)]) -> Pending<'a, ()> {
        self.write(async move {
            if seen.is_empty() {
                return Ok(());
            }
            let mut tx = self.begin().await?;
            for (executor, at) in seen {
                sqlx::query("UPDATE executors SET last_seen = max(coalesce(last_seen, 0), ?) WHERE id = ?")
                    .bind(from_time(*at))
                    .bind(executor.as_str())
                    .execute(&mut *tx)
                    .await
                    .map_err(failure)?;
            }
            tx.commit().await.map_err(failure)
        })
    }

    fn append_events<'a>(&'a self, events: &'a [NewEvent]) -> Pending<'a, u64> {
        self.write(async move {
            let mut tx = self.begin().await?;
            let last = events::append(&mut tx, events).await?;
            tx.commit().await.map_err(failure)?;
            Ok(last)
        })
    }

    fn last_event(&self) -> Pending<'_, u64> {
        self.read(events::last(&self.readers))
    }

    fn events_after(&self, id: u64, limit: u32) -> Pending<'_, Vec<Event>> {
        self.read(events::after(&self.readers, id, limit))
    }

    fn check(&self) -> Pending<'_, ()> {
        self.read(async move {
            let mut reader = self.readers.acquire().await.map_err(failure)?;
            reader.ping().await.map_err(failure)?;
            sqlx::query("SELECT 1 FROM tokens LIMIT 1").fetch_optional(&mut *reader).await.map_err(failure)?;
            Ok(())
        })
    }

    fn try_write(&self) -> Pending<'_, ()> {
        let trial = self.write(async move {
            let directory = self.directory.clone();
            let room = tokio::task::spawn_blocking(move || schema::take_room(&directory)).await;
            room.unwrap_or_else(|error| Err(StoreError::Failed(error.to_string())))?;
            let mut tx = self.begin().await?;
            schema::rewrite_header(&mut tx).await?;
            tx.commit().await.map_err(failure)
        });
        self.writes.tried(trial)
    }

    fn failing(&self) -> Option<StoreError> {
        self.writes.failure()
    }

    fn close(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            self.readers.close().await;
            self.writer.close().await;
        })
    }
}

/// The registration that the instance has, if it is to keep it.
async fn standing(tx: &mut SqliteConnection, new: &NewRegistration) -> Result<Option<Registration>, StoreError> {
    let row = sqlx::query(
        "SELECT r.*, e.epoch AS current FROM registrations r JOIN executors e ON e.id = r.executor_id \
         WHERE r.executor_id = ? AND r.idempotency_id = ? AND r.token_id = ? ORDER BY r.epoch DESC LIMIT 1",
    )
    .bind(new.registration.executor.as_str())
    .bind(&new.registration.idempotency_id)
    .bind(new.token.as_str())
    .fetch_optional(&mut *tx)
    .await
    .map_err(failure)?;
    let Some(row) = row else { return Ok(None) };
    let registration = rows::registration(&row)?;
    let is_current = to_time(row.try_get("current").map_err(failure)?)? == registration.epoch;
    Ok((is_current || !new.take_over).then_some(registration))
}

/// Makes a new registration, the executor's current one from now on.
async fn replace(tx: &mut SqliteConnection, new: &NewRegistration) -> Result<Registration, StoreError> {
    let registration = &new.registration;
    let unwritable = |error: serde_json::Error| StoreError::Failed(error.to_string());
    let labels = serde_json::to_string(&new.labels).map_err(unwritable)?;
    let key = registration.public_key.as_ref().map(serde_json::to_string).transpose().map_err(unwritable)?;
    let row = sqlx::query(
        "INSERT INTO executors (id, name, labels, metadata, epoch) VALUES (?, ?, ?, ?, 1) ON CONFLICT (id) DO UPDATE \
         SET name = excluded.name, labels = excluded.labels, metadata = excluded.metadata, \
         epoch = executors.epoch + 1 RETURNING epoch",
    )
    .bind(registration.executor.as_str())
    .bind(new.name.as_deref())
    .bind(labels)
    .bind(new.metadata.to_string())
    .fetch_one(&mut *tx)
    .await
    .map_err(failure)?;
    let epoch = to_time(row.try_get("epoch").map_err(failure)?)?;
    sqlx::query(
        "INSERT INTO registrations (executor_id, epoch, id, idempotency_id, token_id, created_at, \
         transport, public_key) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(registration.executor.as_str())
    .bind(from_time(epoch))
    .bind(registration.id.as_str())
    .bind(&registration.idempotency_id)
    .bind(new.token.as_str())
    .bind(from_time(registration.created_at))
    .bind(registration.transport.name())
    .bind(key)
    .execute(&mut *tx)
    .await
    .map_err(failure)?;
    sqlx::query("DELETE FROM registrations WHERE executor_id = ? AND epoch <= ?")
        .bind(registration.executor.as_str())
        .bind(from_time(epoch.saturating_sub(REGISTRATIONS_KEPT)))
        .execute(&mut *tx)
        .await
        .map_err(failure)?;
    Ok(Registration { id: RegistrationId::new(registration.id.as_str()), epoch, ..registration.clone() })
}

#[cfg(test)]
mod tests;
