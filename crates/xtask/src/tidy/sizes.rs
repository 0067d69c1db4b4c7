//! Files stop at 500 lines and functions at 100; tests are free, exceptions are in the ledger.
//!
//! In flows one parsed file, out flow findings. A file is counted without its test modules, a function from the line
//! of its signature to its closing brace.

use syn::visit::{self, Visit};
use syn::{ImplItem, ImplItemFn, Item, ItemFn, ItemImpl, ItemTrait, TraitItem, TraitItemFn};

use super::ledger::Ledger;
use super::source::{Place, SourceFile, attributes, is_test_only, lines};
use super::{Finding, Rule};

/// Lines of a file.
pub(super) const MAX_FILE: usize = 500;
/// Lines of a function.
pub(super) const MAX_FUNCTION: usize = 100;

/// Checks one file; what the ledger lists is marked there as used.
pub(super) fn check(file: &SourceFile, ledger: &mut Ledger, findings: &mut Vec<Finding>) {
    if file.place == Place::Test {
        return;
    }
    let mut counter = Counter::default();
    counter.visit_file(&file.syntax);
    let mut find = |line, rule, message| findings.push(Finding { file: file.path.clone(), line, rule, message });

    let all = file.text.lines().count();
    let tests: usize = counter.tests.iter().map(|(first, last)| last - first + 1).sum();
    let length = all.saturating_sub(tests);
    if let Some(limit) = ledger.limit(&file.path, None, length, MAX_FILE) {
        find(1, Rule::FileSize, format!("{length} lines without test modules, at most {limit}"));
    }
    for function in counter.functions {
        if let Some(limit) = ledger.limit(&file.path, Some(&function.name), function.length, MAX_FUNCTION) {
            let message = format!("`{}` has {} lines, at most {limit}", function.name, function.length);
            find(function.line, Rule::FunctionSize, message);
        }
    }
}

struct Function {
    name: String,
    line: usize,
    length: usize,
}

#[derive(Default)]
struct Counter {
    /// `Type::` or `Trait::` around what is visited.
    owner: Option<String>,
    functions: Vec<Function>,
    /// First and last line of each outermost test item.
    tests: Vec<(usize, usize)>,
}

impl Counter {
    fn function(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let (first, last) = (lines(signature).0, lines(block).1);
        let name = match &self.owner {
            Some(owner) => format!("{owner}::{}", signature.ident),
            None => signature.ident.to_string(),
        };
        self.functions.push(Function { name, line: first, length: last - first + 1 });
    }

    fn owned_by(&mut self, owner: Option<String>, visit: impl FnOnce(&mut Self)) {
        let before = std::mem::replace(&mut self.owner, owner);
        visit(self);
        self.owner = before;
    }
}

impl<'ast> Visit<'ast> for Counter {
    fn visit_item(&mut self, item: &'ast Item) {
        if is_test_only(attributes(item)) {
            self.tests.push(lines(item));
        } else {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        self.function(&item.sig, &item.block);
        self.owned_by(None, |counter| visit::visit_item_fn(counter, item));
    }

    fn visit_item_impl(&mut self, item: &'ast ItemImpl) {
        let owner = match &*item.self_ty {
            syn::Type::Path(path) => path.path.segments.last().map(|segment| segment.ident.to_string()),
            _ => None,
        };
        self.owned_by(owner, |counter| visit::visit_item_impl(counter, item));
    }

    fn visit_item_trait(&mut self, item: &'ast ItemTrait) {
        self.owned_by(Some(item.ident.to_string()), |counter| visit::visit_item_trait(counter, item));
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        if !matches!(item, ImplItem::Fn(function) if is_test_only(&function.attrs)) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        self.function(&item.sig, &item.block);
        self.owned_by(None, |counter| visit::visit_impl_item_fn(counter, item));
    }

    fn visit_trait_item(&mut self, item: &'ast TraitItem) {
        if !matches!(item, TraitItem::Fn(function) if is_test_only(&function.attrs)) {
            visit::visit_trait_item(self, item);
        }
    }

    fn visit_trait_item_fn(&mut self, item: &'ast TraitItemFn) {
        if let Some(block) = &item.default {
            self.function(&item.sig, block);
        }
        self.owned_by(None, |counter| visit::visit_trait_item_fn(counter, item));
    }
}
