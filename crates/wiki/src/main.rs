//! The operator's command.

mod audit;
mod cli;
mod demo;
mod tail;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
