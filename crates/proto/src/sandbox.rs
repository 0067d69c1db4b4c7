//! The `sandbox` object: what a client asks to be enforced, and whether that needs anything from the platform.
//!
//! In flows what a client wrote, in any dialect; out flow its entries, network and roots as plain data, and whether an
//! operation may run without a sandbox (protocol 13.2). What the entries mean on a disk is for the host to say.

use serde::{Deserialize, Serialize};

use crate::path::AbsolutePath;

/// What must be enforced on an operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SandboxContext {
    permissions: PermissionProfileDe,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cwd: Option<AbsolutePath>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    workspace_roots: Option<Vec<AbsolutePath>>,
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

/// Whether the network is to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// No.
    Restricted,
    /// As without a sandbox.
    Enabled,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum FileSystem {
    Unrestricted,
    Restricted {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        glob_scan_max_depth: Option<usize>,
        entries: Vec<Entry>,
    },
}

/// What may be done where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Where.
    pub path: EntryPath,
    /// What.
    pub access: Access,
    /// What to do where there is nothing at that path (0.155 and later).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_path_behavior: Option<MissingPath>,
}

/// What to do where there is nothing at the path of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MissingPath {
    /// Leave the entry out.
    Skip,
    /// One that this version does not know: it counts as if it were not there.
    #[serde(other)]
    Unknown,
}

/// Where an [`Entry`] applies: there and below.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum EntryPath {
    /// At a path.
    Path {
        /// In either form.
        path: AbsolutePath,
    },
    /// At whatever matches when the sandbox is made.
    GlobPattern {
        /// `*`, `?`, `[…]` within a name, `**` for any depth; a relative one is meant below each project root.
        pattern: String,
    },
    /// At a place that the host knows.
    Special {
        /// Which.
        value: Special,
    },
}

/// A place that the host knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Special {
    /// All of the file system.
    Root,
    /// What programs need to run at all.
    Minimal,
    /// The roots of the project, see [`SandboxContext::project_roots`].
    #[serde(alias = "current_working_directory")]
    ProjectRoots {
        /// A place below each of them instead.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subpath: Option<String>,
    },
    /// What `TMPDIR` names.
    Tmpdir,
    /// `/tmp`
    SlashTmp,
    /// One that this version does not know.
    Unknown {
        /// Its name.
        path: String,
        /// A place below it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subpath: Option<String>,
    },
}

/// What may be done; of two with the same place the later of these decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Look and execute.
    Read,
    /// That, and change.
    Write,
    /// Nothing.
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
    /// The network that is asked for.
    pub fn network(&self) -> Network {
        let PermissionProfileDe::Tagged(permissions) = &self.permissions;
        match permissions {
            Permissions::Disabled => Network::Enabled,
            Permissions::External { network } | Permissions::Managed { network, .. } => *network,
        }
    }

    /// The entries that say what may be done with files, in their order; none if everything may be.
    pub fn entries(&self) -> Option<&[Entry]> {
        match &self.permissions {
            PermissionProfileDe::Tagged(Permissions::Managed {
                file_system: FileSystem::Restricted { entries, .. },
                ..
            }) => Some(entries),
            PermissionProfileDe::Tagged(_) => None,
        }
    }

    /// How many names below its fixed part a glob is followed.
    pub fn glob_depth(&self) -> Option<usize> {
        match &self.permissions {
            PermissionProfileDe::Tagged(Permissions::Managed {
                file_system: FileSystem::Restricted { glob_scan_max_depth, .. },
                ..
            }) => *glob_scan_max_depth,
            PermissionProfileDe::Tagged(_) => None,
        }
    }

    /// What `project_roots` stands for: the workspace roots where a client names any or none of them (0.145 and later),
    /// else the working directory (up to 0.142).
    pub fn project_roots(&self) -> &[AbsolutePath] {
        match &self.workspace_roots {
            Some(roots) => roots,
            None => self.cwd.as_slice(),
        }
    }

    /// What a file operation needs (protocol 13.2).
    pub fn for_files(&self) -> Enforcement {
        let Some(entries) = self.entries() else { return Enforcement::NotNeeded };
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
        match (self.for_files(), self.network()) {
            (Enforcement::NotNeeded, Network::Restricted) => Enforcement::Needed,
            (files, _) => files,
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
    fn what_project_roots_stand_for() {
        let roots = |more: &str| -> Vec<String> {
            let context = parse(&restricted(PROJECT), more);
            context.project_roots().iter().map(ToString::to_string).collect()
        };
        assert_eq!(roots(r#","cwd":"/x""#), ["/x"]);
        assert_eq!(roots(r#","cwd":"file:///x","workspaceRoots":["file:///y","/z"]"#), ["/y", "/z"]);
        assert!(roots(r#","cwd":"/x","workspaceRoots":[]"#).is_empty());
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
