//! Params and results of `capabilityRoots/discoverV1` (protocol 11.3): what plugins and skills directories hold.
//!
//! Files are handed over as they are; what their contents mean is for the client.

use serde::{Deserialize, Serialize};

use crate::path::AbsolutePath;
use crate::sandbox::SandboxContext;

/// Params of `capabilityRoots/discoverV1` (0.145 and later).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DiscoverParams {
    /// Where to look.
    pub roots: Vec<Root>,
}

/// A directory to look through.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Root {
    /// A name of the client's own.
    pub id: String,
    /// Which directory.
    pub path: AbsolutePath,
    /// What must be enforced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<SandboxContext>,
}

/// Result of `capabilityRoots/discoverV1`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiscoverResult {
    /// One for each root, in the order of the request.
    pub roots: Vec<Findings>,
}

/// What a root holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Findings {
    /// As requested.
    pub id: String,
    /// As requested.
    pub path: AbsolutePath,
    /// What the root itself is, if it is a plugin.
    pub plugin: Option<Plugin>,
    /// By path.
    pub skills: Vec<Skill>,
    /// The manifests of the root and of directories below it, by path.
    pub namespace_manifests: Vec<FileText>,
    /// What was left out, and why.
    pub warnings: Vec<String>,
    /// Why there is nothing.
    pub error: Option<String>,
}

/// A plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plugin {
    /// What it says of itself.
    pub manifest: FileText,
    /// Its servers of tools.
    pub mcp_config: Option<FileText>,
    /// Its apps.
    pub apps_config: Option<FileText>,
}

/// A skill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skill {
    /// Its text.
    pub instructions: FileText,
    /// What else is said of it.
    pub metadata: Option<FileText>,
}

/// A file with its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileText {
    /// Which one.
    pub path: AbsolutePath,
    /// All of it.
    pub contents: String,
}
