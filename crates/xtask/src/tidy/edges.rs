//! Which crate may depend on which: the table of the design, held against the manifests.
//!
//! In flows a manifest, out flows a finding for every edge that the table lacks. Only what ends up in the product
//! counts: dev-dependencies are free, and so are the crates that only developers use.

use std::path::PathBuf;

use toml::{Table, Value};

use super::source::Crate;
use super::{Finding, Rule};

/// One crate of the design.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Folder below `crates`.
    pub name: &'static str,
    /// Our crates that it may depend on.
    pub may: &'static [&'static str],
    /// Crates of others that would show that it knows what it must not.
    pub never: &'static [&'static str],
}

/// The crates that only developers use may depend on everything, and nothing may depend on them.
const DEVELOPERS: &[&str] = &["testkit", "xtask"];
/// The crates that can open an encrypted channel: who carries it must not be able to.
const CIPHERS: &[&str] = &["clatter", "ml-kem", "x25519-dalek"];
/// Sockets, tasks and the clock.
const RUNTIMES: &[&str] = &["axum", "hyper", "reqwest", "tokio", "tokio-tungstenite", "tokio-util"];

/// The table of the design. ARCHITECTURE.md shows the same, and a test keeps them equal.
pub const TABLE: &[Row] = &[
    Row { name: "proto", may: &[], never: RUNTIMES },
    Row { name: "link", may: &["proto"], never: &["sqlx"] },
    Row { name: "host", may: &["proto"], never: &["axum", "sqlx", "tokio-tungstenite"] },
    Row { name: "executor", may: &["proto", "link", "host"], never: &["sqlx"] },
    Row { name: "client", may: &["proto", "link"], never: &["sqlx"] },
    Row { name: "registry", may: &["proto"], never: CIPHERS },
    Row { name: "rendezvous", may: &["proto"], never: &["clatter", "ml-kem", "sqlx", "x25519-dalek"] },
    Row { name: "mcp", may: &["proto", "client"], never: &["sqlx"] },
    Row { name: "console", may: &["proto", "client"], never: &["sqlx"] },
    Row {
        name: "exedra",
        may: &["proto", "link", "host", "executor", "client", "registry", "rendezvous", "mcp", "console"],
        never: &[],
    },
];

/// Checks one crate's manifest.
pub(super) fn check(krate: &Crate, workspace: &Table, findings: &mut Vec<Finding>) {
    if DEVELOPERS.contains(&krate.name.as_str()) {
        return;
    }
    let mut find = |line, message| {
        findings.push(Finding { file: PathBuf::from(&krate.manifest_path), line, rule: Rule::CrateEdge, message });
    };
    let Some(row) = TABLE.iter().find(|row| row.name == krate.name) else {
        return find(1, format!("the table of the design has no crate `{}`", krate.name));
    };
    for (key, spec) in dependencies(&krate.manifest) {
        let package = package(key, spec, workspace);
        let line = line_of_key(&krate.manifest_text, key);
        if let Some(ours) = ours(package) {
            if !row.may.contains(&ours) {
                let may = if row.may.is_empty() { "nothing of ours".to_owned() } else { row.may.join(", ") };
                find(line, format!("`{}` may not depend on `{ours}` (it may on: {may})", row.name));
            }
        } else if row.never.contains(&package) {
            find(line, format!("`{}` must not know what `{package}` brings", row.name));
        }
    }
}

/// Everything that a manifest links into the product, on any target.
fn dependencies(manifest: &Table) -> impl Iterator<Item = (&str, &Value)> {
    let targets = manifest.get("target").and_then(Value::as_table).into_iter().flat_map(Table::values);
    let owners = targets.filter_map(Value::as_table).chain([manifest]);
    let tables = owners.flat_map(|owner| ["dependencies", "build-dependencies"].map(|kind| owner.get(kind)));
    tables.flatten().filter_map(Value::as_table).flatten().map(|(key, spec)| (key.as_str(), spec))
}

/// The name of the package behind a key, which `package = "…"` here or in the workspace may change.
fn package<'a>(key: &'a str, spec: &'a Value, workspace: &'a Table) -> &'a str {
    let renamed = |spec: &'a Value| spec.get("package").and_then(Value::as_str);
    let inherited = || workspace.get("workspace")?.get("dependencies")?.get(key);
    renamed(spec).or_else(|| renamed(inherited()?)).unwrap_or(key)
}

fn ours(package: &str) -> Option<&str> {
    if package == "exedra" || DEVELOPERS.contains(&package) {
        return Some(package);
    }
    package.strip_prefix("exedra-")
}

fn line_of_key(manifest: &str, key: &str) -> usize {
    let named = |line: &str| {
        let rest = line.trim_start().strip_prefix(key);
        rest.is_some_and(|rest| rest.starts_with(['.', ' ', '='])) || line.trim_end().ends_with(&format!(".{key}]"))
    };
    manifest.lines().position(named).map_or(1, |at| at + 1)
}
