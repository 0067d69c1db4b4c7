//! Flags of `keys`.

use clap::{Args, Subcommand};

use super::fleet::ServerArgs;

/// Commands of `keys`. They need the token of an administrator of the whole server.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// List the keys that sign tickets, without their secrets
    List(KeysArgs),
    /// Have another key sign from now on; open tickets stay good
    ///
    /// That happens by itself every 7 days.
    Rotate(KeysArgs),
    /// Make all tickets of a key worthless, as when somebody may have read it
    ///
    /// What is open with them is closed within 2 s; executors and clients get other tickets by themselves and come back. If it
    /// is the key that signs, another one does at once.
    Revoke(KeysRevokeArgs),
}

/// Flags of `keys list` and `keys rotate`.
#[derive(Debug, Args)]
pub struct KeysArgs {
    /// Which server.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// Flags of `keys revoke`.
#[derive(Debug, Args)]
pub struct KeysRevokeArgs {
    /// The key's id, as `keys list` shows it
    pub id: String,
    /// Which server.
    #[command(flatten)]
    pub server: ServerArgs,
}
