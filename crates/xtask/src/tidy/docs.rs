//! Every module says what it is: a `//!` comment at the top of its file, or a doc comment where it stands inline.
//!
//! In flows one parsed file, out flow findings. What the comment says is for people to judge.

use syn::visit::{self, Visit};
use syn::{Attribute, ItemMod};

use super::source::{Place, SourceFile, is_test_only, lines};
use super::{Finding, Rule};

/// Checks one file.
pub(super) fn check(file: &SourceFile, findings: &mut Vec<Finding>) {
    if file.place == Place::Test {
        return;
    }
    let mut lacking = Vec::new();
    if !is_documented(&file.syntax.attrs) {
        lacking.push((1, "a file begins with a `//!` comment: what it is, what flows in and out".to_owned()));
    }
    let mut inline = Inline::default();
    inline.visit_file(&file.syntax);
    lacking.extend(inline.lacking);
    findings.extend(lacking.into_iter().map(|(line, message)| Finding {
        file: file.path.clone(),
        line,
        rule: Rule::ModuleDoc,
        message,
    }));
}

#[derive(Default)]
struct Inline {
    lacking: Vec<(usize, String)>,
}

impl<'ast> Visit<'ast> for Inline {
    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if is_test_only(&item.attrs) {
            return;
        }
        if item.content.is_some() && !is_documented(&item.attrs) {
            self.lacking.push((lines(&item.ident).0, format!("module `{}` has no doc comment", item.ident)));
        }
        visit::visit_item_mod(self, item);
    }
}

/// Whether there is a doc comment that says something.
fn is_documented(attrs: &[Attribute]) -> bool {
    attrs.iter().filter(|attr| attr.path().is_ident("doc")).any(|attr| match &attr.meta {
        syn::Meta::NameValue(pair) => match &pair.value {
            syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => !text.value().trim().is_empty(),
            _ => true,
        },
        _ => false,
    })
}
