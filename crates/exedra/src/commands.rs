//! The commands, one module each: flags in, how the process ends out.

mod audit;
mod backup;
mod doctor;
mod exec;
mod exec_server;
mod policy;
mod serve;
mod token;
mod up;

use crate::cli::Command;
use crate::exit::{Exit, Failure};

/// Runs a command to its end.
///
/// # Errors
/// What is printed before the process ends.
pub fn run(command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Audit(command) => audit::run(command),
        Command::Backup(args) => backup::save(args),
        Command::Restore(args) => backup::put(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Exec(args) => exec::run(args),
        Command::ExecServer(args) => exec_server::run(*args),
        Command::Policy(command) => policy::run(command),
        Command::Serve(args) => serve::run(args),
        Command::Token(command) => token::run(command),
        Command::ForgetKey(args) => token::forget_key(args),
        Command::Up(args) => up::run(args),
    }
}
