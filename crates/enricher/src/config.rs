//! Flags of the enricher service.

use kafka::{KafkaConfig, Rebalancing};

/// What the enricher service can be told.
#[derive(clap::Args, Clone, Debug)]
pub struct Config {
    /// The cluster and its topics.
    #[command(flatten)]
    pub kafka: KafkaConfig,
    /// How partitions move when replicas come and go.
    #[arg(long, env = "WIKI_REBALANCE", value_enum, default_value = "cooperative")]
    pub rebalance: Rebalancing,
    /// Take the raw sequence as it goes on, once: the other half of the same option of ingest.
    #[arg(long, env = "WIKI_ACCEPT_LOST_HISTORY")]
    pub accept_lost_history: bool,
    /// End where Kafka does not answer at the start, instead of waiting for it.
    #[arg(long, env = "WIKI_REQUIRE_HEALTHY")]
    pub require_healthy: bool,
}
