//! What `backup` and `restore` are told on the command line.

use std::path::PathBuf;

use clap::Args;

/// Flags of `backup` and `restore`.
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// The directory of the backup: one that is not there yet for `backup`
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// Where the records are kept [default: as for serve]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Print one line of JSON
    #[arg(long)]
    pub json: bool,
}
