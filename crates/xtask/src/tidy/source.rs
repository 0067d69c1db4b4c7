//! The crates of the checkout as the rules see them: manifest, files, syntax trees, and what of it is test code.
//!
//! In flows a folder, out flows one [`Crate`] for each folder below `crates`. It knows no rule, only that a file which
//! cannot be parsed is a finding.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::{Attribute, Item, Meta};

use super::{Finding, Rule};

/// One folder below `crates`.
pub(super) struct Crate {
    /// Name of the folder.
    pub(super) name: String,
    /// Path of the manifest, relative to the checkout.
    pub(super) manifest_path: PathBuf,
    /// Text of the manifest, to find lines in.
    pub(super) manifest_text: String,
    /// The manifest.
    pub(super) manifest: toml::Table,
    /// Every Rust file of the crate.
    pub(super) files: Vec<SourceFile>,
}

/// One Rust file.
pub(super) struct SourceFile {
    /// Relative to the checkout.
    pub(super) path: PathBuf,
    /// Its text.
    pub(super) text: String,
    /// Its syntax tree.
    pub(super) syntax: syn::File,
    /// Which part of the crate it belongs to.
    pub(super) place: Place,
}

/// Which part of a crate a file belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// `src`: the module path, empty for a crate root.
    Source(Vec<String>),
    /// `examples`, `benches`, `build.rs`.
    Beside,
    /// `tests`, and modules of `src` that only tests have.
    Test,
}

/// Reads a manifest; what is no TOML is a finding and gives an empty table.
pub(super) fn manifest(root: &Path, path: &Path, findings: &mut Vec<Finding>) -> Result<toml::Table> {
    let text = read(&root.join(path))?;
    Ok(text.parse().unwrap_or_else(|e: toml::de::Error| {
        let line = e.span().map_or(1, |span| line_of(&text, span.start));
        findings.push(Finding { file: path.to_owned(), line, rule: Rule::Syntax, message: e.message().to_owned() });
        toml::Table::new()
    }))
}

/// The line, from 1, of a byte offset.
pub(super) fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

impl Crate {
    /// All crates, by name.
    pub(super) fn read_all(root: &Path, findings: &mut Vec<Finding>) -> Result<Vec<Self>> {
        let mut crates = Vec::new();
        for dir in entries(&root.join("crates"))? {
            let relative = dir.strip_prefix(root).unwrap_or(&dir).to_owned();
            if dir.join("Cargo.toml").is_file() {
                crates.push(Self::read(root, &relative, findings)?);
            }
        }
        Ok(crates)
    }

    fn read(root: &Path, dir: &Path, findings: &mut Vec<Finding>) -> Result<Self> {
        let manifest_path = dir.join("Cargo.toml");
        let mut files = Vec::new();
        for path in rust_files(&root.join(dir))? {
            let relative = path.strip_prefix(root).unwrap_or(&path).to_owned();
            let within = relative.strip_prefix(dir).unwrap_or(&relative).to_owned();
            let text = read(&path)?;
            match syn::parse_file(&text) {
                Ok(syntax) => files.push(SourceFile { path: relative, text, syntax, place: Place::of(&within) }),
                Err(e) => {
                    let line = e.span().start().line;
                    findings.push(Finding { file: relative, line, rule: Rule::Syntax, message: e.to_string() });
                }
            }
        }
        mark_test_modules(&mut files);
        Ok(Self {
            name: dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
            manifest_text: read(&root.join(&manifest_path))?,
            manifest: manifest(root, &manifest_path, findings)?,
            manifest_path,
            files,
        })
    }
}

impl Place {
    fn of(within: &Path) -> Self {
        let parts: Vec<String> =
            within.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
        match parts.split_first() {
            Some((first, rest)) if first == "src" => match rest {
                [root] if root == "lib" || root == "main" => Self::Source(Vec::new()),
                [bin, ..] if bin == "bin" => Self::Beside,
                _ => Self::Source(rest.iter().filter(|part| *part != "mod").cloned().collect()),
            },
            Some((first, _)) if first == "tests" => Self::Test,
            _ => Self::Beside,
        }
    }
}

/// `#[cfg(test)] mod tests;` makes a test of another file, and of what is below it.
fn mark_test_modules(files: &mut [SourceFile]) {
    let mut tests: Vec<Vec<String>> = Vec::new();
    for file in &*files {
        if let Place::Source(module) = &file.place {
            let declared = file.syntax.items.iter().filter_map(|item| match item {
                Item::Mod(item) if item.content.is_none() && is_test_only(&item.attrs) => Some(item.ident.to_string()),
                _ => None,
            });
            tests.extend(declared.map(|name| [module.as_slice(), &[name]].concat()));
        }
    }
    for file in files {
        if matches!(&file.place, Place::Source(module) if tests.iter().any(|test| module.starts_with(test))) {
            file.place = Place::Test;
        }
    }
}

fn rust_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in entries(dir)? {
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                found.extend(rust_files(&path)?);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(found)
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let listing = std::fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))?;
    let mut paths = listing.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

/// Whether an item exists in test builds alone: `#[cfg(test)]`, `#[test]`, `#[tokio::test]`.
pub(super) fn is_test_only(attrs: &[Attribute]) -> bool {
    attrs.iter().any(|attr| match &attr.meta {
        Meta::List(list) if list.path.is_ident("cfg") => requires_test(list.tokens.clone()),
        meta => meta.path().segments.last().is_some_and(|segment| segment.ident == "test"),
    })
}

/// Whether a `cfg` holds in test builds alone: `test` by itself or inside `all`, not inside `any` or `not`.
fn requires_test(tokens: TokenStream) -> bool {
    let trees: Vec<TokenTree> = tokens.into_iter().collect();
    trees.iter().enumerate().any(|(at, tree)| match tree {
        TokenTree::Ident(ident) if ident == "test" => true,
        TokenTree::Group(group) => {
            let called = at.checked_sub(1).and_then(|before| trees.get(before));
            matches!(called, Some(TokenTree::Ident(ident)) if ident == "all") && requires_test(group.stream())
        }
        _ => false,
    })
}

/// The attributes of an item, of whatever kind.
pub(super) fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(i) => &i.attrs,
        Item::Enum(i) => &i.attrs,
        Item::ExternCrate(i) => &i.attrs,
        Item::Fn(i) => &i.attrs,
        Item::ForeignMod(i) => &i.attrs,
        Item::Impl(i) => &i.attrs,
        Item::Macro(i) => &i.attrs,
        Item::Mod(i) => &i.attrs,
        Item::Static(i) => &i.attrs,
        Item::Struct(i) => &i.attrs,
        Item::Trait(i) => &i.attrs,
        Item::TraitAlias(i) => &i.attrs,
        Item::Type(i) => &i.attrs,
        Item::Union(i) => &i.attrs,
        Item::Use(i) => &i.attrs,
        _ => &[],
    }
}

/// First and last line of a piece of syntax, attributes and docs included.
pub(super) fn lines(syntax: &impl Spanned) -> (usize, usize) {
    let span = syntax.span();
    (span.start().line, span.end().line)
}
