//! What is wrong with a set-up, in one line each, with what to do.
//!
//! | module | looks at |
//! | --- | --- |
//! | [`machine`] | disk, ports |
//! | [`stream`] | the source: name, connection, answer, clock |
//! | [`cluster`] | the brokers: names, connections, settings, topics, rights |

mod cluster;
mod machine;
mod stream;

use std::path::PathBuf;
use std::process::ExitCode;

use kafka::KafkaConfig;
use serde_json::{Value, json};
use service::Failure;
use sink::writers::postgres::connection::{DatabaseConfig, POOLED, Target, is_pooled, sentence};

use crate::out::line;

/// Options of `wiki doctor`.
#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    kafka: KafkaConfig,
    /// The sinks' consumer group.
    #[arg(long, env = "WIKI_GROUP", value_name = "GROUP", default_value = "wiki-sink")]
    group: String,
    /// The stream that ingest reads.
    #[arg(
        long,
        env = "WIKI_STREAM_URL",
        hide_env_values = true,
        value_name = "URL",
        default_value = "https://stream.wikimedia.org/v2/stream/recentchange"
    )]
    stream_url: String,
    /// Leave the stream out: a simulator or a recording stands in its place, or only Kafka is wanted.
    #[arg(long)]
    without_stream: bool,
    /// The PostgreSQL database, where sinks store into one.
    #[command(flatten)]
    database: DatabaseConfig,
    /// Folder that has to hold data.
    #[arg(long, value_name = "DIR", default_value = ".")]
    data: PathBuf,
    /// Mebibytes that should be free there.
    #[arg(long, value_name = "MIB", default_value_t = 1_024)]
    free_mib: u64,
    /// An address that has to be free, such as the page's 127.0.0.1:8080; repeatable.
    #[arg(long = "port", value_name = "ADDRESS")]
    ports: Vec<std::net::SocketAddr>,
    /// JSON.
    #[arg(long)]
    json: bool,
}

/// What one look found.
#[derive(Debug)]
pub(crate) struct Finding {
    /// What was looked at.
    what: &'static str,
    /// What is there, or what is wrong and what to do.
    found: Result<String, String>,
}

impl Finding {
    fn ok(what: &'static str, detail: impl Into<String>) -> Self {
        Self { what, found: Ok(detail.into()) }
    }

    fn bad(what: &'static str, sentence: impl Into<String>) -> Self {
        Self { what, found: Err(sentence.into()) }
    }
}

/// Runs `wiki doctor`; the exit code is 1 where something is wrong.
pub(crate) fn main(options: &Options) -> Result<ExitCode, Failure> {
    let mut findings = vec![machine::disk(&options.data, options.free_mib)];
    findings.extend(options.ports.iter().map(|address| machine::port(*address)));
    if !options.without_stream {
        findings.extend(service::block_on(async { Ok(stream::look(&options.stream_url).await) })?);
    }
    findings.extend(cluster::look(&options.kafka, &options.group));
    findings.extend(options.kafka.weaknesses().into_iter().map(|weakness| Finding::bad("settings", weakness)));
    findings.extend(database(&options.database));
    if options.json {
        let one = |finding: &Finding| {
            let (is_ok, said) = match &finding.found {
                Ok(detail) => (true, detail),
                Err(sentence) => (false, sentence),
            };
            json!({ "what": finding.what, "ok": is_ok, "said": said })
        };
        line(Value::Array(findings.iter().map(one).collect()));
    } else {
        for Finding { what, found } in &findings {
            match found {
                Ok(detail) => line(format!("ok     {what:<9} {detail}")),
                Err(sentence) => line(format!("WRONG  {what:<9} {sentence}")),
            }
        }
    }
    let is_well = findings.iter().all(|finding| finding.found.is_ok());
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// The database, where one is named.
fn database(config: &DatabaseConfig) -> Option<Finding> {
    const WHAT: &str = "database";
    if config.database_url.is_none() && config.database_url_file.is_none() {
        return None;
    }
    let target = match config.target() {
        Ok(target) => target,
        Err(failure) => return Some(Finding::bad(WHAT, failure.to_string())),
    };
    Some(match prepare_on_two(&target) {
        Ok(()) => match target.weakness() {
            Some(weakness) => Finding::bad(WHAT, weakness),
            None => Finding::ok(WHAT, target.name()),
        },
        Err(error) if is_pooled(&error) => Finding::bad(WHAT, POOLED),
        Err(error) => Finding::bad(
            WHAT,
            format!(
                "{} cannot be reached: {}; start it, or correct WIKI_DATABASE_URL",
                target.name(),
                sentence(&error)
            ),
        ),
    })
}

/// Prepares a statement of one name on two connections. Behind a pooler that gives each transaction another connection they
/// meet on one.
fn prepare_on_two(target: &Target) -> Result<(), postgres::Error> {
    let mut clients = [target.connect()?, target.connect()?];
    let prepared = clients.iter_mut().try_for_each(|client| client.batch_execute("PREPARE wiki_doctor AS SELECT 1"));
    for client in &mut clients {
        // It may be on neither.
        let _ = client.batch_execute("DEALLOCATE wiki_doctor");
    }
    prepared
}
