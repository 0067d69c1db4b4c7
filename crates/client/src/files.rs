//! Files on the executor: one method per method of the protocol.
//!
//! In flow absolute paths and bytes, out flow bytes and descriptions. A path keeps the form in which it was given
//! (native or URI). Errors tell with [`Error::is_not_found`] whether a file is missing.

use exedra_link::peer::Client;
use exedra_proto::base64::Base64Text;
use exedra_proto::fs::{
    CopyParams, CreateDirectoryParams, DirectoryEntry, Metadata, PathParams, RemoveParams, WriteFileParams,
};
use exedra_proto::method::{
    FsCopy, FsCreateDirectory, FsGetMetadata, FsReadDirectory, FsReadFile, FsRemove, FsWriteFile, Method,
};
use exedra_proto::path::AbsolutePath;

use crate::error::Error;

/// The files of an executor; clones reach the same ones.
#[derive(Clone, Debug)]
pub struct Files {
    client: Client,
}

impl Files {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    /// A whole file.
    ///
    /// # Errors
    /// See [`Error`]; this holds for all methods.
    pub async fn read(&self, path: &AbsolutePath) -> Result<Vec<u8>, Error> {
        let result = self.call::<FsReadFile>(&path_only(path)).await?;
        result.data_base64.decode().map_err(|text| Error::Protocol(format!("{}: {text}", FsReadFile::NAME)))
    }

    /// Makes or replaces a file.
    ///
    /// # Errors
    /// The parent is missing, or the file cannot be written.
    pub async fn write(&self, path: &AbsolutePath, data: &[u8]) -> Result<(), Error> {
        let data_base64 = Base64Text::encode(data);
        self.call::<FsWriteFile>(&WriteFileParams { path: path.clone(), data_base64, sandbox: None }).await?;
        Ok(())
    }

    /// Makes a directory; with `recursive` its parents too, and one that exists is fine.
    ///
    /// # Errors
    /// A parent is missing, or something else is there.
    pub async fn create_directory(&self, path: &AbsolutePath, recursive: bool) -> Result<(), Error> {
        let params = CreateDirectoryParams { path: path.clone(), recursive: Some(recursive), sandbox: None };
        self.call::<FsCreateDirectory>(&params).await?;
        Ok(())
    }

    /// What a path is; of a link, what it leads to.
    ///
    /// # Errors
    /// There is nothing.
    pub async fn metadata(&self, path: &AbsolutePath) -> Result<Metadata, Error> {
        self.call::<FsGetMetadata>(&path_only(path)).await
    }

    /// The entries of a directory, in any order.
    ///
    /// # Errors
    /// It is none.
    pub async fn read_directory(&self, path: &AbsolutePath) -> Result<Vec<DirectoryEntry>, Error> {
        Ok(self.call::<FsReadDirectory>(&path_only(path)).await?.entries)
    }

    /// Removes a file or directory; with `recursive` what it holds, with `force` a missing one is fine.
    ///
    /// # Errors
    /// It cannot be removed.
    pub async fn remove(&self, path: &AbsolutePath, recursive: bool, force: bool) -> Result<(), Error> {
        let (recursive, force) = (Some(recursive), Some(force));
        self.call::<FsRemove>(&RemoveParams { path: path.clone(), recursive, force, sandbox: None }).await?;
        Ok(())
    }

    /// Copies a file or link, with `recursive` a directory.
    ///
    /// # Errors
    /// It cannot be copied.
    pub async fn copy(&self, from: &AbsolutePath, to: &AbsolutePath, recursive: bool) -> Result<(), Error> {
        let (source_path, destination_path) = (from.clone(), to.clone());
        self.call::<FsCopy>(&CopyParams { source_path, destination_path, recursive, sandbox: None }).await?;
        Ok(())
    }

    async fn call<M: Method>(&self, params: &M::Params) -> Result<M::Result, Error> {
        self.client.call::<M>(params).await.map_err(|error| Error::of_call(M::NAME, error))
    }
}

fn path_only(path: &AbsolutePath) -> PathParams {
    PathParams { path: path.clone(), sandbox: None }
}
