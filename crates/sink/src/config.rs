//! Flags of the sink service.

use std::path::PathBuf;

use kafka::{KafkaConfig, Rebalancing};

use crate::writers::postgres::connection::DatabaseConfig;

/// A destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum WriterKind {
    /// A PostgreSQL database.
    Postgres,
    /// A file; several sinks of one machine may share it.
    Sqlite,
    /// Standard output, one JSON object a line; at least once.
    Stdout,
}

impl WriterKind {
    /// The destination's name: a label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Sqlite => "sqlite",
            Self::Stdout => "stdout",
        }
    }
}

/// What the sink service can be told.
#[derive(clap::Args, Clone, Debug)]
pub struct Config {
    /// The cluster and its topics.
    #[command(flatten)]
    pub kafka: KafkaConfig,
    /// The consumer group.
    #[arg(long, env = "WIKI_GROUP", value_name = "GROUP", default_value = "wiki-sink")]
    pub group: String,
    /// How partitions move when replicas come and go.
    #[arg(long, env = "WIKI_REBALANCE", value_enum, default_value = "cooperative")]
    pub rebalance: Rebalancing,
    /// Types of changes that are edits, where a hole is repaired from the raw topic; the same as of ingest.
    #[arg(long, env = "WIKI_EVENT_TYPES", value_name = "TYPE,…", value_delimiter = ',', default_value = "edit")]
    pub event_types: Vec<String>,
    /// Where edits are stored.
    #[arg(long, env = "WIKI_WRITER", value_enum, default_value = "postgres")]
    pub writer: WriterKind,
    /// The PostgreSQL database.
    #[command(flatten)]
    pub database: DatabaseConfig,
    /// The SQLite file.
    #[arg(long, env = "WIKI_SQLITE_FILE", value_name = "FILE", default_value = "edits.db")]
    pub sqlite_file: PathBuf,
    /// Name of this sink in the progress table and in metrics; by default its name under compose, else the host's.
    #[arg(long, env = "WIKI_SINK_NAME", value_name = "NAME", default_value_t = service::replica::name(), hide_default_value = true)]
    pub sink_name: String,
    /// Rows of one write at most.
    #[arg(long, env = "WIKI_BATCH_ROWS", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub batch_rows: u32,
    /// Longest wait of a row for its write, in milliseconds.
    #[arg(long, env = "WIKI_BATCH_MS", value_name = "MS", default_value_t = 100)]
    pub batch_ms: u64,
    /// End where Kafka does not answer at the start, instead of waiting for it.
    #[arg(long, env = "WIKI_REQUIRE_HEALTHY")]
    pub require_healthy: bool,
}

#[cfg(test)]
pub(crate) mod tests {
    use clap::Parser as _;

    use super::Config;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        config: Config,
    }

    /// The settings of a sink to which nothing was said.
    pub(crate) fn defaults() -> Config {
        Line::parse_from(["sink", "--kafka-bootstrap-servers", "127.0.0.1:1"]).config
    }
}
