//! The `fs/*` methods, one function each, run on the blocking pool.
//!
//! In flow params, out flow results or an [`FsError`] with the text of the wire. Knows no JSON-RPC code.

use exedra_proto::fs::{
    CopyParams, CreateDirectoryParams, Done, Metadata, PathParams, ReadDirectoryResult, ReadFileResult, RemoveParams,
    WriteFileParams,
};

pub use crate::error::{FsError, FsErrorKind};

/// `fs/readFile`
///
/// # Errors
/// Why not.
pub async fn read_file(_params: PathParams) -> Result<ReadFileResult, FsError> {
    todo!()
}

/// `fs/writeFile`
///
/// # Errors
/// Why not.
pub async fn write_file(_params: WriteFileParams) -> Result<Done, FsError> {
    todo!()
}

/// `fs/createDirectory`
///
/// # Errors
/// Why not.
pub async fn create_directory(_params: CreateDirectoryParams) -> Result<Done, FsError> {
    todo!()
}

/// `fs/getMetadata`
///
/// # Errors
/// Why not.
pub async fn get_metadata(_params: PathParams) -> Result<Metadata, FsError> {
    todo!()
}

/// `fs/readDirectory`
///
/// # Errors
/// Why not.
pub async fn read_directory(_params: PathParams) -> Result<ReadDirectoryResult, FsError> {
    todo!()
}

/// `fs/remove`
///
/// # Errors
/// Why not.
pub async fn remove(_params: RemoveParams) -> Result<Done, FsError> {
    todo!()
}

/// `fs/copy`
///
/// # Errors
/// Why not.
pub async fn copy(_params: CopyParams) -> Result<Done, FsError> {
    todo!()
}
