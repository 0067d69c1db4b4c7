//! Params and results of what looks at many paths: `fs/walk` and `fs/watchMissing`.

use serde::{Deserialize, Serialize};

use crate::path::AbsolutePath;
use crate::sandbox::SandboxContext;

/// Params of `fs/walk`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WalkParams {
    /// Where to begin.
    pub path: AbsolutePath,
    /// How far to go.
    pub options: WalkOptions,
    /// What must be enforced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<SandboxContext>,
}

/// How far a walk goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WalkOptions {
    /// 0 lists only the children of the root; at most 64.
    pub max_depth: u64,
    /// Directories that are entered, the root among them; at most 10,000.
    pub max_directories: u64,
    /// Entries that are looked at; at most 50,000.
    pub max_entries: u64,
    /// Enter directories behind links.
    pub follow_directory_symlinks: bool,
    /// List directories whose name begins with a dot, and do not enter them.
    #[serde(default)]
    pub prune_hidden_directories: bool,
}

/// What an entry of a walk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum WalkKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
}

/// An entry of a walk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalkEntry {
    /// Where.
    pub path: AbsolutePath,
    /// What.
    pub kind: WalkKind,
}

/// What a walk could not look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalkError {
    /// Where.
    pub path: AbsolutePath,
    /// Why.
    pub message: String,
}

/// Result of `fs/walk`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalkResult {
    /// Breadth first, sorted inside a directory.
    pub entries: Vec<WalkEntry>,
    /// What could not be looked at.
    pub errors: Vec<WalkError>,
    /// A limit was reached.
    pub truncated: bool,
}

/// Params of `fs/watchMissing`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WatchMissingParams {
    /// Chosen by the client, greater than all before on the connection.
    pub watch_id: u64,
    /// Paths that do not exist, at most 64.
    pub missing: Vec<AbsolutePath>,
    /// A path that exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub present: Option<AbsolutePath>,
    /// What must be enforced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<SandboxContext>,
}

/// Result of `fs/watchMissing`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchMissingResult {
    /// One notification will come; otherwise the client polls.
    pub watching: bool,
}

/// Params of `fs/missingChanged`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MissingChangedParams {
    /// Which watch; it is gone.
    pub watch_id: u64,
}
