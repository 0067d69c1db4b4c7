//! The commands, one module each: flags in, how the process ends out.

mod exec;
mod exec_server;

use crate::cli::Command;
use crate::exit::{Exit, Failure};

/// Runs a command to its end.
///
/// # Errors
/// What is printed before the process ends.
pub fn run(command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Exec(args) => exec::run(args),
        Command::ExecServer(args) => exec_server::run(args),
        _ => Ok(Exit::Failed),
    }
}
