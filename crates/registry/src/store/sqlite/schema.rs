//! Opening the database file: connections, their settings, and the schema's versions.
//!
//! A path flows in, two pools flow out, with the newest schema behind them. The schema's version is the file's
//! `user_version`; the migrations are numbered files, each run once, in its own transaction. A version that is newer
//! than the newest known here is refused before anything is written.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, SqliteConnection};
use tokio::time::Instant;

use super::events;
use super::rows::failure;
use crate::store::StoreError;

/// All migrations; the first makes version 1.
pub const MIGRATIONS: &[&str] = &[
    include_str!("../migrations/0001_tokens_and_executors.sql"),
    include_str!("../migrations/0002_transports.sql"),
    include_str!("../migrations/0003_events.sql"),
    include_str!("../migrations/0004_keys.sql"),
    include_str!("../migrations/0005_rights.sql"),
    include_str!("../migrations/0006_bound_keys.sql"),
    include_str!("../migrations/0007_workloads.sql"),
    include_str!("../migrations/0008_client_labels.sql"),
];
/// `Exdr`, which tells our files from other databases.
const APPLICATION_ID: i64 = 0x4578_6472;
/// How long a write waits for another process's.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an opening waits in all: a start that gives up is worse than one that takes its time.
pub const WAIT: Duration = Duration::from_secs(30);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a call waits for a connection; longer means that the disk does not keep up.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections that read. More callers wait in line for up to [`ACQUIRE_TIMEOUT`]; a read takes a fraction of a
/// millisecond.
const READERS: u32 = 2;

/// Room that there has to be for new work, in bytes: a checkpoint of the database's log needs some.
const ROOM: usize = 128 * 1024;

/// How much of an existing file is looked at before it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Its version.
    Version,
    /// All of its pages.
    Pages,
}

/// How long an opening waits for whoever writes to the file, or for its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// One attempt, in SQLite's own hands.
    pub attempt: Duration,
    /// All attempts together; one that is under way at the end may take its own time longer.
    pub whole: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { attempt: BUSY_TIMEOUT, whole: WAIT }
    }
}

/// Opens the file at `path`: the pool that writes and the pool that reads. `busy` hears of each attempt that met somebody
/// else's write.
pub async fn open(
    path: &Path,
    check: Check,
    patience: Patience,
    busy: impl FnMut(),
) -> Result<(SqlitePool, SqlitePool), StoreError> {
    create(path)?;
    outwait(patience.whole, busy, || attempt(path, check, patience.attempt)).await
}

/// Attempts until the database is not busy, or the time is over.
pub async fn outwait<T, F: Future<Output = Result<T, StoreError>>>(
    whole: Duration,
    mut busy: impl FnMut(),
    mut attempt: impl FnMut() -> F,
) -> Result<T, StoreError> {
    let began = Instant::now();
    loop {
        match attempt().await {
            Err(StoreError::Busy) if began.elapsed() < whole => busy(),
            Err(StoreError::Busy) => return Err(StoreError::BusyFor { secs: began.elapsed().as_secs() }),
            outcome => return outcome,
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn attempt(path: &Path, check: Check, busy_timeout: Duration) -> Result<(SqlitePool, SqlitePool), StoreError> {
    let options = options(path).busy_timeout(busy_timeout);
    inspect(&options, check).await?;
    let writer = options
        .clone()
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        // 512 KiB, so that a small disk is not filled by the log alone.
        .pragma("wal_autocheckpoint", "128")
        .pragma("journal_size_limit", "1048576");
    let writer = pool(1).connect_with(writer).await.map_err(failure)?;
    for (version, sql) in (1..).zip(MIGRATIONS) {
        migrate(&writer, version, sql).await?;
    }
    let readers = pool(READERS).connect_with(options.pragma("query_only", "ON")).await.map_err(failure)?;
    Ok((writer, readers))
}

/// Copies the file at `path`, as it is at one moment, to the empty file `to`.
pub async fn copy(path: &Path, to: &Path) -> Result<u32, StoreError> {
    let options = options(path);
    let schema = records(inspect(&options, Check::Version).await?)?;
    let mut connection = options.connect().await.map_err(failure)?;
    let to = to.to_str().ok_or_else(|| StoreError::Failed("the name of the copy is no text".to_owned()))?;
    sqlx::query("VACUUM INTO ?").bind(to).execute(&mut connection).await.map_err(failure)?;
    connection.close().await.map_err(failure)?;
    Ok(schema)
}

/// The schema of a file that nobody works on. Nothing is written beside it.
pub async fn of_idle(path: &Path, check: Check) -> Result<u32, StoreError> {
    records(inspect(&options(path).read_only(true).immutable(true), check).await?)
}

/// The schema of a file, all of whose pages were looked at, and the newest that is known. Of an idle one nothing is written
/// beside it.
pub async fn examine(path: &Path, is_idle: bool) -> Result<(u32, u32), StoreError> {
    let options = options(path).read_only(true).immutable(is_idle);
    let found = records(inspect(&options, Check::Pages).await?)?;
    Ok((found, u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX)))
}

/// Lets the ids of new events in a file begin at `first`, if they are not beyond it. All of it is in the file then, and
/// nothing beside it.
pub async fn leap_events(path: &Path, first: u64) -> Result<(), StoreError> {
    let options = options(path).journal_mode(SqliteJournalMode::Delete).synchronous(SqliteSynchronous::Full);
    let mut connection = options.connect().await.map_err(failure)?;
    // The schema may be from before there were events.
    if number(&mut connection, "SELECT count(*) FROM sqlite_schema WHERE name = 'events'").await? != 0 {
        let mut tx = connection.begin_with("BEGIN IMMEDIATE").await.map_err(failure)?;
        events::leap(&mut tx, first).await?;
        tx.commit().await.map_err(failure)?;
    }
    connection.close().await.map_err(failure)
}

/// A file without a schema has no records.
fn records(schema: u32) -> Result<u32, StoreError> {
    if schema == 0 { Err(StoreError::Foreign) } else { Ok(schema) }
}

/// Writes the file's first page as it is.
pub async fn rewrite_header(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let sql = format!("PRAGMA application_id = {APPLICATION_ID}");
    sqlx::query(AssertSqlSafe(sql)).execute(connection).await.map_err(failure)?;
    Ok(())
}

/// Takes room on the disk of `directory`, and gives it back. The database's own files may have some left that was theirs
/// before, while there is none for anything else.
pub fn take_room(directory: &Path) -> Result<(), StoreError> {
    let taken = tempfile::tempfile_in(directory).and_then(|mut file| file.write_all(&[0; ROOM]));
    taken.map_err(|error| of_io(&error, "room cannot be taken on the disk"))
}

/// Makes an empty file that only its owner can read; SQLite gives the files beside it the same mode.
fn create(path: &Path) -> Result<(), StoreError> {
    let opened = std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path);
    opened.map(drop).map_err(|error| of_io(&error, "the file cannot be opened"))
}

fn of_io(error: &std::io::Error, what: &str) -> StoreError {
    match error.kind() {
        std::io::ErrorKind::ReadOnlyFilesystem => StoreError::ReadOnly,
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => StoreError::Full,
        _ => StoreError::Failed(format!("{what}: {error}")),
    }
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .statement_cache_capacity(24)
        .pragma("cache_size", "-512")
        .disable_statement_logging()
}

fn pool(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .before_acquire(|connection, _| Box::pin(async move { Ok(!connection.is_in_transaction()) }))
}

/// Refuses what is not ours, newer or damaged.
async fn inspect(options: &SqliteConnectOptions, check: Check) -> Result<u32, StoreError> {
    let mut connection = options.connect().await.map_err(failure)?;
    let found = version(&mut connection).await?;
    let known = u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX);
    let application = number(&mut connection, "PRAGMA application_id").await?;
    if found == 0 {
        if number(&mut connection, "SELECT count(*) FROM sqlite_schema").await? != 0 {
            return Err(StoreError::Foreign);
        }
    } else if application != APPLICATION_ID {
        return Err(StoreError::Foreign);
    } else if found > known {
        return Err(StoreError::Newer { found, known });
    } else if check == Check::Pages {
        let verdict: String =
            sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(&mut connection).await.map_err(failure)?;
        if verdict != "ok" {
            return Err(StoreError::Corrupt(verdict));
        }
    }
    connection.close().await.map_err(failure)?;
    Ok(found)
}

/// Runs a migration, unless it was run before.
async fn migrate(writer: &SqlitePool, to: u32, sql: &'static str) -> Result<(), StoreError> {
    let mut tx = writer.begin_with("BEGIN IMMEDIATE").await.map_err(failure)?;
    if version(&mut tx).await? >= to {
        return tx.rollback().await.map_err(failure);
    }
    let marks = format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {to};");
    sqlx::raw_sql(sql).execute(&mut *tx).await.map_err(failure)?;
    sqlx::raw_sql(AssertSqlSafe(marks)).execute(&mut *tx).await.map_err(failure)?;
    tx.commit().await.map_err(failure)
}

async fn version(connection: &mut SqliteConnection) -> Result<u32, StoreError> {
    let version = number(connection, "PRAGMA user_version").await?;
    u32::try_from(version).map_err(|_| StoreError::Foreign)
}

async fn number(connection: &mut SqliteConnection, sql: &'static str) -> Result<i64, StoreError> {
    sqlx::query_scalar(sql).fetch_one(connection).await.map_err(failure)
}
