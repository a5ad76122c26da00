//! What every service needs to know of the cluster and its topics.

use schema::Topics;

use crate::settings::{self, SettingsFile};
use crate::weakness;

/// How the partitions of a consumer group move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Rebalancing {
    /// Classic protocol, incremental: what need not move goes on.
    #[default]
    Cooperative,
    /// Classic protocol: everybody stops, then everybody starts.
    Eager,
    /// KIP-848: the broker computes, members follow.
    Consumer,
}

impl Rebalancing {
    /// Every protocol, for tests and tables.
    pub const ALL: [Self; 3] = [Self::Cooperative, Self::Eager, Self::Consumer];

    /// The protocol as a label and as `WIKI_REBALANCE` has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cooperative => "cooperative",
            Self::Eager => "eager",
            Self::Consumer => "consumer",
        }
    }
}

/// The cluster and its topics.
#[derive(clap::Args, Clone, Debug)]
pub struct KafkaConfig {
    /// Bootstrap servers, host:port separated by commas.
    #[arg(long, env = "WIKI_KAFKA_BOOTSTRAP_SERVERS", value_name = "HOST:PORT,…", default_value = "127.0.0.1:9092")]
    pub kafka_bootstrap_servers: String,
    /// A librdkafka setting, passed through; repeatable. The environment takes several, separated by commas.
    #[arg(short = 'X', env = "WIKI_KAFKA_X", hide_env_values = true, value_name = "KEY=VALUE", value_delimiter = ',', value_parser = settings::parse)]
    pub kafka_x: Vec<(String, String)>,
    /// A file of librdkafka settings, KEY=VALUE a line: the place for passwords. -X wins over it.
    #[arg(long, env = "WIKI_KAFKA_X_FILE", value_name = "FILE", value_parser = settings::read_file)]
    pub kafka_x_file: Option<SettingsFile>,
    /// Put before the name of every topic, group and transactional id, so that several pipelines share a cluster.
    #[arg(long, env = "WIKI_TOPIC_PREFIX", value_name = "PREFIX", default_value = "")]
    pub topic_prefix: String,
    /// Topic of the events as received.
    #[arg(long, env = "WIKI_RAW_TOPIC", value_name = "TOPIC", default_value = "wikipedia-raw")]
    pub raw_topic: String,
    /// Topic of the enriched edits.
    #[arg(long, env = "WIKI_EVENTS_TOPIC", value_name = "TOPIC", default_value = "wikipedia-events")]
    pub events_topic: String,
}

impl KafkaConfig {
    /// The defaults, at these bootstrap servers.
    #[must_use]
    pub fn at(bootstrap_servers: &str) -> Self {
        Self {
            kafka_bootstrap_servers: bootstrap_servers.to_owned(),
            kafka_x: Vec::new(),
            kafka_x_file: None,
            topic_prefix: String::new(),
            raw_topic: "wikipedia-raw".to_owned(),
            events_topic: "wikipedia-events".to_owned(),
        }
    }

    /// What is weak in the settings that are passed through, a sentence each.
    #[must_use]
    pub fn weaknesses(&self) -> Vec<&'static str> {
        let from_file = self.kafka_x_file.iter().flat_map(|file| &file.0);
        let settings: Vec<_> =
            from_file.chain(&self.kafka_x).map(|(name, value)| (name.as_str(), value.as_str())).collect();
        weakness::of(&settings, &self.kafka_bootstrap_servers)
    }

    /// The names of the pipeline's topics.
    #[must_use]
    pub fn topics(&self) -> Topics {
        Topics::new(&self.topic_prefix, &self.raw_topic, &self.events_topic)
    }

    /// A group's or transactional id's name in this pipeline.
    #[must_use]
    pub fn prefixed(&self, name: &str) -> String {
        format!("{}{name}", self.topic_prefix)
    }
}
