//! The operator's command.

mod audit;
mod backfill;
mod cli;
mod consume;
mod demo;
mod dlq;
mod doctor;
mod gaps;
mod groups;
mod migrate;
mod out;
mod produce;
mod progress;
mod prune;
mod reference;
mod services;
mod top;
mod topics;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
