//! `exedra keys`: the keys with which a server signs tickets, through its interface `/v1`.
//!
//! In flow the flags, out flows the list of the keys as it is afterwards.

use exedra_client::connect::Verb;
use serde_json::Value;

use super::fleet::{ago, server, start, text};
use crate::cli::fleet::ServerArgs;
use crate::cli::keys::KeysCommand;
use crate::exit::{Exit, Failure};
use crate::{output, runtime};

/// Does what the command says.
///
/// # Errors
/// The server cannot be asked, does not let us, or knows no such key.
pub fn run(command: KeysCommand) -> Result<Exit, Failure> {
    start()?;
    match command {
        KeysCommand::List(args) => ask(&args.server, Verb::Get, &["keys"]),
        KeysCommand::Rotate(args) => ask(&args.server, Verb::Post, &["keys", "rotate"]),
        KeysCommand::Revoke(args) => ask(&args.server, Verb::Delete, &["keys", &args.id]),
    }
}

fn ask(args: &ServerArgs, verb: Verb, path: &[&str]) -> Result<Exit, Failure> {
    let server = server(args)?;
    runtime::light(async {
        let answer = server.ask(verb, path, &[]).await?;
        let keys = answer["keys"].as_array().map(Vec::as_slice).unwrap_or_default();
        if args.json {
            output::json(&keys)?;
            return Ok(Exit::Success);
        }
        let header = ["ID", "STATE", "MADE"].map(str::to_owned);
        output::table(std::iter::once(header).chain(keys.iter().map(row)))?;
        Ok(Exit::Success)
    })
}

fn row(key: &Value) -> [String; 3] {
    let state = if key["signs"] == true { "signs" } else { "for tickets from before" };
    [text(&key["id"]), state.to_owned(), key["created_at"].as_u64().map(ago).unwrap_or_default()]
}
