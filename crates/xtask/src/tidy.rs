//! The house rules that a compiler does not know, checked over the checkout.
//!
//! In flow the manifests and the parsed sources of every crate, and the ledger of exceptions; out flow findings, each
//! with file, line and rule. It reads and never writes. The rules are in the files below, one each.

mod cycles;
mod docs;
pub mod edges;
mod ledger;
mod names;
mod sizes;
mod source;

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Result;

use self::ledger::Ledger;
use self::source::Crate;

/// Something that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Relative to the checkout.
    pub file: PathBuf,
    /// From 1.
    pub line: usize,
    /// Which rule.
    pub rule: Rule,
    /// What is wrong and what would be right.
    pub message: String,
}

/// The rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// A crate depends on what the table of the design does not let it.
    CrateEdge,
    /// Modules of a crate use each other in a circle.
    ModuleCycle,
    /// A file is too long.
    FileSize,
    /// A function is too long.
    FunctionSize,
    /// A module does not say what it is.
    ModuleDoc,
    /// A module is a drawer, or a `mod.rs`.
    ModuleName,
    /// An exception in the ledger is not needed, or has no reason.
    Ledger,
    /// A file cannot be read as Rust or TOML.
    Syntax,
}

impl Rule {
    /// Its name in the output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CrateEdge => "crate-edge",
            Self::ModuleCycle => "module-cycle",
            Self::FileSize => "file-size",
            Self::FunctionSize => "function-size",
            Self::ModuleDoc => "module-doc",
            Self::ModuleName => "module-name",
            Self::Ledger => "ledger",
            Self::Syntax => "syntax",
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}", self.file.display(), self.line, self.rule.as_str(), self.message)
    }
}

/// All findings in the checkout at `root`, by file and line.
///
/// # Errors
/// A folder or file cannot be read.
pub fn check(root: &Path) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let mut ledger = Ledger::read(root, &mut findings)?;
    let workspace = source::manifest(root, Path::new("Cargo.toml"), &mut findings)?;
    for krate in Crate::read_all(root, &mut findings)? {
        edges::check(&krate, &workspace, &mut findings);
        cycles::check(&krate, &mut findings);
        for file in &krate.files {
            names::check(file, &mut findings);
            docs::check(file, &mut findings);
            sizes::check(file, &mut ledger, &mut findings);
        }
    }
    ledger.stale(&mut findings);
    findings.sort();
    Ok(findings)
}
