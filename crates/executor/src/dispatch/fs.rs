//! The `fs/*` methods: params to the host, its answers back, and what each touches.
//!
//! In flow decoded params, out flow results or refusals, and the class by which requests are put in order. It knows no
//! message and no connection.

use exedra_host::fs;
use exedra_proto::envelope::RpcError;
use exedra_proto::fs::{
    CopyParams, CreateDirectoryParams, Done, Metadata, PathParams, ReadDirectoryResult, ReadFileResult, RemoveParams,
    WriteFileParams,
};
use exedra_proto::path::AbsolutePath;

use super::budget::{Budget, Share};
use super::errors;
use super::order::Class;

/// What a method that only looks at `path` touches.
pub fn reads(path: &AbsolutePath) -> Class {
    Class::FileRead(path.as_path().to_owned())
}

/// What a method that changes something at or below `path` touches.
pub fn changes(path: &AbsolutePath) -> Class {
    Class::FileChange(path.as_path().to_owned())
}

/// `fs/readFile`, and the room that its answer takes.
pub async fn read_file(params: PathParams, budget: &Budget) -> Result<(ReadFileResult, Share), RpcError> {
    // What cannot be looked at cannot be read either, and reading says why.
    let size = fs::get_metadata(params.clone()).await.ok().and_then(|metadata| metadata.size).unwrap_or(0);
    let share = budget.share(size).await;
    let result = fs::read_file(params).await.map_err(errors::from_fs)?;
    Ok((result, share))
}

/// `fs/writeFile`
pub async fn write_file(params: WriteFileParams) -> Result<Done, RpcError> {
    fs::write_file(params).await.map_err(errors::from_fs)
}

/// `fs/createDirectory`
pub async fn create_directory(params: CreateDirectoryParams) -> Result<Done, RpcError> {
    fs::create_directory(params).await.map_err(errors::from_fs)
}

/// `fs/getMetadata`
pub async fn get_metadata(params: PathParams) -> Result<Metadata, RpcError> {
    fs::get_metadata(params).await.map_err(errors::from_fs)
}

/// `fs/readDirectory`
pub async fn read_directory(params: PathParams) -> Result<ReadDirectoryResult, RpcError> {
    fs::read_directory(params).await.map_err(errors::from_fs)
}

/// `fs/remove`
pub async fn remove(params: RemoveParams) -> Result<Done, RpcError> {
    fs::remove(params).await.map_err(errors::from_fs)
}

/// `fs/copy`
pub async fn copy(params: CopyParams) -> Result<Done, RpcError> {
    fs::copy(params).await.map_err(errors::from_fs)
}
