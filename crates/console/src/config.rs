//! Flags of the console service.

use kafka::KafkaConfig;

/// What the console service can be told.
#[derive(clap::Args, Clone, Debug)]
pub struct Config {
    /// The cluster and its topics.
    #[command(flatten)]
    pub kafka: KafkaConfig,
    /// The sinks' consumer group.
    #[arg(long, env = "WIKI_GROUP", value_name = "GROUP", default_value = "wiki-sink")]
    pub group: String,
    /// The enrichers' consumer group.
    #[arg(long, env = "WIKI_ENRICHER_GROUP", value_name = "GROUP", default_value = "wiki-enricher")]
    pub enricher_group: String,
    /// Milliseconds between two looks at the groups.
    #[arg(long, env = "WIKI_LOOK_MS", value_name = "MS", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(100..=60_000))]
    pub look_ms: u64,
    /// Pages that may be open at once.
    #[arg(long, env = "WIKI_MAX_CLIENTS", value_name = "PAGES", default_value_t = 64)]
    pub max_clients: usize,
    /// Of them, from one address. Where a proxy stands before the console, all pages come from its address.
    #[arg(long, env = "WIKI_MAX_CLIENTS_OF_AN_ADDRESS", value_name = "PAGES", default_value_t = 16)]
    pub max_clients_of_an_address: usize,
    /// The compose files that the stack was started with, separated by colons: part of the commands that the page shows.
    #[arg(long, env = "WIKI_COMPOSE_FILE", value_name = "FILE:…", default_value = "")]
    pub compose_file: String,
    /// Where Grafana is for whoever opens the page: the figures link to their panels there.
    #[arg(long, env = "WIKI_GRAFANA_URL", value_name = "URL", default_value = "")]
    pub grafana_url: String,
    /// End where Kafka does not answer at the start, instead of waiting for it.
    #[arg(long, env = "WIKI_REQUIRE_HEALTHY")]
    pub require_healthy: bool,
}
