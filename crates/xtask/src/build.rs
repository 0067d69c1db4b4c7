//! The product's own binary, built by the cargo that runs this.
//!
//! In flows a profile, out flows the path of `exedra`. For figures this crate itself is needed optimised, too.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// Which profile to build with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// That of the tests, and of what they have built already.
    Dev,
    /// That of a release.
    Release,
}

/// Builds `exedra` in the checkout at `root`; what cargo has to say goes to stderr.
///
/// # Errors
/// It does not build.
pub fn exedra(root: &Path, profile: Profile) -> Result<PathBuf> {
    // The features of a dependency depend on who else is built.
    let scope = match profile {
        Profile::Dev => ["--workspace", "--profile=dev"],
        Profile::Release => ["--package=exedra", "--release"],
    };
    program(root, &["--bin", "exedra"], scope)
}

/// Builds the test kit's registry and rendezvous for streams.
///
/// # Errors
/// It does not build.
pub fn streams(root: &Path) -> Result<PathBuf> {
    program(root, &["--example", "streams"], ["--workspace", "--profile=dev"])
}

fn program(root: &Path, which: &[&str], scope: [&str; 2]) -> Result<PathBuf> {
    let mut cargo = cargo(root);
    cargo.arg("build").args(which).args(scope).arg("--message-format=json-render-diagnostics");
    let output = cargo.stderr(Stdio::inherit()).output().context("cannot run cargo")?;
    ensure!(output.status.success(), "{which:?} does not build");
    let messages = output.stdout.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
    let program =
        messages.filter_map(|message: Value| Some(message.get("executable")?.as_str()?.to_owned())).next_back();
    program.map(PathBuf::from).context("cargo built no executable")
}

/// Runs an optimised build of this crate with `args`; tells whether it ended well.
///
/// # Errors
/// Cargo cannot be run.
pub fn xtask_optimised(root: &Path, args: impl IntoIterator<Item = OsString>) -> Result<bool> {
    let mut cargo = cargo(root);
    // Where we are stays where we are: arguments may be relative paths.
    cargo
        .current_dir(".")
        .args(["run", "--quiet", "--profile=figures", "--manifest-path"])
        .arg(root.join("Cargo.toml"));
    cargo.args(["--package", "xtask", "--"]).args(args);
    Ok(cargo.status().context("cannot run cargo")?.success())
}

/// The cargo that runs this, in the checkout at `root`.
pub fn cargo(root: &Path) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root);
    cargo
}
