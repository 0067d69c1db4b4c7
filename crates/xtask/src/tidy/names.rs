//! A module is named for what it holds: no drawers (`utils`, `common`, …), and `foo.rs` beside `foo/`, never `mod.rs`.
//!
//! In flows the path and the syntax of one file, tests included, out flow findings.

use std::path::Path;

use syn::ItemMod;
use syn::visit::{self, Visit};

use super::source::{SourceFile, lines};
use super::{Finding, Rule};

/// Names that say nothing of what is inside.
const FORBIDDEN: &[&str] = &["common", "helper", "helpers", "misc", "util", "utils"];

/// Checks one file.
pub(super) fn check(file: &SourceFile, findings: &mut Vec<Finding>) {
    let mut find =
        |line, message| findings.push(Finding { file: file.path.clone(), line, rule: Rule::ModuleName, message });
    if file.path.file_name().is_some_and(|name| name == "mod.rs") {
        find(1, "a module file stands beside its folder, as `foo.rs` beside `foo/`".to_owned());
    }
    for part in file.path.iter() {
        let stem = Path::new(part).file_stem().unwrap_or(part).to_string_lossy();
        if FORBIDDEN.contains(&stem.as_ref()) {
            find(1, format!("`{stem}` names no thing: find the noun that is missing"));
        }
    }
    let mut inline = Inline::default();
    inline.visit_file(&file.syntax);
    for (line, name) in inline.forbidden {
        find(line, format!("`{name}` names no thing: find the noun that is missing"));
    }
}

#[derive(Default)]
struct Inline {
    forbidden: Vec<(usize, String)>,
}

impl<'ast> Visit<'ast> for Inline {
    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        let name = item.ident.to_string();
        // One that has its own file is found by that file's name.
        if item.content.is_some() && FORBIDDEN.contains(&name.as_str()) {
            self.forbidden.push((lines(&item.ident).0, name));
        }
        visit::visit_item_mod(self, item);
    }
}
