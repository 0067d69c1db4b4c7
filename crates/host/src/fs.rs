//! The `fs/*` methods, one function each, run on the blocking pool.
//!
//! In flow params, out flow results or an [`FsError`] with the text of the wire. Knows no JSON-RPC code. What a sandbox
//! would have to enforce is refused, never ignored. Nothing here waits for a FIFO, a socket or a terminal.
//!
//! `fs/writeFile` and `fs/copy` write in place: an existing file keeps its inode, owner, mode and hard links, and a link
//! is followed, all of which clients of the protocol can see and a renamed temporary file would change. The price is that
//! a failure half-way, a full disk for instance, leaves the file short; it is reported as that failure.

mod copy;
mod directory;
mod metadata;
mod read;
mod regular;
mod remove;
mod write;

use exedra_proto::fs::{
    CopyParams, CreateDirectoryParams, Done, Metadata, PathParams, ReadDirectoryResult, ReadFileResult, RemoveParams,
    WriteFileParams,
};
use exedra_proto::sandbox::{Enforcement, SandboxContext};

pub use crate::error::{FsError, FsErrorKind};
pub use read::{STOCK_LIMIT, WHOLE_FILE_LIMIT};

/// `fs/readFile`: the whole file, links followed.
///
/// # Errors
/// Why not; also a file that no message could carry.
pub async fn read_file(params: PathParams) -> Result<ReadFileResult, FsError> {
    blocking(params.sandbox, move || read::read_file(params.path.as_path())).await
}

/// `fs/writeFile`: creates or truncates, links followed.
///
/// # Errors
/// Why not.
pub async fn write_file(params: WriteFileParams) -> Result<Done, FsError> {
    blocking(params.sandbox, move || write::write_file(params.path.as_path(), &params.data_base64)).await
}

/// `fs/createDirectory`
///
/// # Errors
/// Why not.
pub async fn create_directory(params: CreateDirectoryParams) -> Result<Done, FsError> {
    let recursive = params.recursive();
    blocking(params.sandbox, move || directory::create(params.path.as_path(), recursive)).await
}

/// `fs/getMetadata`: of a link's target, and whether it is a link.
///
/// # Errors
/// Why not.
pub async fn get_metadata(params: PathParams) -> Result<Metadata, FsError> {
    blocking(params.sandbox, move || metadata::get(params.path.as_path())).await
}

/// `fs/readDirectory`: the entries that can be examined, links followed.
///
/// # Errors
/// Why not; also more entries than a message could carry.
pub async fn read_directory(params: PathParams) -> Result<ReadDirectoryResult, FsError> {
    blocking(params.sandbox, move || directory::list(params.path.as_path())).await
}

/// `fs/remove`: a link itself, never its target.
///
/// # Errors
/// Why not.
pub async fn remove(params: RemoveParams) -> Result<Done, FsError> {
    let (recursive, force) = (params.recursive(), params.force());
    blocking(params.sandbox, move || remove::remove(params.path.as_path(), recursive, force)).await
}

/// `fs/copy`: a file, a link as such, or a directory. A file onto itself is left as it is.
///
/// # Errors
/// Why not.
pub async fn copy(params: CopyParams) -> Result<Done, FsError> {
    blocking(params.sandbox, move || {
        copy::copy(params.source_path.as_path(), params.destination_path.as_path(), params.recursive)
    })
    .await
}

async fn blocking<R: Send + 'static>(
    sandbox: Option<SandboxContext>,
    act: impl FnOnce() -> Result<R, FsError> + Send + 'static,
) -> Result<R, FsError> {
    match sandbox.map_or(Enforcement::NotNeeded, |sandbox| sandbox.for_files()) {
        Enforcement::NotNeeded => {}
        Enforcement::Needed => {
            return Err(FsError::invalid("sandboxed filesystem operations require configured runtime paths"));
        }
        Enforcement::MissingCwd => {
            return Err(FsError::invalid("file system sandbox context with dynamic permissions requires cwd"));
        }
    }
    let failed = |error: tokio::task::JoinError| FsError { kind: FsErrorKind::Other, text: error.to_string() };
    tokio::task::spawn_blocking(act).await.map_err(failed)?
}
