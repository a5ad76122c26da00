//! Flags = environment. A wrong value is one sentence and exit code 78, an unknown flag 2.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};

use crate::{Failure, replica, text};

/// How logs look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Pretty on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}

/// What every service can be told.
#[derive(Args, Clone, Debug)]
pub struct ServiceConfig {
    /// Address of the admin server: /livez, /readyz, /health, /metrics.
    #[arg(long, env = "WIKI_HTTP", value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub http: SocketAddr,
    /// Names that the servers answer to, besides addresses, localhost, and names inside a cluster.
    #[arg(long, env = "WIKI_ALLOWED_HOSTS", value_name = "HOST,…", value_delimiter = ',')]
    pub allowed_hosts: Vec<String>,
    /// How logs look on stderr.
    #[arg(long, env = "WIKI_LOG_FORMAT", value_enum, default_value = "auto")]
    pub log_format: LogFormat,
    /// Name of this replica in logs and metrics; by default its name under compose, else the host's.
    #[arg(long, env = "WIKI_REPLICA", value_name = "NAME")]
    pub replica: Option<String>,
    /// End when standard input does: for a parent that must not leave children behind.
    #[arg(long, hide = true)]
    pub end_with_stdin: bool,
}

impl ServiceConfig {
    /// The replica's name.
    #[must_use]
    pub fn replica(&self) -> String {
        self.replica.clone().unwrap_or_else(replica::name)
    }
}

/// What a command line asks for.
#[derive(Debug)]
pub(crate) enum Parsed<C> {
    Run(ServiceConfig, C),
    Healthcheck(SocketAddr),
    Exit(ExitCode),
}

/// Reads flags and the environment.
pub(crate) fn parse<C: Args>(
    name: &'static str,
    default_http: &'static str,
    arguments: impl IntoIterator<Item = OsString>,
) -> Parsed<C> {
    let command = command::<C>(name, default_http);
    let read = command.try_get_matches_from(arguments).and_then(|matches| {
        let service = ServiceConfig::from_arg_matches(&matches)?;
        if matches.subcommand_name() == Some("healthcheck") {
            return Ok(Parsed::Healthcheck(service.http));
        }
        let config = C::from_arg_matches(&matches)?;
        Ok(Parsed::Run(service, config))
    });
    read.unwrap_or_else(|error| Parsed::Exit(exit(name, &error)))
}

fn command<C: Args>(name: &'static str, default_http: &'static str) -> Command {
    let command = Command::new(name).version(env!("CARGO_PKG_VERSION")).subcommand(
        Command::new("healthcheck").about("Asks the running service whether it is healthy; exit code 0 if so"),
    );
    let command = C::augment_args(ServiceConfig::augment_args(command));
    command.mut_arg("http", |argument| argument.default_value(default_http))
}

/// What a service prints for `--help`.
#[must_use]
pub fn help<C: Args>(name: &'static str, default_http: &'static str) -> String {
    let asked = command::<C>(name, default_http).try_get_matches_from([name, "--help"]);
    asked.map_or_else(|help| help.to_string(), |_| String::new())
}

/// An option of a service as it stands.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Setting {
    /// The flag, such as `--batch-rows`.
    pub flag: String,
    /// Its environment variable; empty where it has none.
    pub variable: String,
    /// Its value; secrets are masked.
    pub value: String,
    /// Where that comes from: `flag`, `environment`, `default`, or `-` where there is none.
    pub origin: &'static str,
}

/// Every option of a service, as these arguments and the environment set them.
///
/// # Errors
/// A [`Failure`] in one sentence where one is refused.
pub fn settings<C: Args>(
    name: &'static str,
    default_http: &'static str,
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<Vec<Setting>, Failure> {
    let command = command::<C>(name, default_http);
    let options: Vec<Arg> = command.get_arguments().filter(|option| !option.is_hide_set()).cloned().collect();
    let matches = command.try_get_matches_from(arguments).map_err(|error| explain(&error))?;
    C::from_arg_matches(&matches).map_err(|error| explain(&error))?;
    Ok(options.iter().filter_map(|option| setting(option, &matches)).collect())
}

fn setting(option: &Arg, matches: &ArgMatches) -> Option<Setting> {
    let id = option.get_id().as_str();
    // Help and version have no value.
    let source = matches.try_contains_id(id).ok().map(|_| matches.value_source(id))?;
    let origin = match source {
        Some(ValueSource::CommandLine) => "flag",
        Some(ValueSource::EnvVariable) => "environment",
        Some(_) => "default",
        None => "-",
    };
    let raw = matches.get_raw(id).into_iter().flatten().map(|value| value.to_string_lossy().into_owned());
    let shown = raw.map(|value| if option.is_hide_env_values_set() { masked(&value) } else { value });
    let flag = match (option.get_long(), option.get_short()) {
        (Some(long), _) => format!("--{long}"),
        (None, short) => format!("-{}", short.unwrap_or_default()),
    };
    let variable = option.get_env().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Some(Setting { flag, variable, value: shown.collect::<Vec<_>>().join(","), origin })
}

/// Of `name=value` the name, of a web address what names the place, of anything else nothing: addresses hold passwords.
fn masked(value: &str) -> String {
    if value.starts_with("http://") || value.starts_with("https://") {
        return text::shown_url(value);
    }
    let name = value.split_once('=').map(|(name, _)| name);
    let is_name = |name: &&str| name.chars().all(|c| c.is_ascii_lowercase() || c == '.');
    name.filter(is_name).map_or_else(|| "***".to_owned(), |name| format!("{name}=***"))
}

/// Prints help or version and ends with 0, or an error as one sentence with its code.
#[must_use]
pub fn exit(name: &str, error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // Help that cannot be printed has no reader.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        return ExitCode::from(2);
    }
    explain(error).report(name)
}

/// The option that passes settings through to librdkafka, passwords among them.
const PASSED_THROUGH: &str = "-X";

/// A command line error as one sentence.
#[must_use]
pub fn explain(error: &clap::Error) -> Failure {
    let text = |kind: ContextKind| match error.get(kind) {
        Some(ContextValue::String(value)) if value.contains("://") => Some(text::shown_url(value)),
        Some(ContextValue::String(value)) => Some(value.clone()),
        Some(ContextValue::Strings(values)) => Some(values.join(", ")),
        _ => None,
    };
    let argument = text(ContextKind::InvalidArg).unwrap_or_default();
    let name = argument.split_whitespace().next().unwrap_or("an argument").to_owned();
    match error.kind() {
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            // The value of a setting may be a secret: only its name is told.
            let value = text(ContextKind::InvalidValue).unwrap_or_default();
            let is_secret = name == PASSED_THROUGH;
            let value = if is_secret { value.split_once('=').map_or("…", |(key, _)| key) } else { &value };
            let why = std::error::Error::source(error).map_or_else(String::new, |source| format!(": {source}"));
            let accepted =
                text(ContextKind::ValidValue).map_or_else(String::new, |values| format!("; it accepts: {values}"));
            let variable = variable_of(&name).map_or_else(String::new, |variable| format!(" (or {variable})"));
            Failure::Config(format!("{name}{variable} cannot be \"{value}\"{why}{accepted}"))
        }
        ErrorKind::UnknownArgument => {
            let near =
                text(ContextKind::SuggestedArg).map_or_else(String::new, |near| format!("; did you mean {near}?"));
            Failure::Usage(format!("there is no option {name}{near} (--help lists them)"))
        }
        ErrorKind::InvalidSubcommand => {
            let asked = text(ContextKind::InvalidSubcommand).unwrap_or_default();
            let near = text(ContextKind::SuggestedSubcommand)
                .map_or_else(String::new, |near| format!("; did you mean {near}?"));
            Failure::Usage(format!("there is no command {asked}{near} (--help lists those that there are)"))
        }
        ErrorKind::MissingRequiredArgument => Failure::Usage(format!("{argument} is missing (--help tells more)")),
        _ => {
            let rendered = error.to_string();
            let sentence = rendered.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
            Failure::Usage(format!("{sentence} (--help lists the options)"))
        }
    }
}

/// The environment variable of a flag, by the rule that all follow.
fn variable_of(flag: &str) -> Option<String> {
    if flag == PASSED_THROUGH {
        return Some("WIKI_KAFKA_X".to_owned());
    }
    let name = flag.strip_prefix("--")?;
    Some(format!("WIKI_{}", name.replace('-', "_").to_ascii_uppercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Args, Debug)]
    struct Nothing {}

    fn failure(arguments: &[&str]) -> Failure {
        explain(&command::<Nothing>("x", "127.0.0.1:1").try_get_matches_from(arguments).unwrap_err())
    }

    #[test]
    fn a_wrong_value_names_the_option_and_what_it_accepts() {
        let failure = failure(&["x", "--log-format", "xml"]);
        assert_eq!(failure.code(), 78);
        let sentence = failure.to_string();
        assert!(
            sentence.contains("--log-format (or WIKI_LOG_FORMAT)") && sentence.contains("auto, pretty, json"),
            "{sentence}"
        );
        assert_eq!(sentence.lines().count(), 1);
    }

    #[test]
    fn an_address_that_is_none_says_why() {
        let sentence = failure(&["x", "--http", "everywhere"]).to_string();
        assert!(sentence.contains("invalid socket address"), "{sentence}");
    }

    #[test]
    fn an_unknown_option_is_usage() {
        let failure = failure(&["x", "--htp", "1"]);
        assert_eq!(failure.code(), 2);
        assert!(failure.to_string().contains("--htp"), "{failure}");
    }
}
