//! What concerns the owner's policy on the command line.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Commands of `policy`.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Check a policy, and explain what it makes of a command: exit code 0 if it would be started, 1 if not
    Check(PolicyCheckArgs),
}

/// Flags of `policy check`.
#[derive(Debug, Args)]
pub struct PolicyCheckArgs {
    /// The file of the policy
    pub file: PathBuf,
    /// The directory that the command would be started in
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub cwd: PathBuf,
    /// Print one line of JSON
    #[arg(long)]
    pub json: bool,
    /// The command and its arguments, found by this PATH
    #[arg(last = true, value_name = "CMD")]
    pub argv: Vec<String>,
}
