//! `capabilityRoots/discoverV1`: the manifests of plugins and the texts of skills below a directory.
//!
//! In flows a root, out flow the files by their places and names; contents are only looked at for the two files that a
//! manifest may name. What is too large or no text is left out with a warning. It finds its way by `walk`.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

use exedra_proto::capability::{FileText, Findings, Plugin, Skill};
use exedra_proto::fs::{WalkKind, WalkOptions};
use exedra_proto::path::{AbsolutePath, PathForm, to_uri};
use serde_json::Value;

use super::regular::open_to_read;
use super::resolve::Way;
use super::roots::Access;
use super::walk::walk;
use crate::error::{FsError, FsErrorKind};

/// The most roots in one request.
pub const MAX_ROOTS: usize = 128;
/// The largest file, in bytes.
const MAX_FILE: usize = 1024 * 1024;
/// What the files of one request may hold together, in bytes: one message has to carry them.
pub const MAX_TOTAL: usize = 24 * 1024 * 1024;
/// Where a manifest may be in a directory; the first that is there counts.
const MANIFESTS: [&str; 3] = [".codex-plugin/plugin.json", ".claude-plugin/plugin.json", ".cursor-plugin/plugin.json"];
const SKILL: &str = "SKILL.md";
const SKILL_METADATA: &str = "agents/openai.yaml";
const WALK: WalkOptions = WalkOptions {
    max_depth: 6,
    max_directories: 2_000,
    max_entries: 50_000,
    follow_directory_symlinks: true,
    prune_hidden_directories: false,
};

/// A look through one root.
struct Search<'a> {
    way: Way<'a>,
    root: &'a Path,
    form: PathForm,
    left: &'a mut usize,
    warnings: Vec<String>,
}

/// What is below `root`, named `id` by the client. `left` is what the contents may still take.
pub fn discover(way: Way<'_>, id: String, root: &AbsolutePath, left: &mut usize) -> Findings {
    let mut search = Search { way, root: root.as_path(), form: root.form(), left, warnings: Vec::new() };
    let mut findings = Findings {
        id,
        path: root.clone(),
        plugin: None,
        skills: Vec::new(),
        namespace_manifests: Vec::new(),
        warnings: Vec::new(),
        error: None,
    };
    match search.run(root, &mut findings) {
        Ok(()) => findings.warnings = search.warnings,
        Err(error) => {
            (findings.plugin, findings.skills, findings.namespace_manifests) = (None, Vec::new(), Vec::new());
            findings.error = Some(error);
        }
    }
    findings
}

impl Search<'_> {
    fn run(&mut self, root: &AbsolutePath, findings: &mut Findings) -> Result<(), String> {
        let shown = self.shown(self.root);
        let uninspected = |error: FsError| format!("failed to inspect capability root {shown}: {error}");
        let held = self.way.target(self.root, Access::Read).map_err(uninspected)?;
        if !std::fs::metadata(held.path()).map_err(|error| uninspected(error.into()))?.is_dir() {
            return Err(format!("capability root {shown} is not a directory"));
        }
        let found = walk(self.way, root, WALK).map_err(uninspected)?;
        for error in found.errors {
            self.warnings.push(format!("failed to inspect {}: {}", self.shown(error.path.as_path()), error.message));
        }
        let files = found.entries.into_iter().filter(|entry| entry.kind == WalkKind::File);
        let mut skills: Vec<PathBuf> = Vec::new();
        let mut manifests: BTreeMap<PathBuf, Vec<usize>> = BTreeMap::new();
        for file in files {
            let path = file.path.as_path();
            if path.file_name().is_some_and(|name| name == SKILL) {
                skills.push(path.to_owned());
            } else if let Some((at, directory)) = manifest_of(path) {
                manifests.entry(directory.to_owned()).or_default().push(at);
            }
        }
        let mut texts = BTreeMap::new();
        for (directory, mut kinds) in manifests {
            kinds.sort_unstable();
            let text = kinds.into_iter().find_map(|at| self.file(&directory.join(MANIFESTS.get(at)?)));
            texts.extend(text.map(|text| (directory, text)));
        }
        findings.plugin = texts.get(self.root).cloned().map(|manifest| self.plugin(manifest));
        let mut namespaces: Vec<FileText> = texts.into_values().collect();
        namespaces.sort_by(|a, b| a.path.as_path().cmp(b.path.as_path()));
        findings.namespace_manifests = namespaces;
        skills.sort_unstable();
        findings.skills = skills.iter().filter_map(|path| self.skill(path)).collect();
        if found.truncated {
            self.warnings.push(format!("capability scan reached its traversal limit (root: {shown})"));
        }
        Ok(())
    }

    fn skill(&mut self, path: &Path) -> Option<Skill> {
        let instructions = self.file(path)?;
        let metadata = self.file(&path.parent()?.join(SKILL_METADATA));
        Some(Skill { instructions, metadata })
    }

    fn plugin(&mut self, manifest: FileText) -> Plugin {
        let says: Value = serde_json::from_str(&manifest.contents).unwrap_or_default();
        let mcp_config = self.named(&manifest, &says, "mcpServers", ".mcp.json");
        let apps_config = self.named(&manifest, &says, "apps", ".app.json");
        Plugin { manifest, mcp_config, apps_config }
    }

    /// The file that a manifest names by `member`, or the usual one.
    fn named(&mut self, manifest: &FileText, says: &Value, member: &str, usual: &str) -> Option<FileText> {
        let relative = match says.get(member).and_then(Value::as_str).map(below) {
            Some(Ok(path)) => path,
            Some(Err(why)) => {
                let shown = self.shown(manifest.path.as_path());
                self.warnings.push(format!("ignoring {member} in {shown}: {why}"));
                PathBuf::from(usual)
            }
            None => PathBuf::from(usual),
        };
        let path = self.root.join(relative);
        self.file(&path)
    }

    /// A text file; none, with a warning where that is not plain, if it is none.
    fn file(&mut self, path: &Path) -> Option<FileText> {
        let shown = self.shown(path);
        match self.read(path, &shown) {
            Ok(contents) => {
                let path = AbsolutePath::native(path).ok()?.with_form(self.form);
                Some(FileText { path, contents: contents? })
            }
            Err(warning) => {
                self.warnings.push(warning);
                None
            }
        }
    }

    fn read(&mut self, path: &Path, shown: &str) -> Result<Option<String>, String> {
        let failed = |error: FsError| format!("failed to read capability file {shown}: {error}");
        // What is no file at all is not there.
        let Ok(held) = self.way.target(path, Access::Read) else { return Ok(None) };
        if !std::fs::metadata(held.path()).is_ok_and(|metadata| metadata.is_file()) {
            return Ok(None);
        }
        let file = match open_to_read(self.way, path) {
            Ok((file, _)) => file,
            Err(error) if error.kind == FsErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let mut bytes = Vec::new();
        file.take(MAX_FILE as u64 + 1).read_to_end(&mut bytes).map_err(|error| failed(error.into()))?;
        if bytes.len() > MAX_FILE {
            return Err(format!("capability file {shown} exceeds the {MAX_FILE}-byte limit"));
        }
        let Some(left) = self.left.checked_sub(bytes.len()) else {
            return Err(format!("capability file {shown} is left out: one answer holds {MAX_TOTAL} bytes of them"));
        };
        *self.left = left;
        String::from_utf8(bytes)
            .map(Some)
            .map_err(|error| format!("capability file {shown} is not UTF-8: {}", error.utf8_error()))
    }

    fn shown(&self, path: &Path) -> String {
        match self.form {
            PathForm::Uri => to_uri(path),
            PathForm::Native => path.display().to_string(),
        }
    }
}

/// Which kind of manifest `path` is, and of which directory.
fn manifest_of(path: &Path) -> Option<(usize, &Path)> {
    let at = MANIFESTS.iter().position(|manifest| path.ends_with(manifest))?;
    Some((at, path.parent()?.parent()?))
}

/// The relative path that a manifest names, if it stays below the root.
fn below(text: &str) -> Result<PathBuf, &'static str> {
    let rest = text.strip_prefix("./").ok_or("path must start with `./`")?;
    let parts = Path::new(rest).components().filter(|part| *part != Component::CurDir);
    let parts: Option<PathBuf> = parts.map(|part| matches!(part, Component::Normal(_)).then_some(part)).collect();
    parts.filter(|path| !path.as_os_str().is_empty()).ok_or("path must remain below the capability root")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_manifest_may_name() {
        assert_eq!(below("./sub/./q.json"), Ok(PathBuf::from("sub/q.json")));
        for outside in ["./", "./../m/x", "./a/../b", ".//etc/x"] {
            assert_eq!(below(outside), Err("path must remain below the capability root"), "{outside}");
        }
        for other in ["", "/etc/passwd", "../x", "x"] {
            assert_eq!(below(other), Err("path must start with `./`"), "{other}");
        }
    }

    #[test]
    fn manifests_by_their_place() {
        let of = |path: &'static str| manifest_of(Path::new(path));
        assert_eq!(of("/p/a/.claude-plugin/plugin.json"), Some((1, Path::new("/p/a"))));
        assert_eq!(of("/p/plugin.json"), None);
        assert_eq!(of("/p/.codex-plugin/plugin.jsonx"), None);
    }
}
