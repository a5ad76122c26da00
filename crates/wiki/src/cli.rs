//! Subcommands.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use service::Failure;

use crate::{
    audit, backfill, consume, demo, dlq, doctor, gaps, groups, migrate, out, produce, prune, reference, services, top,
    topics,
};

const AFTER_HELP: &str =
    "New to Kafka? `wiki broker` starts one, and docs/tutorial is a course. Something does not work? `wiki doctor`.";

/// Wikipedia's edits, each exactly once, through Kafka into a table.
#[derive(Parser, Debug)]
#[command(name = "wiki", version, arg_required_else_help = true, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run everything on this machine: embedded broker, ingest, enricher, sinks into SQLite.
    Demo(demo::Options),
    /// Write records to a topic.
    Produce(produce::Options),
    /// Print a topic's records.
    Consume(consume::Options),
    /// Print the edits as they come, for people.
    Tail(consume::TailOptions),
    /// Topics: list, create, describe, delete.
    #[command(subcommand)]
    Topics(topics::Action),
    /// Consumer groups: list, describe, move their offsets, delete.
    #[command(subcommand)]
    Groups(groups::Action),
    /// The gap ledger: what of the stream is missing.
    #[command(subcommand)]
    Gaps(gaps::Action),
    /// Rows that the sinks set aside: list, show, store after all.
    #[command(subcommand)]
    Dlq(dlq::Action),
    /// Make the tables in PostgreSQL or bring them up to date, as their owner: sinks then need no right to.
    Migrate(migrate::Arguments),
    /// Delete old edits from the table; `wiki audit` knows from where on it begins.
    Prune(prune::Arguments),
    /// Read a stretch of the stream again and publish what is missing of it; gaps close as far as that goes.
    Backfill(backfill::Arguments),
    /// Run the embedded development broker: one node, in memory, loopback only, not Apache Kafka.
    Broker(broker::command::Options),
    /// Compare what was made, published, enriched and stored; exit code 1 if anything is missing, double or extra. Without
    /// servers it is the demo that runs in this folder.
    Audit(audit::Options),
    /// Name what is wrong with a set-up, in one line each, with what to do.
    Doctor(doctor::Options),
    /// Show who owns which partition, how much flows and what is wrong, in the terminal.
    Top(top::Options),
    /// Check a service's configuration: flags, environment, defaults.
    Config {
        /// Print every option's value and where it comes from; secrets are masked.
        #[arg(long)]
        show: bool,
        /// The same as JSON.
        #[arg(long)]
        json: bool,
        #[command(subcommand)]
        service: services::Named,
    },
    /// List every metric of every service, as Markdown.
    Metrics,
    /// Write a page of Markdown for each command into a folder.
    Commands {
        /// The folder.
        folder: PathBuf,
    },
    /// Print a script that completes these commands in a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write a manual page for each command into a folder.
    Man {
        /// The folder.
        folder: PathBuf,
    },
    /// Run one service in this binary, with its own options.
    #[command(subcommand)]
    Run(services::Named),
}

/// Runs the embedded broker until a signal.
fn run_broker(options: broker::command::Options) -> Result<(), Failure> {
    let broker = options.start().map_err(Failure::Runtime)?;
    service::block_on(async {
        let shutdown = service::CancellationToken::new();
        service::shutdown::on_signals(&shutdown);
        shutdown.cancelled().await;
        Ok(())
    })?;
    broker.stop();
    Ok(())
}

/// Parses the command line and runs what it asks for.
pub(crate) fn main() -> ExitCode {
    let are_servers_set = std::env::var_os("WIKI_KAFKA_BOOTSTRAP_SERVERS").is_some_and(|servers| !servers.is_empty());
    let line = demo::running::completed(std::env::args_os().collect(), are_servers_set);
    let cli = match Cli::try_parse_from(line) {
        Ok(cli) => cli,
        Err(error) => return service::config::exit("wiki", &error),
    };
    let result = match cli.command {
        Command::Demo(options) => demo::main(options),
        Command::Produce(options) => produce::main(&options).map(|()| ExitCode::SUCCESS),
        Command::Consume(options) => consume::main(options).map(|()| ExitCode::SUCCESS),
        Command::Tail(options) => consume::tail(options).map(|()| ExitCode::SUCCESS),
        Command::Topics(action) => topics::main(&action).map(|()| ExitCode::SUCCESS),
        Command::Groups(action) => groups::main(&action).map(|()| ExitCode::SUCCESS),
        Command::Gaps(action) => gaps::main(&action).map(|()| ExitCode::SUCCESS),
        Command::Dlq(action) => dlq::main(&action).map(|()| ExitCode::SUCCESS),
        Command::Migrate(arguments) => migrate::main(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Prune(arguments) => prune::main(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Backfill(arguments) => backfill::main(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Broker(options) => run_broker(options).map(|()| ExitCode::SUCCESS),
        Command::Audit(options) => audit::main(&options),
        Command::Doctor(options) => doctor::main(&options),
        Command::Top(options) => top::main(&options).map(|()| ExitCode::SUCCESS),
        Command::Config { show, json, service } => service.config(show, json).map(|()| ExitCode::SUCCESS),
        Command::Metrics => {
            out::line(reference::metrics().trim_end());
            Ok(ExitCode::SUCCESS)
        }
        Command::Commands { folder } => commands(&folder).map(|()| ExitCode::SUCCESS),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "wiki", &mut script);
            out::line(String::from_utf8_lossy(&script).trim_end());
            Ok(ExitCode::SUCCESS)
        }
        Command::Man { folder } => man(&folder).map(|()| ExitCode::SUCCESS),
        Command::Run(service) => Ok(service.run()),
    };
    result.unwrap_or_else(|failure| failure.report("wiki"))
}

fn commands(folder: &Path) -> Result<(), Failure> {
    let pages = reference::commands(&Cli::command());
    std::fs::create_dir_all(folder)
        .and_then(|()| {
            pages.iter().try_for_each(|(name, page)| std::fs::write(folder.join(format!("{name}.md")), page))
        })
        .map_err(|error| unwritable(folder, &error))
}

fn man(folder: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), folder))
        .map_err(|error| unwritable(folder, &error))
}

fn unwritable(folder: &Path, error: &std::io::Error) -> Failure {
    Failure::Config(format!("{} cannot be written: {error}", folder.display()))
}
