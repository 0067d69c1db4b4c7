//! Params and results of `fs/*`.

mod blocks;
mod upload;
mod watch;

use serde::{Deserialize, Serialize};

use crate::base64::Base64Text;
use crate::path::AbsolutePath;
use crate::sandbox::SandboxContext;

pub use blocks::{
    BlockAnswer, CloseParams, OpenMode, OpenParams, OpenResult, ReadBlockHead, ReadBlockParams, ReadBlockResult,
    WriteBlockHead, WriteBlockParams,
};
pub use upload::{UploadDiscardParams, UploadFinishParams, UploadOpenParams, UploadOpenResult};
pub use watch::{
    MissingChangedParams, WalkEntry, WalkError, WalkKind, WalkOptions, WalkParams, WalkResult, WatchMissingParams,
    WatchMissingResult,
};

/// Params of the methods that take a path and no more: `fs/readFile`, `fs/getMetadata`,
/// `fs/readDirectory`, `fs/canonicalize`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PathParams {
    /// Which file or directory.
    pub path: AbsolutePath,
    /// Follow links; absent means true (0.155 and later).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follow_symlinks: Option<bool>,
    /// What must be enforced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<SandboxContext>,
}

/// Result of `fs/readFile`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadFileResult {
    /// The whole file.
    pub data_base64: Base64Text,
}

/// Params of `fs/writeFile`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WriteFileParams {
    /// Which file.
    pub path: AbsolutePath,
    /// Its whole new content.
    pub data_base64: Base64Text,
    /// Follow links; absent means true (0.155 and later).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follow_symlinks: Option<bool>,
    /// What must be enforced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<SandboxContext>,
}

/// Params of `fs/createDirectory`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateDirectoryParams {
    /// Which directory.
    pub path: AbsolutePath,
    /// Make missing parents, accept an existing directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recursive: Option<bool>,
    /// Follow links; absent means true (0.155 and later).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follow_symlinks: Option<bool>,
    /// What must be enforced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<SandboxContext>,
}

/// Result of `fs/getMetadata`. Flags and times are of a link's target; `is_symlink` is of the path itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// A directory.
    pub is_directory: bool,
    /// A regular file.
    pub is_file: bool,
    /// The path itself is a link.
    pub is_symlink: bool,
    /// Bytes; sent by 0.142 and later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Milliseconds since 1970, 0 if unknown.
    pub created_at_ms: i64,
    /// Milliseconds since 1970, 0 if unknown.
    pub modified_at_ms: i64,
}

/// Result of `fs/canonicalize`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CanonicalizeResult {
    /// The path without links, in the form in which it was asked.
    pub path: AbsolutePath,
}

/// Result of `fs/readDirectory`, in any order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadDirectoryResult {
    /// One per entry that could be examined.
    pub entries: Vec<DirectoryEntry>,
}

/// One entry of a directory. Flags follow links.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DirectoryEntry {
    /// Name without path.
    pub file_name: String,
    /// A directory.
    pub is_directory: bool,
    /// A regular file.
    pub is_file: bool,
}

/// Params of `fs/remove`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RemoveParams {
    /// What to remove.
    pub path: AbsolutePath,
    /// Remove what a directory holds; absent means true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recursive: Option<bool>,
    /// A missing path is a success; absent means true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force: Option<bool>,
    /// Follow links; absent means true (0.155 and later).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follow_symlinks: Option<bool>,
    /// What must be enforced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<SandboxContext>,
}

/// Params of `fs/copy`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CopyParams {
    /// From.
    pub source_path: AbsolutePath,
    /// To.
    pub destination_path: AbsolutePath,
    /// Needed for a directory.
    pub recursive: bool,
    /// Follow links; absent means true (0.155 and later).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follow_symlinks: Option<bool>,
    /// What must be enforced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<SandboxContext>,
}

/// The result of methods that only succeed: `{}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {}

impl PathParams {
    /// Just this path.
    pub fn new(path: AbsolutePath) -> Self {
        Self { path, follow_symlinks: None, sandbox: None }
    }
}

impl CreateDirectoryParams {
    /// The value of `recursive` with its default.
    pub fn recursive(&self) -> bool {
        self.recursive.unwrap_or(true)
    }
}

impl RemoveParams {
    /// The value of `recursive` with its default.
    pub fn recursive(&self) -> bool {
        self.recursive.unwrap_or(true)
    }

    /// The value of `force` with its default.
    pub fn force(&self) -> bool {
        self.force.unwrap_or(true)
    }
}
