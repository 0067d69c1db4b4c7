//! Flags of the commands that look at a server's executors, or govern them.

use std::path::PathBuf;

use clap::Args;

/// Which server, and with what token.
#[derive(Debug, Args)]
pub struct ServerArgs {
    /// URL of the server [default: the variable EXEDRA_SERVER]
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    /// Read the token from this file, again before each request [default: the variable EXEDRA_TOKEN, then the file that
    /// EXEDRA_TOKEN_FILE names]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Send the token over plain http to a host that is not loopback
    #[arg(long)]
    pub insecure_http: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Flags of `ls`.
#[derive(Debug, Args)]
pub struct LsArgs {
    /// Those with this label alone, as in team=a; may be repeated
    #[arg(long, value_name = "K=V")]
    pub label: Vec<String>,
    /// Those in this state alone: online, held, away
    #[arg(long, value_name = "STATE")]
    pub state: Option<String>,
    /// Which server.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// Flags of `show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The executor's id
    pub executor: String,
    /// Which server.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// Flags of `drain`.
#[derive(Debug, Args)]
pub struct DrainArgs {
    /// The executor's id
    pub executor: String,
    /// Let clients in again
    #[arg(long)]
    pub undo: bool,
    /// Which server.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// Flags of `forget`.
#[derive(Debug, Args)]
pub struct ForgetArgs {
    /// The executor's id
    pub executor: String,
    /// Also one that is connected: it is cut off, and comes back by itself unless its token was revoked
    #[arg(long)]
    pub force: bool,
    /// Which server.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// Flags of `events`.
#[derive(Debug, Args)]
pub struct EventsArgs {
    /// Wait for more, and go on after a server that was away
    #[arg(long)]
    pub follow: bool,
    /// Events with ids above this one [default: all that are kept]
    #[arg(long, value_name = "ID", default_value_t = 0)]
    pub after: u64,
    /// Which server; with --json each event is one line.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// Flags of `access-log`.
#[derive(Debug, Args)]
pub struct AccessLogArgs {
    /// Lines with ids above this one
    #[arg(long, value_name = "ID", default_value_t = 0)]
    pub after: u64,
    /// Which server; with --json each line is one of JSON.
    #[command(flatten)]
    pub server: ServerArgs,
}
