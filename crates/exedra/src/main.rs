//! Exedra's one binary: parses, wires and prints; the work is done by the other crates.

use std::process::ExitCode;

mod cli;
mod commands;
mod config;
mod env;
mod exit;
mod hint;
mod log;
mod output;
mod owner;
mod plane;
mod relay;
mod runtime;
mod settings;
mod signals;
mod stdio;
mod systemd;
mod terminal;

fn main() -> ExitCode {
    if let Some(code) = exedra_host::launcher::take_over() {
        return code;
    }
    let done = match cli::parse() {
        Ok(cli) => {
            if matches!(cli.command, cli::Command::Serve(_)) {
                runtime::take_descriptors();
                exedra_host::rest::share_heap();
            }
            settings::trust(cli.ca_file).and_then(|()| commands::run(cli.command))
        }
        Err(exit) => return exit.into(),
    };
    match done {
        Ok(exit) => exit.into(),
        Err(failure) => {
            output::failure(&failure);
            failure.exit.into()
        }
    }
}
