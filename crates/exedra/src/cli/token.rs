//! Flags of `token`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use exedra_registry::token::{Rights, parse_lifetime};

use super::{duration, variable};

/// Commands of `token`. They work on the data directory, whether or not the server runs.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token and print it, alone, this one time
    Create(TokenCreateArgs),
    /// List all tokens, without their secret part
    List(TokenListArgs),
    /// Show one token, without its secret part
    Show(TokenShowArgs),
    /// Give a token another secret and print it; what was opened before is closed when the old one ends, and comes back with the new one
    Rotate(TokenRotateArgs),
    /// Make a token worthless from now on; what is open with it is closed within 2 s
    Revoke(TokenRevokeArgs),
    /// Let a workload in again whose token was revoked, see serve --workloads
    Readmit(TokenRevokeArgs),
    /// Print the AWS pair with which the holder of a token signs registrations: variables for a shell
    ///
    /// For a stock executor with --remote-transport direct --aws-sigv4. The pair is that of the token for as long as
    /// it lives, also when the token is rotated.
    Aws(TokenAwsArgs),
}

impl TokenCommand {
    /// Where the records are kept, if that is said.
    pub fn data_dir(&self) -> Option<&PathBuf> {
        match self {
            Self::Create(args) => args.data_dir.as_ref(),
            Self::List(args) => args.data_dir.as_ref(),
            Self::Show(args) => args.data_dir.as_ref(),
            Self::Rotate(args) => args.data_dir.as_ref(),
            Self::Revoke(args) | Self::Readmit(args) => args.data_dir.as_ref(),
            Self::Aws(args) => args.data_dir.as_ref(),
        }
    }
}

/// Flags of `token create`.
#[derive(Debug, Args)]
pub struct TokenCreateArgs {
    /// What its holder is
    #[arg(long, value_enum)]
    pub role: Role,
    /// Executor ids that it reaches: an id, or a pattern with `*`
    #[arg(long, value_name = "PATTERN", default_value = "*")]
    pub executor: String,
    /// A label that an executor gets with it, or must have to be reached with it, as in team=a; may be repeated
    #[arg(long, value_name = "K=V", value_parser = variable)]
    pub label: Vec<(String, String)>,
    /// Who a client is, which executors are told and their policies ask for, as in team=a; may be repeated [default: its
    /// labels]
    #[arg(long, value_name = "K=V", value_parser = variable)]
    pub client_label: Vec<(String, String)>,
    /// What it allows on executors: exec, files, http, pty, with commas between [default: all]
    ///
    /// pty is for terminals, on top of exec. A token with fewer than all is refused where the executor cannot hold clients to
    /// it: a stock one, or one of an older version.
    #[arg(long, value_name = "RIGHTS", value_parser = Rights::parse)]
    pub rights: Option<Rights>,
    /// How long it is good, as in 30d [default: until it is revoked; a join token 1h]
    #[arg(long, value_name = "TIME", value_parser = parse_lifetime)]
    pub expires: Option<Duration>,
    /// How often a join token can be traded [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub uses: Option<u32>,
    /// What it is for, for people
    #[arg(long, value_name = "TEXT")]
    pub name: Option<String>,
    /// Print one line of JSON: the token, and what is kept of it
    #[arg(long)]
    pub json: bool,
    /// Where the records are kept [default: as for serve]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

/// Flags of `token list`.
#[derive(Debug, Args)]
pub struct TokenListArgs {
    /// Print one JSON array
    #[arg(long)]
    pub json: bool,
    /// Where the records are kept [default: as for serve]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

/// Flags of `token show`.
#[derive(Debug, Args)]
pub struct TokenShowArgs {
    /// The token's id, as `token list` shows it
    pub id: String,
    /// Print one line of JSON
    #[arg(long)]
    pub json: bool,
    /// Where the records are kept [default: as for serve]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

/// Flags of `token aws`.
#[derive(Debug, Args)]
pub struct TokenAwsArgs {
    /// The token's id, as `token list` shows it
    pub id: String,
    /// Print one line of JSON
    #[arg(long)]
    pub json: bool,
    /// Where the records are kept [default: as for serve]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

/// Flags of `token rotate`.
#[derive(Debug, Args)]
pub struct TokenRotateArgs {
    /// The token's id, as `token list` shows it
    pub id: String,
    /// How long the old secret stays good; then what was opened until that moment is closed, and comes back with the new one
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration::parse)]
    pub grace: Duration,
    /// Print one line of JSON: the token, and what is kept of it
    #[arg(long)]
    pub json: bool,
    /// Where the records are kept [default: as for serve]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

/// Flags of `token revoke`.
#[derive(Debug, Args)]
pub struct TokenRevokeArgs {
    /// The token's id, as `token list` shows it
    pub id: String,
    /// Print what is kept of it as one line of JSON
    #[arg(long)]
    pub json: bool,
    /// Where the records are kept [default: as for serve]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

/// What the holder of a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// May register as an executor.
    Executor,
    /// May run commands on executors.
    Client,
    /// May do both, and what concerns the server itself.
    Admin,
    /// May be traded for the token of an executor: `exec-server --join`.
    Join,
}
