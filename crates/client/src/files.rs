//! Files on the executor: one method per method of the protocol.
//!
//! In flow absolute paths and bytes, out flow bytes and descriptions. A path keeps the form in which it was given
//! (native or URI), unless the executor reads the other alone. Errors tell with [`Error::is_not_found`] whether a file is missing.

mod blocks;
mod download;
mod upload;
mod watch;

use std::sync::Arc;

use exedra_proto::base64::Base64Text;
use exedra_proto::fs::{
    CopyParams, CreateDirectoryParams, DirectoryEntry, Metadata, OpenMode, PathParams, RemoveParams, WalkOptions,
    WalkParams, WalkResult, WriteFileParams,
};
use exedra_proto::method::{
    FsCanonicalize, FsCopy, FsCreateDirectory, FsGetMetadata, FsReadDirectory, FsReadFile, FsRemove, FsWalk,
    FsWriteFile, Method,
};
use exedra_proto::path::AbsolutePath;

use crate::error::Error;
use crate::line::Line;
use crate::routes::Routes;

pub use blocks::FileHandle;
pub use watch::Missing;

/// The files of an executor; clones reach the same ones.
#[derive(Clone, Debug)]
pub struct Files {
    line: Line,
    routes: Arc<Routes>,
}

impl Files {
    pub(crate) fn new(line: Line, routes: Arc<Routes>) -> Self {
        Self { line, routes }
    }

    /// A whole file.
    ///
    /// # Errors
    /// See [`Error`]; this holds for all methods.
    pub async fn read(&self, path: &AbsolutePath) -> Result<Vec<u8>, Error> {
        let result = self.line.repeat::<FsReadFile>(&self.path_only(path)).await?;
        result.data_base64.decode().map_err(|text| Error::Protocol(format!("{}: {text}", FsReadFile::NAME)))
    }

    /// Makes or replaces a file.
    ///
    /// # Errors
    /// The parent is missing, or the file cannot be written.
    pub async fn write(&self, path: &AbsolutePath, data: &[u8]) -> Result<(), Error> {
        let data_base64 = Base64Text::encode(data);
        self.call::<FsWriteFile>(&WriteFileParams {
            path: self.written(path),
            data_base64,
            follow_symlinks: None,
            sandbox: None,
        })
        .await?;
        Ok(())
    }

    /// Makes a directory; with `recursive` its parents too, and one that exists is fine.
    ///
    /// # Errors
    /// A parent is missing, or something else is there.
    pub async fn create_directory(&self, path: &AbsolutePath, recursive: bool) -> Result<(), Error> {
        let params = CreateDirectoryParams {
            path: self.written(path),
            recursive: Some(recursive),
            follow_symlinks: None,
            sandbox: None,
        };
        self.call::<FsCreateDirectory>(&params).await?;
        Ok(())
    }

    /// What a path is; of a link, what it leads to.
    ///
    /// # Errors
    /// There is nothing.
    pub async fn metadata(&self, path: &AbsolutePath) -> Result<Metadata, Error> {
        self.line.repeat::<FsGetMetadata>(&self.path_only(path)).await
    }

    /// The entries of a directory, in any order.
    ///
    /// # Errors
    /// It is none.
    pub async fn read_directory(&self, path: &AbsolutePath) -> Result<Vec<DirectoryEntry>, Error> {
        Ok(self.line.repeat::<FsReadDirectory>(&self.path_only(path)).await?.entries)
    }

    /// Removes a file or directory; with `recursive` what it holds, with `force` a missing one is fine.
    ///
    /// # Errors
    /// It cannot be removed.
    pub async fn remove(&self, path: &AbsolutePath, recursive: bool, force: bool) -> Result<(), Error> {
        let (recursive, force) = (Some(recursive), Some(force));
        self.call::<FsRemove>(&RemoveParams {
            path: self.written(path),
            recursive,
            force,
            follow_symlinks: None,
            sandbox: None,
        })
        .await?;
        Ok(())
    }

    /// Copies a file or link, with `recursive` a directory.
    ///
    /// # Errors
    /// It cannot be copied.
    pub async fn copy(&self, from: &AbsolutePath, to: &AbsolutePath, recursive: bool) -> Result<(), Error> {
        let (source_path, destination_path) = (self.written(from), self.written(to));
        self.call::<FsCopy>(&CopyParams {
            source_path,
            destination_path,
            recursive,
            follow_symlinks: None,
            sandbox: None,
        })
        .await?;
        Ok(())
    }

    /// Where a path leads, links resolved (0.142 and later, as what follows).
    ///
    /// # Errors
    /// There is nothing.
    pub async fn canonicalize(&self, path: &AbsolutePath) -> Result<AbsolutePath, Error> {
        Ok(self.line.repeat::<FsCanonicalize>(&self.path_only(path)).await?.path)
    }

    /// What is below a directory, as far as `options` go (0.145 and later).
    ///
    /// # Errors
    /// There is nothing, or the options will not do.
    pub async fn walk(&self, path: &AbsolutePath, options: WalkOptions) -> Result<WalkResult, Error> {
        self.line.repeat::<FsWalk>(&WalkParams { path: self.written(path), options, sandbox: None }).await
    }

    /// Opens a file for access by blocks; writing needs 0.169.
    ///
    /// # Errors
    /// It is no file, or too many are open.
    pub async fn open(&self, path: &AbsolutePath, mode: OpenMode) -> Result<FileHandle, Error> {
        FileHandle::open(self.clone(), path, mode).await
    }

    /// Waits for one of `missing` to appear, or for `present` to change; none if the executor cannot see it and the
    /// caller had better look from time to time. A later watch takes the place of an earlier one (0.169).
    ///
    /// # Errors
    /// The executor has no such method, or refuses the paths.
    pub async fn watch_missing(
        &self,
        missing: &[AbsolutePath],
        present: Option<&AbsolutePath>,
    ) -> Result<Option<Missing>, Error> {
        Missing::watch(self, missing, present).await
    }

    /// The number of the connection that there is now.
    async fn connection(&self, method: &'static str) -> Result<u64, Error> {
        Ok(self.line.up().await.map_err(|loss| loss.not_sent(method))?.number)
    }

    /// A path as the executor reads it.
    fn written(&self, path: &AbsolutePath) -> AbsolutePath {
        self.line.paths().write(path)
    }

    fn path_only(&self, path: &AbsolutePath) -> PathParams {
        PathParams::new(self.written(path))
    }

    async fn call<M: Method>(&self, params: &M::Params) -> Result<M::Result, Error> {
        self.line.call::<M>(params).await
    }
}
