//! The top-level modules of a crate use each other in one direction.
//!
//! In flow the syntax trees of `src`, out flows one finding for each knot: modules that reach each other both ways.
//! A folder of files counts as its top-level module, a name that the root re-exports as the module it comes from, and
//! the root itself as a module where it has code of its own. Test code is left out.

mod paths;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use syn::{Item, UseTree, Visibility};

use self::paths::Reference;
use super::source::{Crate, Place, SourceFile, attributes, is_test_only};
use super::{Finding, Rule};

/// What the root is called in findings.
const ROOT: &str = "the crate root";

/// Where an edge was first seen.
type Graph = BTreeMap<String, BTreeMap<String, (PathBuf, usize)>>;

/// Checks one crate.
pub(super) fn check(krate: &Crate, findings: &mut Vec<Finding>) {
    let graph = graph(krate);
    let mut knotted: BTreeSet<&str> = BTreeSet::new();
    for module in graph.keys() {
        if knotted.contains(module.as_str()) {
            continue;
        }
        if let Some(circle) = circle(&graph, module) {
            let reached = reachable(&graph, module);
            knotted.extend(reached.into_iter().filter(|other| reachable(&graph, other).contains(module.as_str())));
            findings.extend(finding(&graph, &circle));
        }
    }
}

fn finding(graph: &Graph, circle: &[&str]) -> Option<Finding> {
    let mut steps = Vec::new();
    let mut first = None;
    for (from, to) in circle.iter().zip(circle.iter().cycle().skip(1)) {
        let (file, line) = graph.get(*from)?.get(*to)?;
        first.get_or_insert((file.clone(), *line));
        steps.push(format!("{from} uses {to} ({}:{line})", file.display()));
    }
    let (file, line) = first?;
    Some(Finding { file, line, rule: Rule::ModuleCycle, message: steps.join(", ") })
}

/// The shortest way from a module back to itself.
fn circle<'g>(graph: &'g Graph, start: &'g str) -> Option<Vec<&'g str>> {
    let mut ways = vec![vec![start]];
    let mut seen = BTreeSet::new();
    while !ways.is_empty() {
        let mut longer = Vec::new();
        for way in ways {
            for next in way.last().and_then(|last| graph.get(*last)).into_iter().flat_map(BTreeMap::keys) {
                if next == start {
                    return Some(way);
                }
                if seen.insert(next) {
                    longer.push([way.as_slice(), &[next]].concat());
                }
            }
        }
        ways = longer;
    }
    None
}

fn reachable<'g>(graph: &'g Graph, start: &str) -> BTreeSet<&'g str> {
    let mut seen = BTreeSet::new();
    let mut open: Vec<&str> = vec![start];
    while let Some(module) = open.pop() {
        for next in graph.get(module).into_iter().flat_map(BTreeMap::keys) {
            if seen.insert(next.as_str()) {
                open.push(next);
            }
        }
    }
    seen
}

fn graph(krate: &Crate) -> Graph {
    let names = Names::of(krate);
    let mut graph = Graph::new();
    for file in &krate.files {
        let Place::Source(module) = &file.place else { continue };
        for Reference { path, line } in paths::references(file, module, &names.modules) {
            let from = module.first().map_or(ROOT, String::as_str);
            let to = names.target(&path);
            if from != to {
                let edges = graph.entry(from.to_owned()).or_default();
                edges.entry(to.to_owned()).or_insert_with(|| (file.path.clone(), line));
            }
        }
    }
    graph
}

/// What the names of the crate root stand for.
struct Names {
    /// The top-level modules.
    modules: BTreeSet<String>,
    /// Names that the root re-exports, and exported macros, with the module that they come from.
    elsewhere: BTreeMap<String, String>,
}

impl Names {
    fn of(krate: &Crate) -> Self {
        let sources = krate.files.iter().filter_map(|file| match &file.place {
            Place::Source(module) => Some((file, module)),
            _ => None,
        });
        let mut names = Self { modules: BTreeSet::new(), elsewhere: BTreeMap::new() };
        let mut roots = Vec::new();
        for (file, module) in sources {
            match module.first() {
                Some(top) => {
                    names.modules.insert(top.clone());
                    names.exported_macros(file, top);
                }
                None => roots.push(file),
            }
        }
        for root in roots {
            for item in &root.syntax.items {
                match item {
                    Item::Mod(item) if !is_test_only(&item.attrs) => drop(names.modules.insert(item.ident.to_string())),
                    Item::Use(item) if is_reexport(&item.vis) => names.reexports(&item.tree, &mut Vec::new()),
                    _ => {}
                }
            }
        }
        names
    }

    fn exported_macros(&mut self, file: &SourceFile, top: &str) {
        for item in &file.syntax.items {
            if let Item::Macro(item) = item
                && let Some(name) = &item.ident
                && item.attrs.iter().any(|attr| attr.path().is_ident("macro_export"))
            {
                self.elsewhere.insert(name.to_string(), top.to_owned());
            }
        }
    }

    fn reexports(&mut self, tree: &UseTree, before: &mut Vec<String>) {
        let name = match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.reexports(&path.tree, before);
                before.pop();
                return;
            }
            UseTree::Group(group) => return group.items.iter().for_each(|tree| self.reexports(tree, before)),
            UseTree::Name(name) => name.ident.to_string(),
            UseTree::Rename(rename) => rename.rename.to_string(),
            UseTree::Glob(_) => return,
        };
        if let Some(top) = before.iter().find(|segment| !matches!(segment.as_str(), "crate" | "self")) {
            self.elsewhere.insert(name, top.clone());
        }
    }

    /// The top-level module that a path from the crate root leads to.
    fn target<'a>(&'a self, path: &'a [String]) -> &'a str {
        match path.first() {
            Some(first) if self.modules.contains(first) => first,
            Some(first) => self.elsewhere.get(first).filter(|top| self.modules.contains(*top)).map_or(ROOT, |top| top),
            None => ROOT,
        }
    }
}

fn is_reexport(visibility: &Visibility) -> bool {
    !matches!(visibility, Visibility::Inherited)
}

/// Whether an item is left out of the graph: test code, and what the root passes on without using it.
fn is_left_out(item: &Item, at_root: bool) -> bool {
    is_test_only(attributes(item)) || at_root && matches!(item, Item::Use(item) if is_reexport(&item.vis))
}
