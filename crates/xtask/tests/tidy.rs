//! Every rule catches its bad example and lets the good one pass; and this checkout obeys them all.

#![expect(clippy::unwrap_used, clippy::panic, reason = "the lints know tests by #[test], not what those call")]

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;
use xtask::tidy::{self, Finding, Rule, edges};

/// A small checkout of one's own.
struct Checkout {
    dir: TempDir,
}

impl Checkout {
    /// With one crate, `proto`, that has an empty root.
    fn new() -> Self {
        let checkout = Self { dir: TempDir::new().unwrap() };
        checkout
            .file(
                "Cargo.toml",
                "[workspace.dependencies]\nwire = { path = \"crates/link\", package = \"exedra-link\" }\n",
            )
            .file("crates/proto/Cargo.toml", "[package]\nname = \"exedra-proto\"\n")
            .file("crates/proto/src/lib.rs", "//! Root.\n")
    }

    fn file(self, path: &str, text: &str) -> Self {
        let path = self.dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    /// A file of `proto` with its `//!` line.
    fn module(self, path: &str, text: &str) -> Self {
        self.file(&format!("crates/proto/src/{path}"), &format!("//! Doc.\n{text}"))
    }

    fn check(&self) -> Vec<Finding> {
        tidy::check(self.dir.path()).unwrap()
    }

    #[track_caller]
    fn passes(&self) {
        assert_eq!(self.check(), []);
    }

    /// One finding and no other: its rule, and `file:line` as the output has it.
    #[track_caller]
    fn fails(&self, rule: Rule, place: &str, part_of_message: &str) {
        let findings = self.check();
        let [finding] = findings.as_slice() else { panic!("one finding, not {findings:#?}") };
        assert_eq!(finding.rule, rule);
        assert!(finding.to_string().starts_with(&format!("{place}: {}: ", rule.as_str())), "{finding}");
        assert!(finding.message.contains(part_of_message), "{finding}");
    }
}

fn lines(count: usize) -> String {
    "// x\n".repeat(count)
}

fn function(name: &str, length: usize) -> String {
    format!("fn {name}() {{\n{}}}\n", lines(length - 2))
}

#[test]
fn this_checkout_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let findings = tidy::check(root).unwrap();
    let lines: Vec<String> = findings.iter().map(Finding::to_string).collect();
    assert!(lines.is_empty(), "\n{}", lines.join("\n"));
}

#[test]
fn the_command_prints_findings_and_ends_with_1() {
    let run = |checkout: &Checkout| {
        let root = checkout.dir.path();
        let output = Command::new(env!("CARGO_BIN_EXE_xtask")).args(["tidy", "--root"]).arg(root).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(run(&Checkout::new()), (Some(0), String::new()));
    let (code, stdout) = run(&Checkout::new().module("utils.rs", ""));
    assert_eq!(code, Some(1));
    assert!(stdout.starts_with("crates/proto/src/utils.rs:1: module-name: "), "{stdout}");
}

#[test]
fn the_architecture_shows_the_table_that_is_enforced() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let text = std::fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    for row in edges::TABLE.iter().filter(|row| root.join("crates").join(row.name).exists()) {
        let may = if row.may.is_empty() { "nothing of ours".to_owned() } else { row.may.join(", ") };
        let cells = format!("| {} | {may} |", row.name);
        assert!(row.name == "exedra" || text.contains(&cells), "ARCHITECTURE.md lacks {cells:?}");
    }
}

#[test]
fn a_crate_edge_that_the_table_lacks() {
    let link = |dependencies: &str| {
        Checkout::new()
            .file("crates/link/Cargo.toml", &format!("[package]\nname = \"exedra-link\"\n{dependencies}"))
            .file("crates/link/src/lib.rs", "//! Root.\n")
    };
    link("[dependencies]\nexedra-proto.workspace = true\ntokio = \"1\"\n").passes();
    link("[dev-dependencies]\nexedra-testkit.workspace = true\n").passes();
    let place = "crates/link/Cargo.toml:4";
    link("[dependencies]\nexedra-host.workspace = true\n").fails(Rule::CrateEdge, place, "may not depend on `host`");
    link("[dependencies]\nexedra-testkit.workspace = true\n").fails(Rule::CrateEdge, place, "`testkit`");
    link("[dependencies.exedra-host]\nworkspace = true\n").fails(Rule::CrateEdge, "crates/link/Cargo.toml:3", "`host`");
    link("[target.'cfg(unix)'.dependencies]\nh = { package = \"exedra-host\", path = \"../host\" }\n").fails(
        Rule::CrateEdge,
        place,
        "`host`",
    );
}

#[test]
fn a_crate_edge_under_another_name_of_the_workspace() {
    let manifest = "[package]\nname = \"exedra-proto\"\n[dependencies]\nwire.workspace = true\n";
    Checkout::new().file("crates/proto/Cargo.toml", manifest).fails(
        Rule::CrateEdge,
        "crates/proto/Cargo.toml:4",
        "may not depend on `link`",
    );
}

#[test]
fn a_crate_that_knows_what_it_must_not() {
    let manifest = "[package]\nname = \"exedra-proto\"\n[dependencies]\ntokio = \"1\"\n";
    Checkout::new().file("crates/proto/Cargo.toml", manifest).fails(
        Rule::CrateEdge,
        "crates/proto/Cargo.toml:4",
        "must not know what `tokio` brings",
    );
}

#[test]
fn a_crate_that_the_table_does_not_know() {
    Checkout::new()
        .file("crates/drawer/Cargo.toml", "[package]\nname = \"exedra-drawer\"\n")
        .file("crates/drawer/src/lib.rs", "//! Root.\n")
        .fails(Rule::CrateEdge, "crates/drawer/Cargo.toml:1", "no crate `drawer`");
}

#[test]
fn the_developers_crates_are_free() {
    Checkout::new()
        .file("crates/testkit/Cargo.toml", "[package]\nname = \"exedra-testkit\"\n[dependencies]\nexedra = \"1\"\n")
        .file("crates/testkit/src/lib.rs", "//! Root.\n")
        .passes();
}

/// Modules `a`, with a folder, and `b`; `b` uses `a`.
fn two_modules() -> Checkout {
    Checkout::new()
        .module("lib.rs", "mod a;\nmod b;\n")
        .module("a.rs", "mod inner;\n")
        .module("a/inner.rs", "")
        .module("b.rs", "use crate::a::X;\n")
}

#[test]
fn modules_that_use_each_other_one_way() {
    two_modules().passes();
    two_modules().module("a/inner.rs", "use super::Y;\nuse crate::a::Z;\nuse std::fmt;\n").passes();
    two_modules().module("a.rs", "mod inner;\nmod b {\n//! Another b.\n}\nuse self::b::X;\n").passes();
    two_modules().module("a.rs", "#[cfg(test)]\nmod tests {\n    use crate::b::X;\n}\n").passes();
    two_modules().module("a.rs", "#[cfg(all(test, unix))]\nuse crate::b::X;\n").passes();
    two_modules().module("a.rs", "impl T {\n#[cfg(test)]\nfn t() { crate::b::x(); }\n}\n").passes();
    two_modules()
        .module("a.rs", "mod inner;\n#[cfg(test)]\nmod tests;\n")
        .module("a/tests.rs", "use crate::b::X;")
        .passes();
}

#[test]
fn a_circle_of_modules() {
    let rule = Rule::ModuleCycle;
    let circle = "a uses b (crates/proto/src/a.rs:3), b uses a (crates/proto/src/b.rs:2)";
    for way_back in [
        "use crate::b::X;",
        "use crate::{b::X};",
        "use super::b;",
        "fn f() { crate::b::x(); }",
        "fn f(x: crate::b::X) {}",
        "fn f() { vec![1, crate::b::X]; }",
        "#[serde(with = \"crate::b::x\")] struct S;",
        "#[cfg(any(test, unix))] use crate::b::X;",
        "#[cfg(not(test))] use crate::b::X;",
        "impl T { fn f() { super::b::x(); } }",
    ] {
        two_modules().module("a.rs", &format!("mod inner;\n{way_back}\n")).fails(
            rule,
            "crates/proto/src/a.rs:3",
            circle,
        );
    }
    two_modules().module("a/inner.rs", "use super::super::b::X;\n").fails(rule, "crates/proto/src/a/inner.rs:2", "b");
    two_modules().module("a.rs", "mod deep {\n//! Doc.\nuse super::super::b;\n}").fails(
        rule,
        "crates/proto/src/a.rs:4",
        "",
    );
}

#[test]
fn a_circle_by_way_of_the_root() {
    let by_name = |root: &str| two_modules().module("lib.rs", root).module("a.rs", "use crate::X;\n");
    let rule = Rule::ModuleCycle;
    by_name("mod a;\nmod b;\npub use a::X;\n").passes();
    by_name("mod a;\nmod b;\npub use b::X;\n").fails(rule, "crates/proto/src/a.rs:2", "a uses b");
    by_name("mod a;\nmod b;\npub use crate::b::{Y as X};\n").fails(rule, "crates/proto/src/a.rs:2", "a uses b");
    by_name("mod a;\nmod b;\nstruct X;\n").passes();
    by_name("mod a;\nmod b;\nstruct X(b::Y);\n").fails(rule, "crates/proto/src/a.rs:2", "the crate root");
    by_name("mod a;\nmod b;\nuse b::Y;\nstruct X;\n").fails(rule, "crates/proto/src/a.rs:2", "the crate root");
}

#[test]
fn an_exported_macro_belongs_to_its_module() {
    let exported = "use crate::a::X;\n#[macro_export]\nmacro_rules! say { () => {} }\n";
    two_modules().module("a.rs", "fn f() { crate::say!(); }\n").module("b.rs", exported).fails(
        Rule::ModuleCycle,
        "crates/proto/src/a.rs:2",
        "a uses b",
    );
}

#[test]
fn a_circle_of_three_is_told_once() {
    let modules = Checkout::new()
        .module("a.rs", "use crate::b;\n")
        .module("b.rs", "use crate::c;\n")
        .module("c.rs", "use crate::a;\n")
        .module("d.rs", "use crate::a;\n");
    modules.fails(Rule::ModuleCycle, "crates/proto/src/a.rs:2", "c uses a");
}

#[test]
fn a_long_file() {
    Checkout::new().module("a.rs", &lines(499)).passes();
    Checkout::new().module("a.rs", &lines(500)).fails(Rule::FileSize, "crates/proto/src/a.rs:1", "501 lines");
    let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", lines(900));
    Checkout::new().module("a.rs", &tests).passes();
    Checkout::new().module("a.rs", &format!("{}{tests}", lines(500))).fails(
        Rule::FileSize,
        "crates/proto/src/a.rs:1",
        "501 lines",
    );
    Checkout::new().file("crates/proto/tests/long.rs", &lines(900)).passes();
    Checkout::new().file("crates/proto/examples/long.rs", &format!("//! Doc.\n{}", lines(500))).fails(
        Rule::FileSize,
        "crates/proto/examples/long.rs:1",
        "501 lines",
    );
}

#[test]
fn a_long_function() {
    Checkout::new().module("a.rs", &function("long", 100)).passes();
    let place = "crates/proto/src/a.rs:3";
    let long = format!("/// Doc.\n{}", function("long", 101));
    Checkout::new().module("a.rs", &long).fails(Rule::FunctionSize, place, "`long` has 101 lines");
    Checkout::new().module("a.rs", &format!("#[test]\n{}", function("long", 300))).passes();
    Checkout::new().module("a.rs", &format!("#[tokio::test]\n{}", function("long", 300))).passes();
    let method = format!("impl Thing {{\n{}}}\n", function("long", 101));
    Checkout::new().module("a.rs", &method).fails(Rule::FunctionSize, place, "`Thing::long`");
    let provided = format!("trait Thing {{\n{}}}\n", function("long", 101));
    Checkout::new().module("a.rs", &provided).fails(Rule::FunctionSize, place, "`Thing::long`");
}

#[test]
fn an_exception_holds_up_to_its_lines() {
    let exception = |function: &str, lines: usize, reason: &str| {
        format!("[[exception]]\nfile = \"crates/proto/src/a.rs\"\n{function}lines = {lines}\nreason = \"{reason}\"\n")
    };
    let long_file = || Checkout::new().module("a.rs", &lines(600));
    long_file().file("tidy.toml", &exception("", 601, "one table")).passes();
    long_file().file("tidy.toml", &exception("", 600, "one table")).fails(
        Rule::FileSize,
        "crates/proto/src/a.rs:1",
        "at most 600",
    );
    let long_function = || Checkout::new().module("a.rs", &format!("impl T {{\n{}}}\n", function("f", 120)));
    let named = "function = \"T::f\"\n";
    long_function().file("tidy.toml", &exception(named, 120, "one match")).passes();
    long_function().file("tidy.toml", &exception(named, 120, " ")).fails(Rule::Ledger, "tidy.toml:1", "needs a reason");
}

#[test]
fn an_exception_that_nothing_needs() {
    let stale = "# Why.\n[[exception]]\nfile = \"crates/proto/src/a.rs\"\nlines = 600\nreason = \"it was long\"\n";
    let place = "tidy.toml:2";
    Checkout::new().module("a.rs", &lines(10)).file("tidy.toml", stale).fails(Rule::Ledger, place, "no exception");
    Checkout::new().file("tidy.toml", stale).fails(Rule::Ledger, place, "no exception");
    let misspelt = "[[exception]]\nfil = \"crates/proto/src/a.rs\"\nlines = 600\nreason = \"r\"\n";
    Checkout::new().file("tidy.toml", misspelt).fails(Rule::Syntax, "tidy.toml:2", "unknown field");
}

#[test]
fn a_module_without_a_doc() {
    let place = "crates/proto/src/a.rs:1";
    Checkout::new().file("crates/proto/src/a.rs", "struct S;\n").fails(Rule::ModuleDoc, place, "begins with");
    Checkout::new().file("crates/proto/src/a.rs", "//!\nstruct S;\n").fails(Rule::ModuleDoc, place, "begins with");
    Checkout::new().file("crates/proto/src/a.rs", "/// Doc of S.\nstruct S;\n").fails(Rule::ModuleDoc, place, "begins");
    Checkout::new().module("a.rs", "mod inline {}\n").fails(Rule::ModuleDoc, "crates/proto/src/a.rs:2", "`inline`");
    Checkout::new().module("a.rs", "/// Doc.\nmod inline {}\n#[cfg(test)]\nmod tests {}\n").passes();
    Checkout::new().module("a.rs", "#[cfg(test)]\nmod tests;\n").file("crates/proto/src/a/tests.rs", "").passes();
}

#[test]
fn a_module_that_is_a_drawer() {
    for name in ["utils", "util", "common", "helpers", "helper", "misc"] {
        let place = format!("crates/proto/src/{name}.rs:1");
        Checkout::new().module(&format!("{name}.rs"), "").fails(Rule::ModuleName, &place, name);
    }
    Checkout::new().module("misc/a.rs", "").fails(Rule::ModuleName, "crates/proto/src/misc/a.rs:1", "misc");
    Checkout::new().file("crates/proto/tests/common.rs", "").fails(
        Rule::ModuleName,
        "crates/proto/tests/common.rs:1",
        "common",
    );
    Checkout::new().module("a.rs", "/// Doc.\nmod helpers {}\n").fails(
        Rule::ModuleName,
        "crates/proto/src/a.rs:3",
        "helpers",
    );
    Checkout::new().module("utility.rs", "").passes();
}

#[test]
fn a_module_file_inside_its_folder() {
    Checkout::new().module("a/mod.rs", "").fails(Rule::ModuleName, "crates/proto/src/a/mod.rs:1", "foo.rs");
    Checkout::new().module("a.rs", "mod b;").module("a/b.rs", "").passes();
}

#[test]
fn what_is_no_rust() {
    Checkout::new().module("a.rs", "fn f( {\n").fails(Rule::Syntax, "crates/proto/src/a.rs:2", "");
}
