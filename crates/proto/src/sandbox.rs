//! The `sandbox` object: what a client asks to be enforced, and whether that needs anything from the platform.
//!
//! This build enforces nothing yet, so the one question answered here is whether an operation may run without
//! (protocol 13.2); whoever asks refuses otherwise.

use serde::{Deserialize, Serialize};

/// What must be enforced on an operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SandboxContext {
    permissions: PermissionProfileDe,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cwd: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    workspace_roots: Vec<String>,
    windows_sandbox_level: WindowsSandboxLevel,
    #[serde(default)]
    windows_sandbox_private_desktop: bool,
    #[serde(default)]
    use_legacy_landlock: bool,
}

/// Named after the type of stock 0.130 whose name shows in its error text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum PermissionProfileDe {
    Tagged(Permissions),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Permissions {
    Disabled,
    External { network: Network },
    Managed { network: Network, file_system: FileSystem },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Network {
    Restricted,
    Enabled,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum FileSystem {
    Unrestricted,
    Restricted {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        glob_scan_max_depth: Option<u64>,
        entries: Vec<Entry>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    path: EntryPath,
    access: Access,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum EntryPath {
    Path { path: String },
    GlobPattern { pattern: String },
    Special { value: Special },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Special {
    Root,
    Minimal,
    #[serde(alias = "current_working_directory")]
    ProjectRoots {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subpath: Option<String>,
    },
    Tmpdir,
    SlashTmp,
    Unknown {
        path: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subpath: Option<String>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Access {
    Read,
    Write,
    #[serde(alias = "none")]
    Deny,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum WindowsSandboxLevel {
    Disabled,
    RestrictedToken,
    Elevated,
}

/// What an operation under a [`SandboxContext`] needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enforcement {
    /// Nothing: it may run as it is.
    NotNeeded,
    /// The platform's sandbox.
    Needed,
    /// Entries depend on a working directory that is missing: an invalid request.
    MissingCwd,
}

impl SandboxContext {
    /// What a file operation needs (protocol 13.2).
    pub fn for_files(&self) -> Enforcement {
        let PermissionProfileDe::Tagged(permissions) = &self.permissions;
        let Permissions::Managed { file_system: FileSystem::Restricted { entries, .. }, .. } = permissions else {
            return Enforcement::NotNeeded;
        };
        let dynamic = |e: &Entry| matches!(e.path, EntryPath::Special { value: Special::ProjectRoots { .. } });
        if self.cwd.is_none() && entries.iter().any(dynamic) {
            return Enforcement::MissingCwd;
        }
        let root = |e: &Entry| matches!(e.path, EntryPath::Special { value: Special::Root });
        let everything_writable = entries.iter().any(|e| root(e) && e.access == Access::Write);
        let narrowed = entries.iter().any(|e| e.access != Access::Write);
        if everything_writable && !narrowed { Enforcement::NotNeeded } else { Enforcement::Needed }
    }

    /// What a process needs: as for files, and a restricted network needs enforcement too.
    pub fn for_processes(&self) -> Enforcement {
        let PermissionProfileDe::Tagged(permissions) = &self.permissions;
        match permissions {
            Permissions::Disabled => Enforcement::NotNeeded,
            Permissions::External { network: Network::Restricted }
            | Permissions::Managed { network: Network::Restricted, .. } => Enforcement::Needed,
            Permissions::External { .. } | Permissions::Managed { .. } => self.for_files(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(permissions: &str, cwd: &str) -> SandboxContext {
        let text = format!(r#"{{"permissions":{permissions},"windowsSandboxLevel":"disabled"{cwd}}}"#);
        serde_json::from_str(&text).unwrap()
    }

    fn restricted(entries: &str) -> String {
        format!(
            r#"{{"type":"managed","network":"enabled","file_system":{{"type":"restricted","entries":[{entries}]}}}}"#
        )
    }

    const ROOT_WRITE: &str = r#"{"path":{"type":"special","value":{"kind":"root"}},"access":"write"}"#;
    const SECRET_DENY: &str = r#"{"path":{"type":"path","path":"/s"},"access":"none"}"#;
    const PROJECT: &str = r#"{"path":{"type":"special","value":{"kind":"current_working_directory"}},"access":"read"}"#;

    #[test]
    fn what_needs_no_enforcement() {
        for free in [
            r#"{"type":"disabled"}"#,
            r#"{"type":"external","network":"restricted"}"#,
            r#"{"type":"managed","network":"restricted","file_system":{"type":"unrestricted"}}"#,
            &restricted(ROOT_WRITE),
        ] {
            assert_eq!(parse(free, "").for_files(), Enforcement::NotNeeded, "{free}");
        }
        let external = parse(r#"{"type":"external","network":"restricted"}"#, "");
        assert_eq!(external.for_processes(), Enforcement::Needed);
        assert_eq!(parse(r#"{"type":"disabled"}"#, "").for_processes(), Enforcement::NotNeeded);
    }

    #[test]
    fn what_does() {
        for narrowed in ["", SECRET_DENY, &format!("{ROOT_WRITE},{SECRET_DENY}")] {
            let context = parse(&restricted(narrowed), "");
            assert_eq!(context.for_files(), Enforcement::Needed, "{narrowed}");
            assert_eq!(context.for_processes(), Enforcement::Needed, "{narrowed}");
        }
        assert_eq!(parse(&restricted(PROJECT), "").for_files(), Enforcement::MissingCwd);
        assert_eq!(parse(&restricted(PROJECT), r#","cwd":"/x""#).for_files(), Enforcement::Needed);
    }

    #[test]
    fn errors_are_those_of_stock() {
        let cause = |text: &str| serde_json::from_str::<SandboxContext>(text).unwrap_err().to_string();
        assert!(cause("{}").starts_with("missing field `permissions`"));
        let disabled = r#"{"permissions":{"type":"disabled"}}"#;
        assert!(cause(disabled).starts_with("missing field `windowsSandboxLevel`"));
        let bogus = r#"{"permissions":{"type":"bogus"},"windowsSandboxLevel":"disabled"}"#;
        assert!(cause(bogus).starts_with("data did not match any variant of untagged enum PermissionProfileDe"));
    }
}
