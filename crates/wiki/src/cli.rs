//! Subcommands.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use service::Failure;

use crate::{audit, demo, reference, tail, top};

/// Wikipedia's edits, each exactly once, through Kafka into a table.
#[derive(Parser, Debug)]
#[command(name = "wiki", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run everything on this machine: embedded broker, ingest, enricher, sinks into SQLite.
    Demo(demo::Options),
    /// Print a topic's records.
    Tail(tail::Options),
    /// Compare what was served, published, enriched and stored; exit code 1 if anything is missing, double or extra.
    Audit(audit::Options),
    /// Show who owns which partition, how much flows and what is wrong, in the terminal.
    Top(top::Options),
    /// List every metric of every service, as Markdown.
    Metrics,
    /// Run one service in this binary: ingest, enricher, sink, console or simulator, with its own options.
    #[command(disable_help_flag = true)]
    Run {
        /// The service.
        service: String,
        /// Its options.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<OsString>,
    },
}

/// Parses the command line and runs what it asks for.
pub(crate) fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return service::config::exit("wiki", &error),
    };
    let result = match cli.command {
        Command::Demo(options) => demo::main(options),
        Command::Tail(options) => tail::main(&options).map(|()| ExitCode::SUCCESS),
        Command::Audit(options) => audit::main(&options),
        Command::Top(options) => top::main(&options).map(|()| ExitCode::SUCCESS),
        Command::Metrics => {
            print!("{}", reference::metrics());
            Ok(ExitCode::SUCCESS)
        }
        Command::Run { service, options } => run(&service, options),
    };
    result.unwrap_or_else(|failure| failure.report("wiki"))
}

fn run(name: &str, options: Vec<OsString>) -> Result<ExitCode, Failure> {
    let arguments = std::iter::once(OsString::from(name)).chain(options);
    match name {
        "ingest" => Ok(service::main_from(arguments, "ingest", "127.0.0.1:8081", ingest::run)),
        "enricher" => Ok(service::main_from(arguments, "enricher", "127.0.0.1:8082", enricher::run)),
        "sink" => Ok(service::main_from(arguments, "sink", "127.0.0.1:8083", sink::run)),
        "console" => Ok(service::main_with_own_server(arguments, "console", "127.0.0.1:8080", console::run)),
        "simulator" => Ok(service::main_with_own_server(arguments, "simulator", "127.0.0.1:8090", simulator::run)),
        _ => Err(Failure::Usage(format!("there is no service {name}: ingest, enricher, sink, console or simulator"))),
    }
}
