//! Flags by which an executor comes by a credential of its own.

use std::convert::Infallible;
use std::path::PathBuf;

use clap::Args;
use exedra_proto::secret::Secret;

/// A join token, one way or the other.
#[derive(Debug, Args)]
pub struct JoinArgs {
    /// Trade this join token for a credential of this executor's own, which is kept for the next starts
    ///
    /// Everybody on this machine can see it in the list of processes for as long as the executor runs: give tokens that are good
    /// once this way, and others with --join-file or in the variable EXEDRA_JOIN_TOKEN. Once the executor has its credential,
    /// in $XDG_STATE_HOME/exedra/credentials or ~/.local/state/exedra/credentials, the join token is not looked at any more.
    #[arg(long, value_name = "TOKEN", value_parser = secret, requires = "remote", conflicts_with_all = ["token_file", "join_file"])]
    pub join: Option<Secret>,
    /// The same, with the join token in this file, which may be gone once the executor has its credential
    #[arg(long, value_name = "FILE", requires = "remote", conflicts_with = "token_file")]
    pub join_file: Option<PathBuf>,
}

fn secret(text: &str) -> Result<Secret, Infallible> {
    Ok(Secret::new(text.trim()))
}
