//! `wiki top`: the console's snapshot in the terminal, once a second.

mod screen;
mod tables;

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use console::live::Snapshot;
use service::Failure;

use tables::{Choice, Tab};

/// How long the console may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// How `--once` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// A table.
    Text,
    /// The console's snapshot as it is.
    Json,
}

/// Options of `wiki top`.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Options {
    /// Address of the console.
    #[arg(long, env = "WIKI_CONSOLE_URL", value_name = "URL", default_value = "http://127.0.0.1:8080")]
    console: String,
    /// Print once and end, instead of a screen that goes on.
    #[arg(long)]
    once: bool,
    /// How --once prints.
    #[arg(long, value_enum, default_value = "text", requires = "once")]
    format: Format,
    /// What is shown first.
    #[arg(long, value_enum, default_value = "ownership")]
    tab: Tab,
    /// Column to sort by, from 1; negative for the other way round.
    #[arg(long, value_name = "COLUMN", default_value_t = 1, allow_hyphen_values = true)]
    sort: i32,
    /// Only rows that hold this text.
    #[arg(long, value_name = "TEXT", default_value = "")]
    filter: String,
}

/// Shows what the console knows.
pub(crate) fn main(options: &Options) -> Result<(), Failure> {
    let choice = Choice { tab: options.tab, sort: options.sort, filter: options.filter.clone() };
    service::block_on(async {
        // The first answer has to come: a screen that is empty tells nobody what is wrong.
        let first = ask(&options.console).await?;
        if options.once {
            return print(options.format, &choice, &first);
        }
        if !std::io::stdout().is_terminal() {
            return Err(Failure::Usage(
                "standard output is no terminal: use --once, or --once --format json".to_owned(),
            ));
        }
        screen::run(&options.console, choice, first).await
    })
}

/// The console's snapshot, as text.
async fn ask(url: &str) -> Result<String, Failure> {
    let failed = |error: reqwest::Error| {
        Failure::Unavailable(format!(
            "no console answers at {url}: {error}; start it, or give its address with --console or WIKI_CONSOLE_URL"
        ))
    };
    // Another part of the process may have chosen the same provider already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = crate::out::client(url).timeout(ANSWER_LIMIT).build().map_err(failed)?;
    let answer = client.get(format!("{}/api/state", url.trim_end_matches('/'))).send().await.map_err(failed)?;
    let answer = answer.error_for_status().map_err(failed)?;
    answer.text().await.map_err(failed)
}

fn read(text: &str) -> Result<Snapshot, Failure> {
    serde_json::from_str(text)
        .map_err(|error| Failure::Runtime(format!("the console is of another version than this command: {error}")))
}

fn print(format: Format, choice: &Choice, text: &str) -> Result<(), Failure> {
    let printed = match format {
        Format::Json => format!("{text}\n"),
        Format::Text => tables::text(&tables::table(&read(text)?, choice)),
    };
    // Whoever reads may have seen enough.
    let _ = std::io::stdout().write_all(printed.as_bytes());
    Ok(())
}
