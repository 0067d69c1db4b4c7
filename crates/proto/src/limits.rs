//! What a process may use: `limits` of `process/start`, and the word for the one that it went beyond (`exedra/1`).
//!
//! In flow what a client asks for, out flows what is told of it. Plain data: who holds a process to it is another matter.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Limits of a process with all its descendants. What is absent is not limited. A member that is not known is refused: it
/// could not be held.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ResourceLimits {
    /// Milliseconds from the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wall_ms: Option<u64>,
    /// Seconds of CPU time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_seconds: Option<u64>,
    /// Bytes of memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Processes and threads at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processes: Option<u64>,
    /// Open files of each process. More cannot be opened; the process lives on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_files: Option<u64>,
    /// Bytes of output, all streams together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_bytes: Option<u64>,
    /// Start it without the limits that cannot be held here, instead of refusing.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub best_effort: bool,
}

impl ResourceLimits {
    /// Those of which nothing starts without a little, by their names on the wire.
    pub fn needed_to_start(&self) -> [(&'static str, Option<u64>); 3] {
        [("openFiles", self.open_files), ("memoryBytes", self.memory_bytes), ("processes", self.processes)]
    }
}

/// The limit that a process went beyond, and was ended for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Limit {
    /// [`ResourceLimits::wall_ms`]
    WallTime,
    /// [`ResourceLimits::cpu_seconds`]
    CpuTime,
    /// [`ResourceLimits::memory_bytes`]
    Memory,
    /// [`ResourceLimits::processes`]
    Processes,
    /// [`ResourceLimits::output_bytes`]
    OutputBytes,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WallTime => "time",
            Self::CpuTime => "CPU time",
            Self::Memory => "memory",
            Self::Processes => "processes",
            Self::OutputBytes => "output",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_is_unlimited_and_unknown_is_refused() {
        let limits: ResourceLimits = serde_json::from_str(r#"{"wallMs":5,"openFiles":7}"#).unwrap();
        assert_eq!(limits, ResourceLimits { wall_ms: Some(5), open_files: Some(7), ..ResourceLimits::default() });
        assert_eq!(serde_json::to_string(&limits).unwrap(), r#"{"wallMs":5,"openFiles":7}"#);
        assert!(serde_json::from_str::<ResourceLimits>(r#"{"wallMS":5}"#).is_err());
        assert_eq!(serde_json::to_string(&Limit::OutputBytes).unwrap(), r#""outputBytes""#);
    }
}
