//! The words of a policy file, as the owner writes them. What they mean is for `file`. An unknown word is an error.

use std::path::PathBuf;

use exedra_proto::limits::ResourceLimits;
use exedra_proto::sandbox::{Access, Network};
use serde::Deserialize;

use super::WhenFull;

/// All of it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Words {
    pub read_only: bool,
    pub when_full: Option<WhenFullWord>,
    pub roots: Option<Vec<Root>>,
    pub commands: Option<Vec<Command>>,
    pub descendants: Option<Descendants>,
    pub env: Env,
    pub limits: Limits,
    pub egress: Option<EgressWords>,
    pub clients: Option<Clients>,
    pub sandbox: Option<Sandbox>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenFullWord {
    Wait,
    DropOldest,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Root {
    pub path: PathBuf,
    pub access: AccessWord,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AccessWord {
    Read,
    Write,
    None,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Command {
    pub path: PathBuf,
    pub args: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Descendants {
    pub bound: bool,
    pub execute: Vec<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Env {
    pub pass: Option<Vec<String>>,
    pub hide: Vec<String>,
    pub set: Option<Vec<String>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    pub wall_ms: Option<u64>,
    pub cpu_seconds: Option<u64>,
    pub memory_bytes: Option<u64>,
    pub processes: Option<u64>,
    pub open_files: Option<u64>,
    pub output_bytes: Option<u64>,
    pub best_effort: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EgressWords {
    pub allow: Vec<String>,
    #[serde(default)]
    pub proxy: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clients {
    pub labels: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sandbox {
    pub always: bool,
    pub network: Network,
    pub minimal: bool,
    pub tmp: bool,
}

impl Default for Descendants {
    fn default() -> Self {
        Self { bound: true, execute: Vec::new() }
    }
}

impl Default for Sandbox {
    fn default() -> Self {
        Self { always: true, network: Network::Enabled, minimal: true, tmp: false }
    }
}

impl From<WhenFullWord> for WhenFull {
    fn from(word: WhenFullWord) -> Self {
        match word {
            WhenFullWord::Wait => Self::Wait,
            WhenFullWord::DropOldest => Self::DropOldest,
        }
    }
}

impl From<AccessWord> for Access {
    fn from(word: AccessWord) -> Self {
        match word {
            AccessWord::Read => Self::Read,
            AccessWord::Write => Self::Write,
            AccessWord::None => Self::Deny,
        }
    }
}

impl From<Limits> for ResourceLimits {
    fn from(limits: Limits) -> Self {
        let Limits { wall_ms, cpu_seconds, memory_bytes, processes, open_files, output_bytes, best_effort } = limits;
        Self { wall_ms, cpu_seconds, memory_bytes, processes, open_files, output_bytes, best_effort }
    }
}
