//! The paths by which a file names what is elsewhere in its crate.
//!
//! In flows one parsed file and its module path, out flows every path that begins with `crate`, `super` or `self`, or
//! in the root with the name of a module: in `use` trees, in code, in the arguments of macros and in the texts of
//! attributes. Each is counted from the crate root. It does not know what the names stand for.

use std::collections::BTreeSet;

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, ImplItem, Item, ItemMod, ItemUse, Macro, Meta, UseTree, VisRestricted};

use super::is_left_out;
use crate::tidy::source::{SourceFile, is_test_only, lines};

/// One path that was found.
pub(super) struct Reference {
    /// From the crate root; empty for the root itself.
    pub(super) path: Vec<String>,
    /// From 1.
    pub(super) line: usize,
}

/// Everything that `file`, which is the module `module`, names of its own crate.
pub(super) fn references(file: &SourceFile, module: &[String], modules: &BTreeSet<String>) -> Vec<Reference> {
    let mut finder = Finder { module: module.to_vec(), modules, found: Vec::new() };
    finder.visit_file(&file.syntax);
    finder.found
}

struct Finder<'m> {
    module: Vec<String>,
    modules: &'m BTreeSet<String>,
    found: Vec<Reference>,
}

impl Finder<'_> {
    fn add(&mut self, segments: &[String], line: usize) {
        if let Some(path) = self.resolve(segments) {
            self.found.push(Reference { path, line });
        }
    }

    fn resolve(&self, segments: &[String]) -> Option<Vec<String>> {
        let (first, rest) = segments.split_first()?;
        match first.as_str() {
            "crate" => Some(rest.to_vec()),
            "self" | "super" => {
                let ups = segments.iter().skip_while(|s| *s == "self").take_while(|s| *s == "super").count();
                let base = self.module.get(..self.module.len().checked_sub(ups)?)?;
                let names = segments.iter().filter(|s| *s != "self" && *s != "super").cloned();
                Some(base.iter().cloned().chain(names).collect())
            }
            name if self.module.is_empty() && self.modules.contains(name) => Some(segments.to_vec()),
            _ => None,
        }
    }

    fn use_tree(&mut self, tree: &UseTree, before: &mut Vec<String>) {
        let (name, line) = match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.use_tree(&path.tree, before);
                before.pop();
                return;
            }
            UseTree::Group(group) => return group.items.iter().for_each(|tree| self.use_tree(tree, before)),
            UseTree::Name(name) => (Some(name.ident.to_string()), lines(&name.ident).0),
            UseTree::Rename(rename) => (Some(rename.ident.to_string()), lines(&rename.ident).0),
            UseTree::Glob(glob) => (None, lines(glob).0),
        };
        let path: Vec<String> = before.iter().cloned().chain(name).collect();
        self.add(&path, line);
    }

    /// Macro arguments are no syntax yet: paths are looked for among the tokens.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let (mut colons, mut line) = (0, 0);
        for tree in tokens {
            match tree {
                TokenTree::Ident(ident) if colons == 2 && !path.is_empty() => path.push(ident.to_string()),
                TokenTree::Punct(punct) if punct.as_char() == ':' => {
                    colons += 1;
                    continue;
                }
                other => {
                    self.end_of_path(&mut path, line);
                    match other {
                        TokenTree::Ident(ident) => {
                            line = ident.span().start().line;
                            path = vec![ident.to_string()];
                        }
                        TokenTree::Group(group) => self.tokens(group.stream()),
                        TokenTree::Punct(_) | TokenTree::Literal(_) => {}
                    }
                }
            }
            colons = 0;
        }
        self.end_of_path(&mut path, line);
    }

    fn end_of_path(&mut self, path: &mut Vec<String>, line: usize) {
        if path.len() > 1 {
            self.add(path, line);
        }
        path.clear();
    }
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_left_out(item, self.module.is_empty()) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        if !matches!(item, ImplItem::Fn(function) if is_test_only(&function.attrs)) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if item.content.is_some() {
            self.module.push(item.ident.to_string());
            visit::visit_item_mod(self, item);
            self.module.pop();
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.use_tree(&item.tree, &mut Vec::new());
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() && path.segments.len() > 1 {
            let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            self.add(&segments, lines(path).0);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        visit::visit_macro(self, call);
        self.tokens(call.tokens.clone());
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if let Meta::List(list) = &attribute.meta {
            for tree in list.tokens.clone() {
                if let TokenTree::Literal(literal) = tree
                    && let Ok(text) = syn::parse_str::<syn::LitStr>(&literal.to_string())
                    && let Ok(path) = text.parse::<syn::Path>()
                {
                    let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
                    self.add(&segments, lines(attribute).0);
                }
            }
        }
    }

    fn visit_vis_restricted(&mut self, _visibility: &'ast VisRestricted) {}
}
