//! Rows of SQLite as records, and its failures as ours.
//!
//! What cannot be read as a record is damage, never a panic. No text that a record holds goes into an error.

use exedra_proto::ids::{ExecutorId, RegistrationId, TokenId};
use exedra_proto::registry::Transport;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use crate::store::{Access, ExecutorRecord, Registration, StoreError, TokenRecord};
use crate::token::{Labels, Pattern, Rights, Role, TokenHash};

/// A time for SQLite, whose integers have a sign.
pub fn from_time(time: u64) -> i64 {
    i64::try_from(time).unwrap_or(i64::MAX)
}

/// A time or a number of SQLite.
pub fn to_time(number: i64) -> Result<u64, StoreError> {
    u64::try_from(number).map_err(|_| damaged("a negative number"))
}

/// A token's record.
pub fn token(row: &SqliteRow) -> Result<TokenRecord, StoreError> {
    let optional = |column| optional_time(row, column);
    let uses_left = optional("uses_left")?.map(u32::try_from).transpose().map_err(|_| damaged("a number of uses"))?;
    let joined_with: Option<&str> = row.try_get("joined_with").map_err(failure)?;
    let role = Role::parse(text(row, "role")?).ok_or_else(|| damaged("a role"))?;
    let reach = labels(row, "labels")?;
    let is_said = row.try_get::<Option<&str>, _>("client_labels").map_err(failure)?.is_some();
    let said = is_said.then(|| labels(row, "client_labels")).transpose()?;
    Ok(TokenRecord {
        id: token_id(row)?,
        name: text(row, "name")?.to_owned(),
        role,
        executors: Pattern::parse(text(row, "executors")?).map_err(|_| damaged("a pattern"))?,
        client_labels: Labels::told(said, role, &reach),
        labels: reach,
        rights: Rights::parse(text(row, "rights")?).map_err(|_| damaged("rights"))?,
        created_at: time(row, "created_at")?,
        expires_at: optional("expires_at")?,
        revoked_at: optional("revoked_at")?,
        last_used: optional("last_used")?,
        uses_left,
        joined_with: joined_with.map(TokenId::new),
        workload: super::workloads::workload(row)?,
    })
}

/// A token's id.
pub fn token_id(row: &SqliteRow) -> Result<TokenId, StoreError> {
    Ok(TokenId::new(text(row, "id")?))
}

/// The hash of the column `column`.
pub fn token_hash(row: &SqliteRow, column: &str) -> Result<TokenHash, StoreError> {
    let bytes: &[u8] = row.try_get(column).map_err(failure)?;
    TokenHash::from_bytes(bytes).ok_or_else(|| damaged("a hash"))
}

/// A registration.
pub fn registration(row: &SqliteRow) -> Result<Registration, StoreError> {
    let key: Option<&str> = row.try_get("public_key").map_err(failure)?;
    Ok(Registration {
        id: RegistrationId::new(text(row, "id")?),
        executor: executor_id(row)?,
        epoch: time(row, "epoch")?,
        idempotency_id: text(row, "idempotency_id")?.to_owned(),
        created_at: time(row, "created_at")?,
        transport: Transport::from_name(text(row, "transport")?).ok_or_else(|| damaged("a transport"))?,
        public_key: key.map(serde_json::from_str).transpose().map_err(|_| damaged("a public key"))?,
    })
}

/// An executor with its current registration.
pub fn executor(row: &SqliteRow) -> Result<ExecutorRecord, StoreError> {
    let optional = |column| row.try_get::<Option<&str>, _>(column).map_err(failure);
    Ok(ExecutorRecord {
        current: registration(row)?,
        name: optional("name")?.map(str::to_owned),
        bound_key: optional("bound_key")?.map(str::to_owned),
        labels: serde_json::from_str(text(row, "labels")?).map_err(|_| damaged("labels"))?,
        metadata: serde_json::from_str(text(row, "metadata")?).map_err(|_| damaged("metadata"))?,
        token: TokenId::new(text(row, "token_id")?),
        granted: labels(row, "granted_labels")?,
        assigned: labels(row, "assigned_labels")?,
        draining_since: optional_time(row, "draining_since")?,
        last_seen: optional_time(row, "last_seen")?,
    })
}

/// A line of the access log.
pub fn access(row: &SqliteRow) -> Result<Access, StoreError> {
    let optional = |column| row.try_get::<Option<&str>, _>(column).map_err(failure);
    let executor = optional("executor_id")?.map(ExecutorId::parse).transpose();
    Ok(Access {
        id: time(row, "id")?,
        at: time(row, "at")?,
        request_id: text(row, "request_id")?.to_owned(),
        address: optional("address")?.map(str::to_owned),
        token: optional("token_id")?.map(TokenId::new),
        role: optional("role")?.map(|role| Role::parse(role).ok_or_else(|| damaged("a role"))).transpose()?,
        action: text(row, "action")?.to_owned(),
        executor: executor.map_err(|_| damaged("an executor id"))?,
        outcome: text(row, "outcome")?.to_owned(),
        count: time(row, "count")?,
    })
}

/// An executor's id.
pub fn executor_id(row: &SqliteRow) -> Result<ExecutorId, StoreError> {
    ExecutorId::parse(text(row, "executor_id")?).map_err(|_| damaged("an executor id"))
}

fn text<'r>(row: &'r SqliteRow, column: &str) -> Result<&'r str, StoreError> {
    row.try_get(column).map_err(failure)
}

fn time(row: &SqliteRow, column: &str) -> Result<u64, StoreError> {
    to_time(row.try_get(column).map_err(failure)?)
}

/// A time that may be missing.
pub fn optional_time(row: &SqliteRow, column: &str) -> Result<Option<u64>, StoreError> {
    row.try_get::<Option<i64>, _>(column).map_err(failure)?.map(to_time).transpose()
}

fn labels(row: &SqliteRow, column: &str) -> Result<Labels, StoreError> {
    serde_json::from_str(text(row, column)?).map_err(|_| damaged("labels"))
}

/// Labels, as a row has them.
pub fn labels_text(labels: &Labels) -> Result<String, StoreError> {
    serde_json::to_string(labels).map_err(|error| StoreError::Failed(error.to_string()))
}

fn damaged(what: &str) -> StoreError {
    StoreError::Corrupt(format!("{what} in it cannot be read"))
}

/// SQLite's failure as ours.
pub fn failure(error: sqlx::Error) -> StoreError {
    match error {
        sqlx::Error::Database(error) => {
            let code: i32 = error.code().and_then(|code| code.parse().ok()).unwrap_or(0);
            from_code(code, error.message())
        }
        sqlx::Error::PoolTimedOut => StoreError::Busy,
        sqlx::Error::PoolClosed => StoreError::Closed,
        sqlx::Error::ColumnDecode { index, .. } => damaged(&format!("a value of the column {index}")),
        other => StoreError::Failed(other.to_string()),
    }
}

/// By SQLite's extended result codes.
fn from_code(code: i32, message: &str) -> StoreError {
    /// `SQLITE_IOERR_SHMSIZE`: the file beside the write-ahead log cannot grow.
    const SHM_CANNOT_GROW: i32 = 10 | (19 << 8);
    match (code, code & 0xff) {
        (SHM_CANNOT_GROW, _) | (_, 13) => StoreError::Full,
        (_, 5 | 6) => StoreError::Busy,
        (_, 8) => StoreError::ReadOnly,
        (_, 11 | 26) => StoreError::Corrupt(message.to_owned()),
        _ => StoreError::Failed(format!("{message} (SQLite code {code})")),
    }
}
