//! The seeded tests at their full count, in a release build.
//!
//! In flows a number of cases, out flows the exit status of `cargo test`. A test that is seeded reads how many cases
//! to run from the environment and takes a small number without; this sets it.

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::build::cargo;

/// How many cases each seeded test runs; a test's own default is small enough for every day.
pub const CASES: &str = "EXEDRA_CASES";
/// Set to `1`: tests that only make sense at length run too.
pub const SOAK: &str = "EXEDRA_SOAK";

/// Runs the tests of the workspace at `root` with `cases` each; tells whether they passed.
///
/// # Errors
/// Cargo cannot be run.
pub fn run(root: &Path, cases: u64) -> Result<bool> {
    let mut cargo = cargo(root);
    cargo.args(["test", "--release", "--workspace"]).env(SOAK, "1").env(CASES, cases.to_string());
    Ok(cargo.status().context("cannot run cargo")?.success())
}
