//! The program that enters sandboxes, as the tests use it.

use std::process::ExitCode;

fn main() -> ExitCode {
    exedra_host::launcher::take_over().unwrap_or(ExitCode::FAILURE)
}
