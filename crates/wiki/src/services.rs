//! The services that this binary holds: run as they are, or asked how they are configured.

use std::ffi::OsString;
use std::process::ExitCode;

use service::Failure;
use service::config::{Setting, help, settings};

use crate::out::line;

/// A service, and its own options.
#[derive(clap::Subcommand, Debug)]
pub(crate) enum Named {
    /// Reads the stream and publishes every change once.
    #[command(disable_help_flag = true)]
    Ingest(Options),
    /// Maps raw changes to edits, and sets aside what cannot be read.
    #[command(disable_help_flag = true)]
    Enricher(Options),
    /// Stores edits, sharing the partitions with the other sinks of its group.
    #[command(disable_help_flag = true)]
    Sink(Options),
    /// Serves the page that shows who owns which partition.
    #[command(disable_help_flag = true)]
    Console(Options),
    /// Stands in the stream's place: made-up events, with faults on demand.
    #[command(disable_help_flag = true)]
    Simulator(Options),
}

/// What is handed on to the service.
#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    /// Its own options; --help lists them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTION")]
    options: Vec<OsString>,
}

impl Named {
    /// Its name, its default address, and its command line.
    fn split(&self) -> (&'static str, &'static str, Vec<OsString>) {
        let (name, http, Options { options }) = match self {
            Self::Ingest(options) => ("ingest", "127.0.0.1:8081", options),
            Self::Enricher(options) => ("enricher", "127.0.0.1:8082", options),
            Self::Sink(options) => ("sink", "127.0.0.1:8083", options),
            Self::Console(options) => ("console", "127.0.0.1:8080", options),
            Self::Simulator(options) => ("simulator", "127.0.0.1:8090", options),
        };
        (name, http, std::iter::once(OsString::from(name)).chain(options.iter().cloned()).collect())
    }

    /// Runs it.
    pub(crate) fn run(&self) -> ExitCode {
        let (name, http, arguments) = self.split();
        match self {
            Self::Ingest(_) => service::main_from(arguments, name, http, ingest::run),
            Self::Enricher(_) => service::main_from(arguments, name, http, enricher::run),
            Self::Sink(_) => service::main_from(arguments, name, http, sink::run),
            Self::Console(_) => service::main_with_own_server(arguments, name, http, console::run),
            Self::Simulator(_) => service::main_with_own_server(arguments, name, http, simulator::run),
        }
    }

    /// Its name, and what it prints for `--help`.
    fn help(&self) -> (&'static str, String) {
        let (name, http, _) = self.split();
        let text = match self {
            Self::Ingest(_) => help::<ingest::Config>(name, http),
            Self::Enricher(_) => help::<enricher::Config>(name, http),
            Self::Sink(_) => help::<sink::Config>(name, http),
            Self::Console(_) => help::<console::Config>(name, http),
            Self::Simulator(_) => help::<simulator::Config>(name, http),
        };
        (name, text)
    }

    /// Checks its configuration, and prints it where that is wanted.
    pub(crate) fn config(&self, show: bool, json: bool) -> Result<(), Failure> {
        let (name, http, arguments) = self.split();
        let settings = match self {
            Self::Ingest(_) => settings::<ingest::Config>(name, http, arguments),
            Self::Enricher(_) => settings::<enricher::Config>(name, http, arguments),
            Self::Sink(_) => settings::<sink::Config>(name, http, arguments),
            Self::Console(_) => settings::<console::Config>(name, http, arguments),
            Self::Simulator(_) => settings::<simulator::Config>(name, http, arguments),
        }?;
        if json {
            line(serde_json::json!(settings));
            return Ok(());
        }
        if !show {
            line(format!("{name}: these settings are accepted; --show prints them"));
            return Ok(());
        }
        for Setting { flag, variable, value, origin } in settings {
            let variable = if variable.is_empty() { variable } else { format!("  {variable}") };
            line(format!("{flag:<28} {origin:<12} {value}{variable}"));
        }
        Ok(())
    }
}

/// What each service prints for `--help`, by its name.
pub(crate) fn helps() -> [(&'static str, String); 5] {
    let none = || Options { options: Vec::new() };
    let all = [
        Named::Ingest(none()),
        Named::Enricher(none()),
        Named::Sink(none()),
        Named::Console(none()),
        Named::Simulator(none()),
    ];
    all.map(|service| service.help())
}
