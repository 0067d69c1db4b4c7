//! The commands, one module each: flags in, how the process ends out.

mod audit;
mod backup;
mod doctor;
mod exec;
mod exec_server;
mod fleet;
mod keys;
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
        Command::AccessLog(args) => fleet::access_log(args),
        Command::Audit(command) => audit::run(command),
        Command::Backup(args) => backup::save(args),
        Command::Restore(args) => backup::put(args),
        Command::Drain(args) => fleet::drain(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Events(args) => fleet::events(args),
        Command::Exec(args) => exec::run(args),
        Command::Forget(args) => fleet::forget(args),
        Command::ExecServer(args) => exec_server::run(*args),
        Command::Keys(command) => keys::run(command),
        Command::Ls(args) => fleet::ls(args),
        Command::Policy(command) => policy::run(command),
        Command::Show(args) => fleet::show(args),
        Command::Serve(args) => serve::run(args),
        Command::Token(command) => token::run(command),
        Command::ForgetKey(args) => token::forget_key(args),
        Command::Up(args) => up::run(args),
    }
}
