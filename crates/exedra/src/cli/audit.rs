//! What concerns the audit on the command line: the flags of whoever writes one, and the command that reads it.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Flags of a command that writes an audit.
#[derive(Debug, Default, Args)]
pub struct AuditArgs {
    /// Write down who does what here, in this directory; without room to write nothing new is done
    #[arg(long = "audit", value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Keep the output of commands there too, with secrets masked
    #[arg(long = "audit-output", requires = "dir")]
    pub output: bool,
    /// Mask in the kept output what matches this regular expression too; may be repeated
    #[arg(long = "audit-mask", value_name = "REGEX", requires = "output")]
    pub mask: Vec<String>,
    /// The executor's own key, made if there is none [default: $XDG_STATE_HOME/exedra/identity or
    /// ~/.local/state/exedra/identity]
    #[arg(long, value_name = "FILE")]
    pub identity: Option<PathBuf>,
}

/// Commands of `audit`.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Check that a log is as it was written: exit code 0 if it is, 1 if not
    Verify(AuditVerifyArgs),
    /// Print the lines of a log
    Show(AuditShowArgs),
    /// Print the public key that signs the logs of this machine's executor
    Key(AuditKeyArgs),
}

/// Flags of `audit verify`.
#[derive(Debug, Args)]
pub struct AuditVerifyArgs {
    /// The directory of the log
    pub dir: PathBuf,
    /// A copy of the log's file `head` that was kept elsewhere: shows a tail that was cut off; may be repeated
    #[arg(long, value_name = "FILE")]
    pub head: Vec<PathBuf>,
    /// The public key that must have signed it, as `audit key` prints it
    #[arg(long, value_name = "HEX")]
    pub key: Option<String>,
    /// Print one line of JSON
    #[arg(long)]
    pub json: bool,
}

/// Flags of `audit show`. Filters narrow each other.
#[derive(Debug, Args)]
pub struct AuditShowArgs {
    /// The directory of the log
    pub dir: PathBuf,
    /// Only this session
    #[arg(long, value_name = "ID")]
    pub session: Option<String>,
    /// Only this process
    #[arg(long, value_name = "ID")]
    pub process: Option<String>,
    /// Only lines of this kind (start, exit, file, refused, session, …); may be repeated
    #[arg(long, value_name = "KIND")]
    pub kind: Vec<String>,
    /// Only what happened in the last so much time, as in 2h
    #[arg(long, value_name = "TIME", value_parser = super::duration::parse)]
    pub since: Option<std::time::Duration>,
    /// Print the lines as they stand in the log
    #[arg(long)]
    pub json: bool,
}

/// Flags of `audit key`.
#[derive(Debug, Args)]
pub struct AuditKeyArgs {
    /// The file of the key [default: as for exec-server]
    #[arg(long, value_name = "FILE")]
    pub identity: Option<PathBuf>,
}
