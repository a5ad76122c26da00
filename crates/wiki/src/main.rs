//! The operator's command.

mod audit;
mod cli;
mod demo;
mod reference;
mod tail;
mod top;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
